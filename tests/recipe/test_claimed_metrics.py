"""Metrics that claims may be about, against those that evaluations find."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.recipe.looks import is_evaluated
from labctl.recipe.recipe import load


@pytest.mark.slow
def test_every_metric_that_an_evaluation_finds_may_be_claimed(lab: Any) -> None:
    (run, _) = lab.train_here("tiny")
    found = [metric for metric in run.journal.last if is_evaluated(metric)]
    assert {metric.partition("/")[0] for metric in found} >= {"test", "train"}
    for metric in found:
        override = f"claims.one={{value: {metric}, at_least: 0}}"
        (claim,) = load(
            lab.project, lab.registry, "tiny", None, (override,)
        ).document.claims.values()
        assert metric in claim.metrics.values()
