"""Means, spreads and intervals over seeds. scipy is loaded when a quantile of t is needed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
MOST_SEEDS = 1000
"""More seeds than this are not counted."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Mean and spread of one value per seed."""

    mean: float
    """nan if one of the values is not finite."""
    sd: float | None
    """Of the sample, n - 1 in the denominator; None for a single value."""
    n: int


def summary(values: Sequence[float]) -> Summary:
    """Mean and standard deviation of at least one value."""
    n = len(values)
    if not all(map(math.isfinite, values)):
        return Summary(math.nan, math.nan if n > 1 else None, n)
    mean = math.fsum(values) / n
    if n < 2:
        return Summary(mean, None, n)
    return Summary(mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1)), n)


@dataclass(frozen=True, slots=True)
class Interval:
    """Where the mean lies, by Student's t: mean +- t * sd / sqrt(n)."""

    mean: float
    sd: float
    n: int
    low: float
    high: float


def interval(values: Sequence[float]) -> Interval | None:
    """The 95 % interval for the mean of `values`; None with fewer than two, or one not finite."""
    found = summary(values) if values else None
    if found is None or found.sd is None or not math.isfinite(found.mean):
        return None
    half = _quantile(found.n) * found.sd / math.sqrt(found.n)
    return Interval(found.mean, found.sd, found.n, found.mean - half, found.mean + half)


def seeds_needed(sd: float, distance: float) -> int | None:
    """Fewest seeds whose interval reaches no further than `distance` to either side.

    Assumes that `sd` stays as it is; None if more than 1000 would be needed.
    """
    for n in range(2, MOST_SEEDS + 1):
        if _quantile(n) * sd <= distance * math.sqrt(n):
            return n
    return None


def _quantile(n: int) -> float:
    """t for a two-sided interval of `CONFIDENCE` from n values."""
    from scipy.special import stdtrit

    return float(stdtrit(n - 1, (1 + CONFIDENCE) / 2))


def paired(
    ours: Mapping[int, float], theirs: Mapping[int, float]
) -> dict[int, tuple[float, float]]:
    """Both values by seed, of the seeds that both have, in order."""
    return {seed: (ours[seed], theirs[seed]) for seed in sorted(ours.keys() & theirs.keys())}
