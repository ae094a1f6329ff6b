"""The contract of every plugin, kept by the whole model and by its other ways of leaving out."""

from __future__ import annotations

import pytest

from labctl.testing.suite import PluginSuite


@pytest.mark.slow
class TestDendriticLiquid(PluginSuite):
    plugin = "dendritic_liquid"
    recipe = "dl_full"


@pytest.mark.slow
class TestRankedByAttention(TestDendriticLiquid):
    recipe = "dl_sparse"


@pytest.mark.slow
class TestPacked(TestDendriticLiquid):
    overrides = ("model.sparse.execution=packed", "model.dendrites.pool=logsumexp")


@pytest.mark.slow
class TestStem(TestDendriticLiquid):
    recipe = "dl_strong_conv"


@pytest.mark.slow
class TestExploring(TestDendriticLiquid):
    overrides = ("model.sparse.explore=0.2", "model.dropout=0.1")
