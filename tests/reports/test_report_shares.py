"""Shares of seeds, against scipy, definitions and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from labctl.reports.shares import Share, seeds_to_show, simes
from labctl.reports.statistics import LEVEL

shares = st.integers(1, 60).flatmap(lambda n: st.builds(Share, st.integers(0, n), st.just(n)))


@given(shares)
def test_p_is_that_of_the_exact_binomial_test(share: Share) -> None:
    above = stats.binomtest(share.yes, share.n, alternative="greater")
    below = stats.binomtest(share.yes, share.n, alternative="less")
    assert (share.p_above, share.p_below) == pytest.approx((above.pvalue, below.pvalue))


@given(shares)
def test_the_interval_is_that_of_clopper_and_pearson_and_says_what_the_tests_say(
    share: Share,
) -> None:
    expected = stats.binomtest(share.yes, share.n).proportion_ci(0.95, method="exact")
    low, high = share.interval()
    assert (low, high) == pytest.approx((expected.low, expected.high))
    assert (low > 0.5) == (2 * share.p_above <= LEVEL)
    assert (high < 0.5) == (2 * share.p_below <= LEVEL)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_simes_rejects_where_so_many_are_so_small(values: list[float]) -> None:
    p, n = simes(values), len(values)
    for level in (p * (1 + 1e-9) + 1e-12, p * (1 - 1e-9) - 1e-12):
        counts = [sum(v <= rank * level / n for v in values) >= rank for rank in range(1, n + 1)]
        assert any(counts) == (level > p)


def test_simes_of_equal_values_is_one_of_them_and_of_none_is_nothing() -> None:
    assert simes([0.03] * 5) == pytest.approx(0.03)
    assert simes([0.03, 1.0]) == pytest.approx(0.06)
    assert simes([]) == 1.0


@pytest.mark.parametrize(
    ("found", "level", "seeds"), [([1.0], 0.05, 5), ([1.0], 0.025, 6), ([1.0, 1.0, 1.0], 0.05, 5)]
)
def test_of_seeds_that_all_agree_as_many_are_needed_as_half_to_that_power(
    found: list[float], level: float, seeds: int
) -> None:
    assert seeds_to_show(found, [level] * len(found)) == seeds
    assert 0.5**seeds <= level < 0.5 ** (seeds - 1)


@pytest.mark.parametrize(
    ("found", "levels"), [([0.8], [0.025]), ([0.9, 0.75], [0.05, 0.05]), ([0.7], [0.01])]
)
def test_so_many_seeds_show_it_in_four_cases_of_five(
    found: list[float], levels: list[float]
) -> None:
    seeds = seeds_to_show(found, levels)
    assert seeds is not None

    def shown(n: int) -> float:
        rng = np.random.default_rng(n)
        counts = rng.binomial(n, found, size=(20000, len(found)))
        p = stats.binom.sf(counts - 1, n, 0.5)
        return float(np.mean((p <= levels).all(axis=1)))

    assert 0.78 < shown(seeds) < 0.95
    assert shown(seeds - 1) < 0.82


@pytest.mark.parametrize("share", [0.5, 0.2, 0.501])
def test_no_number_of_seeds_shows_what_is_not_there_or_hardly(share: float) -> None:
    assert seeds_to_show([0.9, share], [0.05, 0.05]) is None
