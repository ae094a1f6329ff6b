"""What a search looks for: metrics of runs, as large or as small as can be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Literal

from pydantic import field_validator

from labctl.registry.config import Config
from labctl.store.run import Run

FLOPS = "flops"
"""Executed by one run's training, from its ledger; every other name is a metric of its journal."""

Goal = Literal["maximize", "minimize"]


class Objective(Config):
    """One figure of a trial: its mean over the seeds."""

    metric: str
    """Name in the journal, such as `val/acc`, of which the last value counts; or `flops`."""
    goal: Goal

    @field_validator("metric")
    @classmethod
    def _is_known(cls, metric: str) -> str:
        if "/" not in metric and metric != FLOPS:
            raise ValueError(f"{metric} is neither a metric, such as val/acc, nor {FLOPS}")
        return metric


def missing(objectives: Sequence[Objective], run: Run) -> list[str]:
    """Metrics of the objectives for which a run that is done has no finite value."""
    return [one.metric for one in objectives if not math.isfinite(_value(run, one.metric))]


def values(objectives: Sequence[Objective], runs: Sequence[Run]) -> list[float]:
    """The objectives of the runs of one point, which are all done and have all metrics."""
    return [fmean(_value(run, one.metric) for run in runs) for one in objectives]


def _value(run: Run, metric: str) -> float:
    """NaN if it was not recorded."""
    if metric == FLOPS:
        return float(run.ledger.get("train_flops", math.nan))
    return run.journal.last.get(metric, math.nan)


def requires_validation(metric: str) -> ValueError | None:
    """Why nothing may be chosen by `metric`, unless the author insists."""
    if not metric.startswith("test/"):
        return None
    return ValueError(
        f"choosing by {metric} reports the luckiest point on the test set; carve a validation "
        f"part (data.val) and use val/{metric.removeprefix('test/')}, or say "
        "`allow_test_selection: true`"
    )
