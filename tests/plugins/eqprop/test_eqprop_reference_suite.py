"""The contract of every plugin, kept by the learners that differentiate the relaxation."""

from __future__ import annotations

import pytest

from labctl.testing import PluginSuite


@pytest.mark.slow
class TestBptt(PluginSuite):
    plugin = "eqprop"
    recipe = "eqprop_bptt"


@pytest.mark.slow
class TestImplicit(PluginSuite):
    plugin = "eqprop"
    recipe = "eqprop_implicit"
