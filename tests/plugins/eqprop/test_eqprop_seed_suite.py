"""The contract of every plugin, kept by the one-token system."""

from __future__ import annotations

import pytest

from labctl.testing.suite import PluginSuite


@pytest.mark.slow
class TestSeed(PluginSuite):
    plugin = "eqprop"
    recipe = "eqprop_seed_literal"


@pytest.mark.slow
class TestSeedFrozen(PluginSuite):
    plugin = "eqprop"
    recipe = "eqprop_seed_annealed_frozen"


@pytest.mark.slow
class TestSeedBackprop(PluginSuite):
    plugin = "eqprop"
    recipe = "eqprop_seed_backprop"
