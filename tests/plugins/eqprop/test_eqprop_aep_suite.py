"""The contract of every plugin, kept by the looped transformer and the rule that trains it."""

from __future__ import annotations

import pytest

from labctl.testing.suite import PluginSuite


@pytest.mark.slow
class TestAep(PluginSuite):
    plugin = "eqprop"
    recipe = "eqprop_aep"
