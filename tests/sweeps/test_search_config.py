"""What a search may ask, and what it says to those who ask otherwise."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.errors import UsageError
from labctl.recipe.check import Check
from labctl.recipe.source import Mark, parse, parse_value
from labctl.sweeps.search_config import SearchConfig
from labctl.sweeps.space import Choices, Range, holds, point_of

ACC = "objectives: [{metric: val/acc, goal: maximize}]"
BOTH = "objectives: [{metric: val/acc, goal: maximize}, {metric: flops, goal: minimize}]"
RATE = "space: {model.rate: {low: 0, high: 1}}"
TWO = "space: {model.rate: {low: 0, high: 1}, model.width: {low: 2, high: 8, integer: true}}"


def problems(*lines: str) -> str:
    """What is said of a `search:` block; empty if it is right."""
    tree = parse("\n".join(["trials: 3", *lines]) + "\n", "sweep.yaml")
    check = Check(tree, "the search")
    found = check.model(SearchConfig, tree.plain())
    assert (found is None) == bool(check.problems)
    return "\n".join(map(str, check.in_order))


@pytest.mark.parametrize(
    "lines",
    [
        (ACC, RATE),
        (ACC, TWO, "sampler: cmaes"),
        (BOTH, RATE, "sampler: gp"),
        (BOTH, RATE, "sampler: random", "pruner: none"),
        (ACC, RATE, "pruner: median"),
        (ACC, RATE, "pruner: {kind: hyperband, metric: val/loss, goal: minimize, warm_up: 25%}"),
        (ACC.replace("val/", "test/"), RATE, "allow_test_selection: true"),
        (ACC, "space: {a: {choices: [1, two, [3], {four: 4}, true, null]}}"),
        (ACC, "space: {a: {low: 0.1, high: 0.7, step: 0.2}}"),
        (ACC, "space: {a: {low: 1, high: 1000, integer: true, log: true}}"),
    ],
)
def test_searches_that_can_be_made(lines: tuple[str, ...]) -> None:
    assert problems(*lines) == ""


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ((ACC.replace("val/", "test/"), RATE), "the luckiest point on the test set; carve a val"),
        (
            (ACC, RATE, "pruner: {kind: median, metric: test/loss, goal: minimize}"),
            "choosing by test/loss",
        ),
        ((BOTH, TWO, "sampler: cmaes"), "cmaes takes one objective; for several use sampler: tpe"),
        ((BOTH, RATE, "pruner: median"), "write pruner: none, or keep one objective"),
        ((ACC, RATE, "sampler: cmaes"), "two fields or more"),
        (
            (ACC, "space: {a: {choices: [1, 2]}, b: {low: 0, high: 1}}", "sampler: cmaes"),
            "numbers only",
        ),
        (
            ("objectives: [{metric: flops, goal: minimize}]", RATE, "pruner: median"),
            "is no curve; give the pruner a metric",
        ),
        (("objectives: []", RATE), "objectives"),
        (
            ("objectives: [{metric: train_flops, goal: minimize}]", RATE),
            "train_flops is neither a metric, such as val/acc, nor flops",
        ),
        ((ACC.replace("[", "[{metric: val/acc, goal: minimize}, "), RATE), "is there twice"),
        ((ACC, RATE, "pruner: {kind: median, warm_up: 2ep}"), "a part of the budget"),
        ((ACC, RATE, "sampler: tpee"), "did you mean 'tpe'?"),
        ((ACC, "space: {a: {low: 1}}"), "sweep.yaml:3:9: space.a.high is missing"),
        ((ACC, "space: {a: {low: 1, hihg: 2}}"), "did you mean 'high'?"),
        ((ACC, "space: {a: {low: 2, high: 1}}"), "space.a: low 2 should be less than high 1"),
        ((ACC, "space: {a: {low: 0, high: 1, log: true}}"), "cannot begin at 0"),
        ((ACC, "space: {a: {low: 0, high: 9, log: true, integer: true}}"), "too small"),
        ((ACC, "space: {a: {low: 1, high: 9, log: true, step: 1}}"), "leave out"),
        ((ACC, "space: {a: {low: 0.5, high: 9, integer: true}}"), "low 0.5 is no integer"),
        ((ACC, "space: {a: {low: 0, high: 1, step: 0.3}}"), "do not reach 1"),
        ((ACC, "space: {a: {choices: [1]}}"), "nothing to choose"),
        ((ACC, "space: {a: {choices: [x, x]}}"), '"x" is there twice'),
        ((ACC, "space: {}"), "space"),
    ],
)
def test_searches_that_cannot_be_made(lines: tuple[str, ...], said: str) -> None:
    assert said in problems(*lines)


def made(space: dict[str, Any], **given: Any) -> SearchConfig:
    objectives = [{"metric": "val/acc", "goal": "maximize"}]
    asked = {"trials": 3, "objectives": objectives, "space": space, **given}
    return SearchConfig.model_validate_json(json.dumps(asked))


def test_short_names_mean_fields_of_the_recipe(toys: Any) -> None:
    asked = made({"rate": {"low": 0, "high": 1}, "heat": {"low": 1, "high": 2}})
    fitted = asked.fitted(toys.load("toy", "data.val=20"))
    assert list(fitted.space) == ["model.rate", "schedules.heat"]
    assert fitted.about != asked.about
    with pytest.raises(UsageError, match="no field 'weight_of_the_moon'"):
        made({"weight_of_the_moon": {"low": 0, "high": 1}}).fitted(toys.load("toy", "data.val=20"))
    with pytest.raises(UsageError, match="lr by a cosine schedule"):
        made({"lr": {"low": 0, "high": 1}}).fitted(toys.load("toy", "data.val=20"))
    twice = {"heat": {"low": 0, "high": 1}, "schedules.heat": {"low": 1, "high": 2}}
    with pytest.raises(UsageError, match=r"'heat' and 'schedules\.heat' are one field"):
        made(twice).fitted(toys.load("toy", "data.val=20"))


def test_a_field_of_whole_numbers_is_searched_over_whole_numbers(toys: Any) -> None:
    recipe = toys.load("toy", "data.val=20")
    fitted = made({"width": {"low": 2, "high": 8}, "rate": {"low": 0, "high": 1}}).fitted(recipe)
    width, rate = (fitted.space[path] for path in ("model.width", "model.rate"))
    assert isinstance(width, Range) and width.integer
    assert isinstance(rate, Range) and not rate.integer
    for odd, said in (
        ({"low": 1.5, "high": 3}, "low 1.5"),
        ({"low": 1, "high": 3, "step": 0.5}, "step 0.5"),
    ):
        with pytest.raises(UsageError, match=f"model.width takes whole numbers, not {said}"):
            made({"width": odd}).fitted(recipe)


def test_a_metric_that_no_evaluation_finds_is_refused_before_anything_is_trained(toys: Any) -> None:
    asked = SearchConfig.model_validate_json(
        json.dumps(
            {
                "trials": 3,
                "objectives": [{"metric": "val/accuracy", "goal": "maximize"}],
                "space": {"rate": {"low": 0, "high": 1}},
            }
        )
    )
    with pytest.raises(
        UsageError, match=r"an evaluation finds acc, loss\n.*did you mean 'val/acc'"
    ):
        asked.fitted(toys.load("toy", "data.val=20"))


def test_val_needs_a_validation_part(toys: Any) -> None:
    asked = made({"rate": {"low": 0, "high": 1}})
    with pytest.raises(UsageError, match=r"no run records val/acc\n.*data\.val=5000"):
        asked.fitted(toys.load())


def test_what_a_study_is_about(toys: Any) -> None:
    """Samplers, pruners and numbers of trials may change within a study; the question may not."""
    space = {"model.rate": {"low": 0, "high": 1}}
    asked = made(space)
    same = made(space, sampler="random", trials=9, sampler_seed=4, pruner="median")
    assert asked.about == same.about
    assert asked.about != made({"model.rate": {"low": 0, "high": 2}}).about
    lost = [{"metric": "val/loss", "goal": "minimize"}]
    assert asked.about != made(space, objectives=lost).about


@given(st.floats(1e-12, 1e12))
def test_a_number_is_written_as_it_is(value: float) -> None:
    """Bit for bit, as the recipe reads it: else a trial would mean another key each time."""
    text = Range(low=0.0, high=1e13).written(value)
    assert parse_value(text, Mark("")).plain() == value


@given(st.integers(-(10**14), 10**14))
def test_an_integer_stays_one(value: int) -> None:
    read = parse_value(Range(low=-1e15, high=1e15, integer=True).written(value), Mark("")).plain()
    assert read == value and isinstance(read, int)


def test_steps_are_decimal() -> None:
    part = Range(low=0.1, high=0.7, step=0.1)
    proposed = [0.1 + place * 0.1 for place in range(7)]
    assert [part.written(value) for value in proposed] == [f"0.{n}" for n in range(1, 8)]
    assert repr(proposed[2]) == "0.30000000000000004" and part.holds(proposed[2])


@given(
    st.one_of(
        st.booleans(),
        st.integers(-1000, 1000),
        st.none(),
        st.text("abc:#' \"\\-{on", max_size=6),
        st.lists(st.integers(0, 3), max_size=3),
    )
)
def test_a_choice_is_read_as_it_was_given(choice: Any) -> None:
    part = Choices(choices=(choice, ["something else"]))
    text = point_of({"a": part}, {"a": part.texts[0]})["a"]
    read = parse_value(text, Mark("")).plain()
    assert read == choice and type(read) is type(choice)


def test_points_that_lie_in_a_space() -> None:
    space = {
        "a": Range(low=0.1, high=0.7, step=0.2),
        "n": Range(low=1.0, high=4.0, integer=True),
        "c": Choices(choices=("x", "y")),
    }
    inside = {"a": 0.1 + 2 * 0.2, "n": 2, "c": '"x"'}
    assert holds(space, inside)
    for wrong in ({"a": 0.4}, {"a": 0.9}, {"n": 2.5}, {"n": 0}, {"c": '"z"'}, {"c": 1}):
        assert not holds(space, {**inside, **wrong}), wrong
    assert not holds(space, {"a": 0.5, "n": 2})
