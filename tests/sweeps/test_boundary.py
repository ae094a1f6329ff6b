"""What a boundary search reports, for outcomes whose boundaries are known."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from scipy import stats

from labctl.sweeps.bisection import BoundaryConfig, Trial, next_trials
from labctl.sweeps.boundary import Boundary, End, boundary
from labctl.sweeps.logistic import Crossing, crossing, wilson

Judge = Callable[[float, int], bool]

CONFIG = BoundaryConfig(low=1e-4, high=10)
SEEDS = range(5)


def searched(judge: Judge, seeds: Sequence[int] = SEEDS) -> list[Trial]:
    trials: list[Trial] = []
    while wanted := next_trials(CONFIG, seeds, trials):
        trials += [Trial(value, seed, judge(float(value), seed)) for value, seed in wanted]
    return trials


def found(judge: Judge, seeds: Sequence[int] = SEEDS) -> Boundary:
    return boundary(CONFIG, seeds, searched(judge, seeds))


def ends(end: End) -> tuple[float, float]:
    """The unstable and the stable value."""
    assert end.bracket is not None and end.reason == ""
    unstable, stable = end.bracket
    return float(unstable.value), float(stable.value)


def fit(end: End) -> Crossing:
    assert end.crossing is not None
    return end.crossing


def test_two_sharp_ends_are_found_to_within_the_ratio() -> None:
    result = found(lambda value, seed: 0.0031 < value < 1.23)
    unstable, stable = ends(result.low)
    assert unstable < 0.0031 < stable <= unstable * 1.05
    assert unstable <= fit(result.low).value <= stable
    unstable, stable = ends(result.high)
    assert stable < 1.23 < unstable <= stable * 1.05
    # All seeds agree, so nothing better than the bracket is known, and nothing worse.
    assert (fit(result.high).low, fit(result.high).high) == pytest.approx((stable, unstable))
    assert fit(result.high).is_separated
    assert result.is_monotone and result.missing == 0
    first, second, third = result.sentences()
    assert first == f"stable from {result.stable[0].value} to {result.stable[-1].value}"
    assert second.startswith("low end: between ") and "(0 of 5 stable)" in second
    assert "P(stable) = 0.5 at " in third and "95 % interval" in third


def test_an_end_beyond_the_range_is_not_made_up() -> None:
    result = found(lambda value, seed: value < 0.5)
    assert result.low.bracket is None and result.low.crossing is None
    assert result.low.sentences(0.5) == [
        "low end: none in the range, whose lowest value is stable: 0.0001 (5 of 5 stable); "
        "a lower `low` would look below it"
    ]
    unstable, stable = ends(result.high)
    assert stable < 0.5 < unstable


def test_all_stable() -> None:
    result = found(lambda value, seed: True)
    assert [end.bracket for end in (result.low, result.high)] == [None, None]
    assert "a higher `high` would look above it" in result.high.reason
    assert result.sentences()[0] == "stable from 0.0001 to 10"


def test_none_stable() -> None:
    result = found(lambda value, seed: value == 10 and seed < 2)
    assert result.stable == () and result.is_monotone
    assert result.sentences() == [
        "both ends: no value is stable, the best is 10 (2 of 5 stable); move `low` and `high`, or "
        "raise `points` if the stable values may lie within a factor 5.18"
    ]


def test_before_and_during_the_grid_nothing_is_claimed() -> None:
    assert boundary(CONFIG, SEEDS, []).sentences() == [
        "both ends: unknown until the coarse grid is finished",
        "not finished: 40 trials at least are to come",
    ]
    trials = searched(lambda value, seed: value < 0.5)[:35]
    result = boundary(CONFIG, SEEDS, trials)
    assert result.missing == 5 and not result.plain()["is_finished"]
    assert "unknown" in result.low.reason


def islands(value: float, seed: int) -> bool:
    return 0.001 < value < 0.02 or value > 0.1


def test_a_stable_range_in_two_pieces_is_noticed() -> None:
    result = found(islands)
    unstable, stable = ends(result.low)
    assert unstable < 0.1 < stable
    assert not result.is_monotone
    (other,) = result.others
    assert other.startswith("not monotone: unstable at 0.07197 (0 of 5 stable), ")
    assert other.endswith(f"between stable values 0.01389 and {stable:g}")
    assert "the ends given are those of the widest stable interval" in result.sentences()


def test_the_other_piece_has_no_say_in_where_this_end_lies() -> None:
    """One logistic through both pieces crosses at 0.009, where training is stable."""
    result = found(islands)
    unstable, stable = ends(result.low)
    assert (fit(result.low).low, fit(result.low).high) == pytest.approx((unstable, stable))
    everything = [(float(t.value), t.seed, t.is_stable) for t in searched(islands)]
    assert crossing(everything, is_rising=True).value < 0.03


def test_a_gap_that_few_seeds_may_show_by_chance_is_said_to_be_one() -> None:
    def judge(value: float, seed: int) -> bool:
        return seed < 2 if math.isclose(value, 0.01389) else value > 1e-3

    result = found(judge)
    (other,) = result.others
    assert other == (
        "not monotone: unstable at 0.01389 (2 of 5 stable) between stable values 0.002683 "
        f"and {result.stable[0].value}; so few seeds may also show that by chance"
    )
    low, high = wilson(2, 5)
    assert low < 0.5 < high
    # What may be chance is fitted along.
    inner = [tally for tally in result.tallies if tally.value <= result.stable[0].value]
    assert fit(result.low).n >= sum(tally.n for tally in inner)


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("low", [1e-3, 0.01])
@pytest.mark.parametrize("high", [5, 20, 100])
def test_the_crossing_lies_in_its_bracket_where_all_seeds_agree(
    number: int, low: float, high: float
) -> None:
    """So few seeds may show the other stretch by chance, but the fit through it crosses far off."""

    def judge(value: float) -> bool:
        return value <= 0.02 or 0.5 <= value <= 20

    config, seeds, trials = BoundaryConfig(low=low, high=high), range(number), list[Trial]()
    while wanted := next_trials(config, seeds, trials):
        trials += [Trial(value, seed, judge(float(value))) for value, seed in wanted]
    result = boundary(config, seeds, trials)
    assert not result.is_monotone
    for end in (result.low, result.high):
        if end.bracket is not None:
            first, last = sorted(ends(end))
            assert first <= fit(end).value <= last
    (end, *_) = (end for end in (result.low, result.high) if end.note)
    assert end.sentences(0.5)[1].startswith(f"{end.name} end: fitted without the stable values")


def test_a_fit_that_knows_nothing_gives_no_value() -> None:
    config = BoundaryConfig(low=0.01, high=1, points=3, ratio=10)
    trials = [Trial(Decimal(v), seed, (v, seed) == ("1", 1)) for v in ("0.01", "0.1", "1")
              for seed in (0, 1)]  # fmt: skip
    result = boundary(config, (0, 1), trials)
    assert result.low.crossing is None
    assert result.low.sentences(0.5) == [
        "low end: between 0.1 (0 of 2 stable) and 1 (1 of 2 stable); no value is given for "
        "P(stable) = 0.5: a logistic fit crosses outside these two, and no value tried is excluded"
    ]
    assert result.low.plain()["note"] == result.low.note


def test_all_trials_are_fitted_where_there_is_no_other_end() -> None:
    result = found(lambda value, seed: value < 0.5)
    assert fit(result.high).n == sum(tally.n for tally in result.tallies)
    assert result.high.used is None


def test_what_was_left_out_of_the_fit_is_not_said_to_be_excluded() -> None:
    result = found(lambda value, seed: 0.0031 < value < 1.23, seeds=[3])
    assert result.high.used is not None
    first, last = result.high.used
    assert result.tallies[0].value < first < result.stable[-1].value and last == 10
    assert f"95 % interval wider than {first:.4g} to 10 (" in result.high.sentences(0.5)[0]
    half = End(
        "high", result.high.bracket, "", replace(fit(result.high), high=2.5), (), "", (0.1, 10)
    )
    assert "95 % interval below 0.1 to 2.5 (" in half.sentences(0.5)[0]


def test_seeds_without_a_single_threshold_are_named() -> None:
    rough = {Decimal("0.01389"): (2, 4)}
    trials = searched(lambda value, seed: value < 0.5)
    trials = [
        Trial(t.value, t.seed, t.is_stable and t.seed not in rough.get(t.value, ())) for t in trials
    ]
    result = boundary(CONFIG, SEEDS, trials)
    assert result.high.wavering == (2, 4) and result.is_monotone
    _, outside, wavering = result.high.sentences(0.5)
    assert outside.startswith("high end: the fit crosses outside the two values")
    assert wavering.startswith("high end: with seeds 2, 4 training is unstable")
    assert found(lambda value, seed: value < 0.5 + seed / 10).high.wavering == ()


def test_one_seed_says_nothing_about_others() -> None:
    result = found(lambda value, seed: value < 0.5, seeds=[3])
    unstable, stable = ends(result.high)
    assert stable <= fit(result.high).value <= unstable
    assert result.high.sentences(0.5)[0].endswith(
        "to above all values tried (logistic fit, 14 trials of one seed, which say nothing about "
        "another)"
    )


@pytest.mark.parametrize(
    ("seeds", "said"),
    [(2, "of 2 seeds, too few to say how far others lie from them)"), (3, "of 3 seeds)")],
)
def test_two_seeds_say_little_about_others(seeds: int, said: str) -> None:
    result = found(lambda value, _: value > 0.1, range(seeds))
    (fitted,) = [text for text in result.sentences() if "logistic fit" in text]
    assert fitted.endswith(said)
    assert fit(result.low).plain()["seeds"] == seeds


def test_a_stable_range_of_one_value() -> None:
    config = BoundaryConfig(low=0.01, high=1, points=3, ratio=10)
    trials = [Trial(Decimal(v), s, v == "0.1") for v in ("0.01", "0.1", "1") for s in SEEDS]
    result = boundary(config, SEEDS, trials)
    assert result.sentences()[0] == "stable at 0.1"
    assert [fit(end).n for end in (result.low, result.high)] == [10, 10]


def test_trials_beyond_the_range_are_left_out() -> None:
    trials = searched(lambda value, seed: value < 0.5)
    beyond = [Trial(Decimal(20), seed, True) for seed in SEEDS]
    assert boundary(CONFIG, SEEDS, trials + beyond) == boundary(CONFIG, SEEDS, trials)


def test_as_json() -> None:
    result = found(islands)
    plain = json.loads(json.dumps(result.plain(), allow_nan=False))
    unstable, stable = ends(result.low)
    assert plain["low"]["bracket"] == {"unstable": unstable, "stable": stable}
    assert plain["low"]["crossing"]["n"] == fit(result.low).n
    assert plain["high"] == {
        "bracket": None, "reason": result.high.reason, "crossing": None, "wavering_seeds": [],
        "note": None,
    }  # fmt: skip
    assert plain["stable"] == [stable, 10]
    assert plain["is_monotone"] is False and plain["is_finished"] is True
    assert [value["n"] for value in plain["values"]] == [5] * len(result.tallies)
    assert plain["values"][0]["high"] == pytest.approx(wilson(0, 5)[1])
    assert plain["sentences"] == result.sentences()


TRUE_LOW, TRUE_HIGH, WIDTH = math.log(0.004), math.log(1.1), 0.12


def logistic(rng: np.random.Generator, own: float, seeds: int = len(SEEDS)) -> Judge:
    """Training whose P(stable) is logistic at both ends.

    `own` is the share of the variance that belongs to the seed: 1 if every seed has a threshold,
    0 if every trial is drawn afresh.
    """
    low, high = rng.logistic(scale=WIDTH * math.sqrt(own), size=(2, seeds))

    def judge(value: float, seed: int) -> bool:
        one, two = rng.logistic(scale=WIDTH * math.sqrt(1 - own), size=2)
        x = math.log(value)
        return bool(TRUE_LOW + low[seed] + one < x < TRUE_HIGH + high[seed] + two)

    return judge


@pytest.mark.slow
@pytest.mark.parametrize("own", [0.0, 1.0])
def test_brackets_lie_where_p_is_a_half(own: float) -> None:
    """The median of five draws of a logistic is within 2.5 widths of its own at 99 in 100."""
    rng = np.random.default_rng(5)
    results = [found(logistic(rng, own)) for _ in range(10)]
    for end, truth in (("low", TRUE_LOW), ("high", TRUE_HIGH)):
        away = [math.log(ends(getattr(result, end))[1]) - truth for result in results]
        assert max(map(abs, away)) < 3.5 * WIDTH
        fitted = [math.log(fit(getattr(result, end)).value) - truth for result in results]
        assert abs(np.mean(fitted)) < 3 * WIDTH * 1.8 / math.sqrt(len(SEEDS) * len(results))


def covers(found: Crossing, truth: float) -> bool:
    low, high = found.low or 0.0, found.high or math.inf
    return low <= math.exp(truth) <= high


@pytest.mark.slow
def test_of_three_seeds_that_are_alike_the_interval_covers_the_truth_as_often() -> None:
    rng, seeds = np.random.default_rng(12), range(3)
    hits = []
    for _ in range(100):
        result = boundary(CONFIG, seeds, searched(logistic(rng, 1.0, len(seeds)), seeds))
        for end, truth in ((result.low, TRUE_LOW), (result.high, TRUE_HIGH)):
            hits += [covers(end.crossing, truth)] if end.crossing else []
    assert len(hits) > 100
    assert sum(hits) >= stats.binom.ppf(0.001, len(hits), 0.95)


@pytest.mark.slow
@pytest.mark.parametrize("own", [0.0, 0.5, 1.0])
def test_the_interval_covers_the_truth_as_often_as_it_says(own: float) -> None:
    """95 of 100 times, whether the trials of a seed are independent or not.

    Were they taken for independent where every seed has a threshold of its own, it would be fewer.
    """
    rng = np.random.default_rng(11)
    hits, naive, widths = [], [], []
    for _ in range(150):
        trials = searched(logistic(rng, own))
        result = boundary(CONFIG, SEEDS, trials)
        for end, truth in ((result.low, TRUE_LOW), (result.high, TRUE_HIGH)):
            if end.crossing is None:
                continue
            hits.append(covers(fit(end), truth))
            widths.append(math.log((fit(end).high or math.inf) / (fit(end).low or 1e-300)))
        if own == 1 and result.high.crossing:
            middle = math.sqrt(result.stable[0].value * result.stable[-1].value)
            side = [(float(t.value), i, t.is_stable) for i, t in enumerate(trials)
                    if float(t.value) >= middle]  # fmt: skip
            naive.append(covers(crossing(side, is_rising=False), TRUE_HIGH))
    n = len(hits)
    assert n > 285, "hardly ever is there no fit"
    assert sum(hits) >= stats.binom.ppf(0.001, n, 0.95)
    assert np.median(widths) < 12 * WIDTH
    if own == 0:
        assert np.median(widths) < 4 * WIDTH, "no wider than it need be"
    if own == 1:
        assert np.mean(naive) < np.mean(hits) - 0.05
