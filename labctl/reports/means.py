"""Means over seeds of what rows have: of a metric, of its differences, of its ratios."""

from __future__ import annotations

import math

from .comparison import do_pair, values
from .quantity import PLANNED
from .resolution import step_of, step_of_both
from .rows import Row
from .statistics import Estimate, estimate, exact, paired, unpaired


def mean(row: Row, metric: str) -> Estimate | None:
    """None with fewer than two seeds, unless the plan decides the metric, or one not finite."""
    return _mean(list(values(row, metric).values()), metric, step_of(row, metric))


def difference(row: Row, other: Row, metric: str) -> Estimate | None:
    """The mean of the row less that of the other: by pairs of seeds, or by Welch."""
    steps = step_of(row, metric), step_of(other, metric)
    if are_paired(row, other, metric):
        differences = [ours - theirs for ours, theirs in pairs_of(row, other, metric)]
        return _mean(differences, metric, step_of_both(*steps))
    ours, theirs = (list(values(one, metric).values()) for one in (row, other))
    return unpaired(ours, theirs, steps)


def ratio(row: Row, other: Row, metric: str) -> Estimate | None:
    """The mean of the other's values over those of the row, by pairs of seeds."""
    pairs = pairs_of(row, other, metric)
    ours, theirs = step_of(row, metric), step_of(other, metric)
    steps = (step_of_both(theirs / abs(one), ours * abs(two) / one**2) for one, two in pairs if one)
    return _mean(ratios_of(pairs), metric, max(steps, default=0.0))


def ratios_of(pairs: list[tuple[float, float]]) -> list[float]:
    """The second of each pair over the first; nan where that is 0."""
    return [theirs / ours if ours else math.nan for ours, theirs in pairs]


def are_paired(row: Row, other: Row, metric: str) -> bool:
    """Whether the rows' values belong together in pairs."""
    return metric in PLANNED or do_pair(row, other)


def pairs_of(row: Row, other: Row, metric: str) -> list[tuple[float, float]]:
    """Values that belong together: by seed, or any if the plan decides them."""
    ours, theirs = values(row, metric), values(other, metric)
    if metric in PLANNED and ours and theirs:
        return [(next(iter(ours.values())), next(iter(theirs.values())))]
    return list(paired(ours, theirs).values())


def _mean(measured: list[float], metric: str, step: float) -> Estimate | None:
    if metric in PLANNED and measured and math.isfinite(measured[0]):
        return exact(measured[0])
    return estimate(measured, step)
