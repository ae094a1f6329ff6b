"""Claimed thresholds: errors of the verdicts where the runs of a seed go together, and words."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from labctl.reports.shares import Share
from labctl.reports.statistics import LEVEL, POWER
from labctl.reports.threshold import tails_of

VALUES = (0.20, 0.21, 0.22, 0.23, 0.24, 0.25)
EDGE = 0.23


def stability(rng: np.random.Generator, seeds: int, p: np.ndarray, own: float) -> np.ndarray:
    """Whether each of `seeds` seeds is stable at each value, with probability `p` each.

    `own` is the correlation between the draws of a seed at two values: 1 if a seed does the same
    at all of equal p; negative if it is the more likely to do otherwise at the next.
    """
    signs = np.where(np.arange(len(p)) % 2, np.sign(own) or 1.0, 1.0)
    of_seed = rng.standard_normal((seeds, 1)) * signs * abs(own) ** 0.5
    draws = of_seed + rng.standard_normal((seeds, len(p))) * (1 - abs(own)) ** 0.5
    return draws < stats.norm.ppf(p)


def verdicts(seeds: int, p: list[float], own: float, times: int = 600) -> list[float]:
    """For each of many sweeps, p of the verdict for the claim (below 0: against it)."""
    rng = np.random.default_rng(7)
    found = []
    for _ in range(times):
        counts = stability(rng, seeds, np.array(p), own).sum(axis=0)
        shares = {v: Share(int(n), seeds) for v, n in zip(VALUES, counts, strict=True)}
        below = {value: share for value, share in shares.items() if value < EDGE}
        above = {value: share for value, share in shares.items() if value >= EDGE}
        tails = tails_of(below, above)
        found.append(tails.least if tails.is_for else -tails.least)
    return found


def share(found: list[float], *, is_for: bool) -> float:
    """Of the sweeps in which the claim is decided that way."""
    return float(np.mean([abs(p) <= LEVEL and (p > 0) is is_for for p in found]))


MOST = stats.binom.ppf(0.999, 600, LEVEL) / 600


@pytest.mark.parametrize("seeds", [5, 6, 8, 12])
@pytest.mark.parametrize("own", [0.0, 0.5, 1.0, -1.0])
def test_a_true_claim_falls_in_five_of_a_hundred_sweeps_at_most(seeds: int, own: float) -> None:
    """Each value lies on the edge of what the claim allows, which is the worst for it."""
    assert share(verdicts(seeds, [0.5] * 6, own), is_for=False) <= MOST


@pytest.mark.parametrize("own", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("p", [[0.02] * 3 + [0.5] + [0.98] * 2, [0.5] * 3 + [1.0] * 3])
def test_a_false_claim_stands_in_five_of_a_hundred_sweeps_at_most(
    p: list[float], own: float
) -> None:
    """One value, or three, lie where it ceases to be true, the others where it is."""
    assert share(verdicts(8, p, own), is_for=True) <= MOST


def test_runs_of_a_seed_taken_for_independent_would_be_wrong_far_more_often() -> None:
    """Why seeds are counted: with every seed the same at all values, 24 runs are 8."""
    rng = np.random.default_rng(7)
    runs = [stability(rng, 8, np.full(6, 0.5), 1.0)[:, :3].sum() for _ in range(1000)]
    wrong = 2 * np.minimum(
        stats.binom.cdf(runs, 24, 0.5), stats.binom.sf(np.subtract(runs, 1), 24, 0.5)
    )
    assert np.mean(wrong <= LEVEL) > 0.2


@pytest.mark.parametrize("own", [0.0, 1.0])
def test_what_is_there_is_found(own: float) -> None:
    assert share(verdicts(8, [0.01] * 3 + [0.99] * 3, own), is_for=True) > POWER
    assert share(verdicts(8, [0.98] * 6, own), is_for=False) > POWER
    assert share(verdicts(8, [0.01] * 5 + [0.99], own), is_for=False) > POWER


def test_seeds_that_all_agree_decide_from_six_on() -> None:
    """By hand: 2 / 2^5 is above 0.05, 2 / 2^6 below; a claim that holds needs 1 / 2^5."""
    for seeds, is_decided in ((5, False), (6, True)):
        shares = dict.fromkeys(VALUES, Share(seeds, seeds))
        below = {value: shares[value] for value in VALUES[:3]}
        above = {value: shares[value] for value in VALUES[3:]}
        tails = tails_of(below, above)
        assert tails.broken == pytest.approx(2 / 2**seeds) and tails.kept == 1
        assert (tails.least <= LEVEL) is is_decided
    below = dict.fromkeys(VALUES[:3], Share(0, 5))
    assert tails_of(below, dict.fromkeys(VALUES[3:], Share(5, 5))).kept == pytest.approx(1 / 2**5)
