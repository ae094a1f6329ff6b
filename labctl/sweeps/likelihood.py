"""The penalised likelihood of `.logistic`: its maximum, its profile, its design effect.

Imported when something is fitted: it needs numpy and scipy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq, minimize_scalar
from scipy.special import expit, log_expit

Floats = npt.NDArray[np.float64]

SLOPES = 120
"""Slopes looked at, logarithmically spaced, before the best is refined."""
FLATTEST = 0.05
"""Smallest slope times the extent of all x: the fit is a constant."""
STEEPEST = 40.0
"""Largest slope times the smallest gap between two x: P is 0 or 1 to within 2e-9 in its middle."""
MOST_MIDDLES = 100
"""About so many crossings are looked at before the best is refined."""
PRECISION = 1e-6
"""Of x and of log slope."""


@dataclass(frozen=True, slots=True)
class Best:
    """Where the penalised likelihood is greatest."""

    x: float
    slope: float
    height: float
    """Its logarithm there."""


class Likelihood:
    """Of successes at points x, P(success) rising with x and crossing a level at some m.

    K distinct points; M values of m and of the slope at a time.
    """

    def __init__(self, xs: Sequence[float], successes: Sequence[bool], probability: float) -> None:
        self.x_K, index = np.unique(np.asarray(xs, dtype=np.float64), return_inverse=True)
        self.n_K = np.bincount(index).astype(np.float64)
        self.successes_K = np.bincount(index, weights=np.asarray(successes, dtype=np.float64))
        self.offset = math.log(probability / (1 - probability))
        gaps = np.diff(self.x_K)
        self.log_slopes = np.linspace(
            math.log(FLATTEST / gaps.sum()), math.log(STEEPEST / gaps.min()), SLOPES
        )
        # As fine as the trials are: the points themselves, and three between each two.
        within = self.x_K[:-1, None] + gaps[:, None] * np.array([0.0, 0.25, 0.5, 0.75])
        self.middles = np.append(within.ravel()[:: 1 + within.size // MOST_MIDDLES], self.x_K[-1])

    def height(self, middle_M: npt.ArrayLike, log_slope_M: npt.ArrayLike) -> Floats:
        """Logarithm of the penalised likelihood; -inf where the information vanishes."""
        middle_M1, slope_M1 = np.asarray(middle_M)[..., None], np.exp(log_slope_M)[..., None]
        logit_MK = self.offset + slope_M1 * (self.x_K - middle_M1)
        yes_MK, no_MK = log_expit(logit_MK), log_expit(-logit_MK)
        fit_M = (self.successes_K * yes_MK + (self.n_K - self.successes_K) * no_MK).sum(-1)
        weight_MK = self.n_K * np.exp(yes_MK + no_MK)
        sum_M = weight_MK.sum(-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            mean_M = (weight_MK * self.x_K).sum(-1) / sum_M
            spread_M = (weight_MK * (self.x_K - mean_M[..., None]) ** 2).sum(-1)
            penalised_M = fit_M + np.log(sum_M * spread_M) / 2
        return np.where(np.isfinite(penalised_M), penalised_M, -np.inf)

    def profile(self, middle: float) -> Best:
        """The best slope for a crossing at `middle`."""
        heights = self.height(middle, self.log_slopes)
        place = int(np.argmax(heights))
        found = minimize_scalar(
            lambda log_slope: -float(self.height(middle, log_slope)),
            bounds=_around(self.log_slopes, place), method="bounded",
            options={"xatol": PRECISION},
        )  # fmt: skip
        return Best(middle, math.exp(float(found.x)), -float(found.fun))

    def best(self) -> Best | None:
        """The greatest of all, its crossing between the lowest and the highest point; None if it
        only grows towards one of those, beyond which nothing is known, or towards a constant."""
        coarse = [self.height(middle, self.log_slopes).max() for middle in self.middles]
        found = minimize_scalar(
            lambda middle: -self.profile(middle).height,
            bounds=_around(self.middles, int(np.argmax(coarse))), method="bounded",
            options={"xatol": PRECISION},
        )  # fmt: skip
        best = self.profile(float(found.x))
        edges = [self.profile(float(end)).height for end in (self.middles[0], self.middles[-1])]
        edges.append(float(self.height(best.x, self.log_slopes[0])))
        return best if best.height > max(edges) else None

    def interval(self, best: Best, fall: float) -> tuple[float | None, float | None]:
        """How far twice the height stays within `fall` of the best.

        An end is None if it still does at the lowest, or highest, point.
        """

        def excess(middle: float) -> float:
            return 2 * (best.height - self.profile(middle).height) - fall

        def end(outward: list[float]) -> float | None:
            if excess(outward[-1]) <= 0:
                return None
            place = max(place for place, middle in enumerate(outward) if excess(middle) <= 0)
            return float(brentq(excess, outward[place], outward[place + 1], xtol=PRECISION))

        below, above = self.middles[self.middles < best.x], self.middles[self.middles > best.x]
        return end([best.x, *map(float, below[::-1])]), end([best.x, *map(float, above)])


def design_effect(
    xs: Sequence[float],
    seeds: Sequence[int],
    successes: Sequence[bool],
    probability: float,
    best: Best,
) -> float | None:
    """Variance of the crossing by sums over seeds, over that of independent trials.

    The sandwich estimate with S / (S - 1) for S seeds; None for a single one.
    """
    labels, index = np.unique(np.asarray(seeds), return_inverse=True)
    if len(labels) < 2:
        return None
    offset = math.log(probability / (1 - probability))
    away_N = np.asarray(xs, dtype=np.float64) - best.x
    p_N = expit(offset + best.slope * away_N)
    basis_N2 = np.stack([np.ones_like(away_N), away_N], axis=1)
    residual_N = np.asarray(successes, dtype=np.float64) - p_N
    scores_S2 = np.zeros((len(labels), 2))
    np.add.at(scores_S2, index, residual_N[:, None] * basis_N2)
    scores_S2 -= scores_S2.mean(axis=0)  # their sum is the pull of the penalty, which no seed has
    inverse_22 = np.linalg.inv(basis_N2.T @ ((p_N * (1 - p_N))[:, None] * basis_N2))
    # To first order the crossing moves as the intercept at its own place does, times -1 / slope.
    moved_S = scores_S2 @ inverse_22[:, 0]
    return float((moved_S**2).sum() * len(labels) / (len(labels) - 1) / inverse_22[0, 0])


def _around(grid: Floats, place: int) -> tuple[float, float]:
    """The neighbours of a place in an ordered grid, or itself at an end."""
    return float(grid[max(place - 1, 0)]), float(grid[min(place + 1, len(grid) - 1)])
