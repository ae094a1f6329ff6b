"""Wilson's interval and the fitted crossing, against scipy, closed forms, direct maximisation."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import minimize
from scipy.special import expit, logit

from labctl.sweeps.logistic import NORMAL, Crossing, crossing, wilson

Shots = list[tuple[float, int, bool]]

MIXED = {0.1: (0, 6), 0.2: (2, 6), 0.25: (2, 5), 0.3: (5, 8), 0.5: (5, 6), 1.0: (6, 6)}
"""Successes and trials by value; no value separates them."""


def shots(counts: dict[float, tuple[int, int]]) -> Shots:
    """Trials with so many successes, the first seeds succeeding at odd places, the last at even."""
    return [
        (value, seed if place % 2 else n - 1 - seed, seed < successes)
        for place, (value, (successes, n)) in enumerate(counts.items())
        for seed in range(n)
    ]


def penalised(x: np.ndarray, y: np.ndarray, a: float, b: float) -> float:
    """Firth's penalised log-likelihood of logit P = a + b x, by its definition."""
    p = expit(a + b * x)
    design = np.stack([np.ones_like(x), x], axis=1)
    information = design.T @ np.diag(p * (1 - p)) @ design
    return float(np.log(np.where(y, p, 1 - p)).sum() + np.linalg.slogdet(information)[1] / 2)


def profile(x: np.ndarray, y: np.ndarray, m: float, probability: float) -> float:
    """The best penalised log-likelihood of a fit that crosses `probability` at m."""
    offset = logit(probability)

    def loss(log_b: np.ndarray) -> float:
        b = float(np.exp(log_b[0]))
        return -penalised(x, y, offset - b * m, b)

    starts = (-1.0, 0.5, 1.5, 2.5)
    return -min(minimize(loss, [start], method="Nelder-Mead").fun for start in starts)


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_that_of_scipy(case: tuple[int, int]) -> None:
    expected = stats.binomtest(*case).proportion_ci(0.95, method="wilson")
    assert wilson(*case) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_wilson_without_trials_knows_nothing() -> None:
    assert wilson(0, 0) == (0, 1)
    with pytest.raises(ValueError, match="4 successes in 3 trials"):
        wilson(4, 3)


@pytest.mark.parametrize("probability", [0.5, 0.7])
@pytest.mark.parametrize(("first", "last"), [((1, 5), (4, 5)), ((2, 9), (7, 8)), ((1, 4), (3, 3))])
def test_with_two_values_the_penalty_adds_half_a_trial_to_every_cell(
    first: tuple[int, int], last: tuple[int, int], probability: float
) -> None:
    """Firth (1993), section 3: a saturated logistic model."""
    logits = [logit((successes + 0.5) / (n + 1)) for successes, n in (first, last)]
    slope = (logits[1] - logits[0]) / math.log(4)
    m = math.log(0.5) + (logit(probability) - logits[0]) / slope
    found = crossing(shots({0.5: first, 2.0: last}), is_rising=True, probability=probability)
    assert found.value == pytest.approx(math.exp(m), rel=1e-4)
    assert found.width == pytest.approx(1 / slope, rel=1e-3)


@pytest.mark.parametrize("probability", [0.5, 0.7])
def test_the_fit_maximises_the_penalised_likelihood(probability: float) -> None:
    trials = shots(MIXED)
    x, y = np.log([value for value, _, _ in trials]), np.array([ok for _, _, ok in trials])
    best = minimize(lambda ab: -penalised(x, y, *ab), [0.0, 1.0], method="BFGS")
    a, b = best.x
    found = crossing(trials, is_rising=True, probability=probability)
    assert math.log(found.value) == pytest.approx((logit(probability) - a) / b, abs=1e-4)
    assert found.width == pytest.approx(1 / b, rel=1e-3)
    assert found.n == len(trials)
    assert not found.is_separated


@pytest.mark.parametrize("probability", [0.5, 0.7])
def test_the_interval_ends_where_the_profile_has_fallen_far_enough(probability: float) -> None:
    trials = shots(MIXED)
    x, y = np.log([value for value, _, _ in trials]), np.array([ok for _, _, ok in trials])
    best = -minimize(lambda ab: -penalised(x, y, *ab), [0.0, 1.0], method="BFGS").fun
    found = crossing(trials, is_rising=True, probability=probability)
    assert found.low is not None and found.high is not None and found.design_effect is not None
    allowed = stats.chi2.ppf(0.95, 1) * max(1.0, found.design_effect)
    for end in (found.low, found.high):
        fall = 2 * (best - profile(x, y, math.log(end), probability))
        assert fall == pytest.approx(allowed, rel=1e-3)
    assert found.low < found.value < found.high


def test_the_design_effect_is_the_sandwich_over_the_information() -> None:
    trials = shots(MIXED)
    found = crossing(trials, is_rising=True)
    x = np.log([value for value, _, _ in trials])
    y = np.array([ok for _, _, ok in trials], dtype=float)
    b, m = 1 / found.width, math.log(found.value)
    p = expit(b * (x - m))
    # In the parameters (m, slope) themselves: gradients of every trial's log-likelihood.
    gradients = (y - p)[:, None] * np.stack([np.full_like(x, -b), x - m], axis=1)
    jacobian = np.stack([np.full_like(x, -b), x - m], axis=1)
    information = jacobian.T @ np.diag(p * (1 - p)) @ jacobian
    seeds = sorted({seed for _, seed, _ in trials})
    of_seed = np.array([
        gradients[[seed == other for _, other, _ in trials]].sum(axis=0) for seed in seeds
    ])  # fmt: skip
    covariance = np.cov(of_seed.T) * len(seeds)
    sandwich = np.linalg.inv(information) @ covariance @ np.linalg.inv(information)
    expected = sandwich[0, 0] / np.linalg.inv(information)[0, 0]
    assert found.design_effect == pytest.approx(expected, rel=1e-3)


def test_a_trial_told_twice_widens_nothing_but_the_design_effect() -> None:
    """Copies of a seed's trials carry no knowledge; the interval must not shrink by sqrt(2)."""
    rng = np.random.default_rng(0)
    thresholds = rng.logistic(scale=0.5, size=40)
    once: Shots = [
        (math.exp(x), seed, bool(x > thresholds[seed]))
        for x in np.linspace(-2, 2, 9)
        for seed in range(40)
    ]
    first, second = crossing(once, is_rising=True), crossing(once * 2, is_rising=True)
    assert first.design_effect is not None and second.design_effect is not None
    assert second.design_effect == pytest.approx(2 * first.design_effect, rel=0.05)
    assert width(second) == pytest.approx(width(first), rel=0.05)
    apart = crossing(
        [(value, place, ok) for place, (value, _, ok) in enumerate(once)], is_rising=True
    )
    assert width(apart) < 0.7 * width(first)


def width(found: Crossing) -> float:
    assert found.low is not None and found.high is not None
    return math.log(found.high / found.low)


@pytest.mark.parametrize(("counts", "is_bounded"), [((5, 5), True), ((1, 1), False)])
def test_separated_trials_leave_at_least_the_gap(counts: tuple[int, int], is_bounded: bool) -> None:
    values = (0.01, 0.1, 0.3, 0.33, 0.5, 1.0)
    trials = shots({value: (counts[0] * (value > 0.31), counts[1]) for value in values})
    found = crossing(trials, is_rising=True)
    assert found.is_separated
    assert found.value == pytest.approx(math.sqrt(0.3 * 0.33))
    assert found.low is None or found.low <= 0.3 * (1 + 1e-9)
    assert found.high is None or found.high >= 0.33 * (1 - 1e-9)
    assert (found.low is not None and found.high is not None) == is_bounded


def test_of_a_single_seed_the_design_effect_is_unknown() -> None:
    found = crossing([(value, 7, value > 0.4) for value in (0.1, 0.3, 0.5, 0.9)], is_rising=True)
    assert found.design_effect is None


@pytest.mark.parametrize("change", [lambda v: 1 / v, lambda v: 8 / v])
def test_a_falling_probability_is_the_mirror_image(change: Callable[[float], float]) -> None:
    trials = shots(MIXED)
    up = crossing(trials, is_rising=True)
    down = crossing([(change(value), seed, ok) for value, seed, ok in trials], is_rising=False)
    assert up.low is not None and up.high is not None
    assert down.value == pytest.approx(change(up.value), rel=1e-4)
    assert (down.low, down.high) == pytest.approx((change(up.high), change(up.low)), rel=1e-4)


def test_trials_that_run_the_wrong_way_cross_nowhere() -> None:
    found = crossing([(value, seed, value < 0.4) for value in (0.1, 0.3, 0.5, 0.9)
                      for seed in range(5)], is_rising=True)  # fmt: skip
    assert found is None


def test_the_end_of_the_values_is_no_crossing() -> None:
    unstable = (0.027, 0.139, 0.316, 0.477, 0.489)
    values = (0.001, 0.005, *unstable, 0.502, 0.529, 0.72, 3.7)
    trials = [(value, seed, value not in unstable) for value in values for seed in range(3)]
    assert crossing(trials, is_rising=True) is None


@pytest.mark.parametrize(
    "trials",
    [[], [(1.0, 0, True), (1.0, 1, False)], [(1.0, 0, True), (2.0, 0, True)], [(1.0, 0, False)]],
)
def test_nothing_crosses_without_two_values_and_two_outcomes(trials: Sequence[tuple]) -> None:
    with pytest.raises(ValueError, match="two values, a success and a failure"):
        crossing(trials, is_rising=True)


def test_the_quantile_is_that_of_the_normal_distribution() -> None:
    assert pytest.approx(stats.norm.ppf(0.975)) == NORMAL


def test_many_values_are_fitted_too() -> None:
    """An earlier sweep may have hundreds; the first and last of them still bound the search."""
    rng = np.random.default_rng(1)
    values = np.geomspace(0.01, 100, 300)
    trials = [(float(v), 0, bool(rng.random() < v**2 / (1 + v**2))) for v in values]
    found = crossing(trials, is_rising=True)
    assert found.low is not None and found.high is not None
    assert found.low < 1 < found.high
    assert found.width == pytest.approx(0.5, rel=0.3)


def test_scipy_is_loaded_by_a_fit_alone() -> None:
    code = (
        "import sys, labctl.sweeps.boundary, labctl.sweeps.logistic; "
        "print([m for m in ('scipy', 'numpy', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
