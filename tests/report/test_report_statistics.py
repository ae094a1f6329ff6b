"""Figures over seeds, against numpy and scipy's own distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from labctl.report.statistics import interval, paired, seeds_needed, summary

values = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20)


@given(values)
def test_mean_and_sd_are_those_of_the_sample(sample: list[float]) -> None:
    found = summary(sample)
    assert found.n == len(sample)
    assert found.mean == pytest.approx(np.mean(sample), rel=1e-9, abs=1e-6)
    assert found.sd == pytest.approx(np.std(sample, ddof=1), rel=1e-9, abs=1e-6)


def test_one_value_has_no_spread() -> None:
    assert summary([3.5]).mean == 3.5
    assert summary([3.5]).sd is None
    assert interval([3.5]) is None


def test_no_value_has_no_interval() -> None:
    assert interval([]) is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_not_averaged_away(bad: float) -> None:
    found = summary([1.0, bad, 2.0])
    assert math.isnan(found.mean)
    assert found.n == 3
    assert interval([1.0, bad, 2.0]) is None


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=12))
def test_interval_is_that_of_the_t_distribution(sample: list[float]) -> None:
    found = interval(sample)
    assert found is not None
    half = stats.t.ppf(0.975, len(sample) - 1) * np.std(sample, ddof=1) / math.sqrt(len(sample))
    assert found.low == pytest.approx(np.mean(sample) - half, rel=1e-9, abs=1e-9)
    assert found.high == pytest.approx(np.mean(sample) + half, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("sd", "distance"), [(0.22, 0.3), (0.22, 0.05), (1.0, 10.0), (0.5, 0.02)])
def test_the_seeds_needed_suffice_and_one_fewer_does_not(sd: float, distance: float) -> None:
    def half_width(n: int) -> float:
        return float(stats.t.ppf(0.975, n - 1) * sd / math.sqrt(n))

    needed = seeds_needed(sd, distance)
    if half_width(1000) > distance:
        assert needed is None
        return
    assert needed is not None
    assert half_width(needed) <= distance
    assert needed == 2 or half_width(needed - 1) > distance


def test_only_seeds_that_both_have_are_paired() -> None:
    assert paired({2: 1.0, 0: 3.0}, {0: 4.0, 2: 5.0, 7: 6.0}) == {0: (3.0, 4.0), 2: (1.0, 5.0)}
