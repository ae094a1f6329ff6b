"""The contract of every plugin, kept by the energy transformer under equilibrium propagation."""

from __future__ import annotations

import pytest

from labctl.testing.suite import PluginSuite

FEW = (
    'measure.training_memory={"steps": [2, 4], "widths": [16], "batch": 4, "tokens": 4, '
    '"repeats": 1, "impossible": null}',
    'measure.gradient_equivalence={"samples": 4, "betas": [0.05]}',
)
"""Every measurement of the plugin is taken; these are meant for a GPU."""


@pytest.mark.slow
class TestEqProp(PluginSuite):
    plugin = "eqprop"
    recipe = "eqprop_mnist"
    overrides = ("learner.probe.samples=8", *FEW)


@pytest.mark.slow
class TestEqPropRandomSign(TestEqProp):
    recipe = "eqprop_mean"
    overrides = ("learner.estimator=random_sign", "model.dropout=0.1", *FEW)
