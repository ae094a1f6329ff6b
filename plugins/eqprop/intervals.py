"""Rank correlations and differences of means, each with a 95 % interval."""

from __future__ import annotations

from dataclasses import dataclass
from math import atanh, sqrt, tanh
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]
"""One number per example, (n,)."""

_NORMAL = 1.959964
"""Quantile of the normal distribution for 95 %."""
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Found:
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float


def spearman(a: Values, b: Values) -> Found | None:
    """Rank correlation, with Fisher's interval as corrected by Bonett and Wright (2000).

    Of the examples for which both are numbers. None if there are fewer than four of them, or either
    does not vary: there is no correlation.
    """
    known = np.isfinite(a) & np.isfinite(b)
    a, b = a[known], b[known]
    if len(a) < 4 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    rho = float(np.clip(np.corrcoef(_ranks(a), _ranks(b))[0, 1], -1, 1))
    if abs(rho) == 1:
        return Found(rho, rho, rho)
    spread = _NORMAL * sqrt((1 + rho**2 / 2) / (len(a) - 3))
    return Found(rho, tanh(atanh(rho) - spread), tanh(atanh(rho) + spread))


def difference_of_means(a: Values, b: Values, seed: int) -> Found | None:
    """mean(a) - mean(b), with the bootstrap's percentile interval (Efron, 1979).

    None where either is empty.
    """
    if not len(a) or not len(b):
        return None
    draws = np.random.default_rng(seed)
    means = [
        [float(part[draws.integers(len(part), size=len(part))].mean()) for _ in range(RESAMPLES)]
        for part in (a, b)
    ]
    low, high = np.quantile(np.array(means[0]) - np.array(means[1]), [0.025, 0.975])
    return Found(float(a.mean() - b.mean()), float(low), float(high))


def _ranks(values: Values) -> Values:
    """Places in ascending order, from 1; equal values share the mean of theirs."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    shared: Values = (np.cumsum(counts) - (counts - 1) / 2)[group]
    return shared
