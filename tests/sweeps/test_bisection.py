"""Which trials a boundary search asks for, whatever becomes of them."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Sequence
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from labctl.sweeps.bisection import (
    ENDS,
    BoundaryConfig,
    Trial,
    grid,
    most_trials,
    next_trials,
    survey,
)

Judge = Callable[[Decimal, int], bool]
Key = tuple[Decimal, int]


def searched(
    config: BoundaryConfig, seeds: Sequence[int], judge: Judge, begun: Sequence[Trial] = ()
) -> list[Trial]:
    """The finished trials of a whole search that goes on from those that it began with."""
    trials = list(begun)
    while wanted := next_trials(config, seeds, trials):
        trials += [Trial(value, seed, judge(value, seed)) for value, seed in wanted]
    return trials


def keys(trials: Sequence[Trial]) -> set[Key]:
    return {(trial.value, trial.seed) for trial in trials}


@st.composite
def configs(draw: st.DrawFn) -> BoundaryConfig:
    digits = draw(st.integers(2, 6))
    low = draw(st.floats(1e-6, 10))
    return BoundaryConfig(
        low=low,
        high=low * draw(st.floats(1.5, 1e6)),
        points=draw(st.integers(3, 12)),
        digits=digits,
        ratio=1 + 2 * 10.0 ** (1 - digits) * draw(st.floats(1.0001, 50)),
        probability=draw(st.floats(0.05, 0.95)),
    )


@st.composite
def judges(draw: st.DrawFn) -> Judge:
    """Any outcomes at all, or a stable interval whose ends depend on the seed."""
    salt = draw(st.integers(0, 10**9))

    def chance(*key: object) -> float:
        return int(hashlib.sha256(repr((salt, *key)).encode()).hexdigest()[:12], 16) / 16**12

    if draw(st.booleans()):
        share = draw(st.floats(0, 1))
        return lambda value, seed: chance(value.normalize(), seed) < share
    low, high = (draw(st.floats(-14, 14)) for _ in ENDS)
    return lambda value, seed: low + chance(seed) < math.log(value) < high + chance(seed)


SEEDS = st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True)


@given(configs(), SEEDS, judges())
def test_a_search_ends_in_time_and_stays_in_its_range(
    config: BoundaryConfig, seeds: list[int], judge: Judge
) -> None:
    trials: list[Trial] = []
    while wanted := next_trials(config, seeds, trials):
        assert len(set(wanted)) == len(wanted)
        assert not set(wanted) & keys(trials)
        for value, seed in wanted:
            assert Decimal(str(config.low)) <= value <= Decimal(str(config.high))
            assert seed in seeds
            if float(value) not in (config.low, config.high):
                assert len(value.normalize().as_tuple().digits) <= config.digits
        trials += [Trial(value, seed, judge(value, seed)) for value, seed in wanted]
        assert len(trials) <= most_trials(config, seeds)
    found = survey(config, seeds, trials)
    for end in ENDS:
        if bracket := found.bracket(end):
            unstable, stable = bracket
            near, far = sorted((unstable.value, stable.value))
            assert not unstable.is_stable and stable.is_stable
            assert float(far / near) <= config.ratio
            assert not [t for t in found.tallies if near < t.value < far], "neighbours"


@settings(max_examples=60)
@given(configs(), SEEDS, judges(), st.randoms(use_true_random=False))
def test_a_search_goes_on_where_it_was_killed(
    config: BoundaryConfig, seeds: list[int], judge: Judge, rng: random.Random
) -> None:
    whole = searched(config, seeds, judge)
    kept = whole[: rng.randint(0, len(whole))]
    assert keys(searched(config, seeds, judge, kept)) == keys(whole)


@pytest.mark.slow
@settings(max_examples=60)
@given(configs(), SEEDS, judges(), st.randoms(use_true_random=False))
def test_the_order_in_which_trials_finish_changes_nothing(
    config: BoundaryConfig, seeds: list[int], judge: Judge, rng: random.Random
) -> None:
    trials: list[Trial] = []
    while wanted := next_trials(config, seeds, trials):
        finished = rng.sample(wanted, rng.randint(1, len(wanted)))
        trials += [Trial(value, seed, judge(value, seed)) for value, seed in finished]
        rng.shuffle(trials)
    assert keys(trials) == keys(searched(config, seeds, judge))


def test_the_grid_comes_first_with_every_seed() -> None:
    config = BoundaryConfig(low=0.001, high=1, points=4)
    assert grid(config) == (Decimal("0.001"), Decimal("0.01"), Decimal("0.1"), Decimal(1))
    wanted = next_trials(config, (3, 5), ())
    assert wanted == [(value, seed) for value in grid(config) for seed in (3, 5)]
    done = [Trial(*key, is_stable=True) for key in wanted[1:]]
    assert next_trials(config, (3, 5), done) == wanted[:1]


def test_both_ends_are_halved_at_once_in_the_logarithm() -> None:
    config = BoundaryConfig(low=0.001, high=1, points=4)
    trials = [Trial(value, 0, Decimal("0.005") < value < Decimal("0.5")) for value in grid(config)]
    # sqrt(0.001 * 0.01) and sqrt(0.1 * 1)
    assert next_trials(config, [0], trials) == [(Decimal("0.003162"), 0), (Decimal("0.3162"), 0)]


@pytest.mark.parametrize("is_stable", [True, False])
def test_a_search_without_an_end_stops_after_the_grid(is_stable: bool) -> None:
    config = BoundaryConfig(low=0.001, high=1)
    assert len(searched(config, range(5), lambda value, seed: is_stable)) == 40


def test_a_search_takes_as_many_trials_as_halvings_need() -> None:
    config = BoundaryConfig(low=1e-4, high=10)
    steps = math.ceil(math.log2(math.log(1e5) / 7 / math.log(1.05)))
    trials = searched(config, range(5), lambda value, seed: 0.002 < value < 0.7)
    assert len(trials) <= most_trials(config, range(5)) == (8 + 2 * steps) * 5


@given(st.integers(1, 50), st.integers(1, 3000), st.integers(3, 12), st.integers(0, 3100))
def test_whole_numbers_are_halved_until_neighbours(
    low: int, width: int, points: int, edge: int
) -> None:
    config = BoundaryConfig(low=low, high=low + width, points=points, ratio=1.002, integer=True)
    trials = searched(config, [0], lambda value, seed: value < edge)
    assert all(trial.value == int(trial.value) for trial in trials)
    assert len(trials) <= most_trials(config, [0])
    bracket = survey(config, [0], trials).bracket("high")
    assert (bracket is not None) == (low < edge <= low + width)
    if bracket is not None:
        unstable, stable = (int(tally.value) for tally in bracket)
        assert stable < edge <= unstable
        assert unstable == stable + 1 or unstable <= 1.002 * stable


def test_the_widest_stable_interval_is_the_one_whose_ends_are_sought() -> None:
    config = BoundaryConfig(low=0.01, high=100, points=9)

    def judge(value: Decimal, seed: int) -> bool:
        return value < Decimal("0.05") or Decimal("0.2") < value < Decimal("50")

    wanted = next_trials(config, [0], [Trial(value, 0, judge(value, 0)) for value in grid(config)])
    assert wanted == [(Decimal("0.1778"), 0), (Decimal("56.23"), 0)]


def test_trials_of_an_earlier_sweep_count() -> None:
    config = BoundaryConfig(low=0.01, high=1, points=3)
    seeds = (0, 1)
    whole = searched(config, seeds, lambda value, seed: value < Decimal("0.4"))
    earlier = [Trial(Decimal(v), s, v < "0.4") for v in ("0.39", "0.401") for s in seeds]
    fewer = searched(config, seeds, lambda value, seed: value < Decimal("0.4"), earlier)
    assert len(fewer) - len(earlier) == 6 < len(whole)
    unstable, stable = survey(config, seeds, fewer).bracket("high") or pytest.fail("no end")
    assert (unstable.value, stable.value) == (Decimal("0.401"), Decimal("0.39"))


def test_a_value_that_not_all_seeds_have_tried_decides_nothing() -> None:
    config = BoundaryConfig(low=0.01, high=1, points=3)
    trials = [Trial(v, s, v < Decimal("0.4")) for v in grid(config) for s in (0, 1)]
    alone = Trial(Decimal("0.39"), 0, True)
    assert next_trials(config, (0, 1), [*trials, alone]) == next_trials(config, (0, 1), trials)
    wanted = next_trials(config, (0, 1), trials)
    half = [*trials, Trial(*wanted[0], is_stable=True)]
    assert next_trials(config, (0, 1), half) == wanted[1:]


def test_trials_outside_the_range_and_of_other_seeds() -> None:
    config = BoundaryConfig(low=0.01, high=1, points=3)
    trials = [Trial(value, 0, True) for value in grid(config)]
    assert next_trials(config, [0], [*trials, Trial(Decimal(2), 0, False)]) == []
    others = [Trial(Decimal(1), seed, False) for seed in (7, 8)]
    (tally,) = [t for t in survey(config, [0], trials + others).tallies if t.value == 1]
    assert (tally.stable, tally.n, tally.is_stable) == (1, 3, False)


@pytest.mark.parametrize(("stable", "is_stable"), [(11, True), (10, False)])
def test_a_value_is_stable_at_the_very_share_that_is_asked_for(
    stable: int, is_stable: bool
) -> None:
    """0.55 * 20 is more than 11 in floating point."""
    config = BoundaryConfig(low=0.01, high=1, points=3, probability=0.55)
    trials = [Trial(Decimal("0.1"), seed, seed < stable) for seed in range(20)]
    (tally,) = survey(config, range(20), trials).tallies
    assert tally.is_stable is is_stable


def test_the_last_of_two_answers_counts() -> None:
    config = BoundaryConfig(low=0.01, high=1, points=3)
    trials = [Trial(Decimal("0.1"), 0, True), Trial(Decimal("0.10"), 0, False)]
    (tally,) = survey(config, [0], trials).tallies
    assert (tally.stable, tally.n) == (0, 1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"low": 1.0, "high": 1.0}, "low 1 must be below high 1"),
        ({"low": 0.1, "high": 1.0, "ratio": 1.001}, "raise ratio to 1.002, or digits"),
        ({"low": 0.0, "high": 1.0}, "greater than 0"),
        ({"low": 0.1, "high": 1.0, "points": 2}, "greater than or equal to 3"),
    ],
)
def test_a_range_that_cannot_be_searched(fields: dict[str, float], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        BoundaryConfig.model_validate(fields)
