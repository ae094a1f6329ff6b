"""Predicates over metrics: what parses, what it means, what is said of what does not parse."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.recipe.predicate import Number, Predicate, Watch
from labctl.recipe.times import Clock, Time


def met(text: str, *records: tuple[int, dict[str, float]]) -> list[bool]:
    """Whether the predicate is true after each record."""
    watch = Watch(Predicate.parse(text).resolved(Clock(1000, 100)))
    return [watch.note(step, values) for step, values in records]


def accuracies(*values: float) -> list[tuple[int, dict[str, float]]]:
    return [(100 * n, {"test/acc": value}) for n, value in enumerate(values, 1)]


def test_a_fall_below_the_best_counts_only_when_it_lasts() -> None:
    rule = "test/acc < max(test/acc) - 10% for 2"
    assert met(rule, *accuracies(0.5, 0.9, 0.75, 0.85, 0.79, 0.7)) == [False] * 5 + [True]
    # Exactly ten points below is not below.
    assert met(rule, *accuracies(0.5, 0.375, 0.375)) == [False, False, True]
    assert met("test/acc < max(test/acc) - 0.125", *accuracies(0.5, 0.375)) == [False, False]


def test_after_leaves_out_what_came_before() -> None:
    rule = "test/acc < 20% after 3ep"
    assert met(rule, *accuracies(0.1, 0.1, 0.1, 0.1)) == [False, False, False, True]
    assert met("test/acc < 20% for 2 after 10%", *accuracies(0.1, 0.1, 0.1)) == [False, False, True]


def test_and_binds_closer_than_or() -> None:
    rule = "a > 1 or b > 1 and c > 1"
    assert met(rule, (1, {"a": 0, "b": 2, "c": 0})) == [False]
    assert met(rule, (1, {"a": 2, "b": 0, "c": 0})) == [True]
    assert met(rule, (1, {"a": 0, "b": 2, "c": 2})) == [True]


def test_metrics_of_different_records_meet() -> None:
    rule = "train/acc - test/acc > 0.5"
    records = [(1, {"train/acc": 0.9}), (2, {"test/acc": 0.3}), (3, {"test/acc": 0.5})]
    assert met(rule, *records) == [False, True, False]
    assert met("a < 1", (1, {"b": 0.0})) == [False]


def test_nothing_compares_with_nan() -> None:
    assert met("a < 1 or a >= 1", (1, {"a": math.nan})) == [False]
    # It is no largest value either, neither first nor later.
    fell = "a < max(a) - 0.5"
    assert met(fell, *enumerate({"a": a} for a in (math.nan, 1.0, math.nan, 0.1))) == [
        False, False, False, True,
    ]  # fmt: skip


def test_arithmetic_has_its_usual_order() -> None:
    assert met("a > 2 * b + 1", (1, {"a": 7.5, "b": 3})) == [True]
    assert met("a > 2 * (b + 1)", (1, {"a": 7.5, "b": 3})) == [False]
    assert met("a - 1 - 1 > -1e-1", (1, {"a": 2})) == [True]
    assert met("first(a) > min(a) + 1", (1, {"a": 3}), (2, {"a": 1}), (3, {"a": 5})) == [
        False, True, True,
    ]  # fmt: skip


def test_the_text_of_a_predicate_is_the_same_predicate() -> None:
    text = "test/acc < max(test/acc) - 10% for 2 after 3ep and x * 2 > 1 or first(y) <= min(y)"
    predicate = Predicate.parse(text)
    assert Predicate.parse(str(predicate)) == predicate
    assert predicate.metrics == {"test/acc", "x", "y"}


NUMBERS = st.sampled_from(["3", "0.5", ".5", "5.", "1e-3", "1E+4", "1_000", "50_000.5", "12.5%"])
TIMES = st.tuples(
    st.sampled_from(["3", "0.5", ".5", "1e3", "1_000", "1e-05"]),
    st.sampled_from(["ep", " ep", "step", "%", "Mtok", " ktok"]),
).map("".join)


@given(NUMBERS, TIMES, st.integers(1, 3))
def test_numbers_and_times_are_written_here_as_elsewhere(number: str, time: str, n: int) -> None:
    predicate = Predicate.parse(f"x < {number} for {n} after {time} and y > -{number}")
    assert Predicate.parse(str(predicate)) == predicate
    value = float(number.rstrip("%").replace("_", "")) / (100 if "%" in number else 1)
    first, second = predicate.comparisons
    assert first.right == Number(value) and second.right == Number(-value)
    assert first.after == Time.parse(time) and first.times == n


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.integers(1, 4), st.floats(0, 0.5))
def test_the_fall_rule_is_its_definition(values: list[float], times: int, drop: float) -> None:
    found = met(f"test/acc < max(test/acc) - {drop!r} for {times}", *accuracies(*values))
    fallen = [value < max(values[: n + 1]) - drop for n, value in enumerate(values)]
    assert found == [
        n + 1 >= times and all(fallen[n + 1 - times : n + 1]) for n in range(len(values))
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "column 1: a metric, a number or max(metric) is wanted, not the end"),
        ("test/acc", "column 9: <, <=, > or >= is wanted, not the end"),
        ("test/acc == 3", "column 10: <, <=, > or >= is wanted, not '== 3'"),
        ("test/acc < ", "a metric, a number or max(metric) is wanted, not the end"),
        ("acc < 3 for two", "a whole number of times is wanted, not 'two'"),
        ("acc < 3 for 0", "a whole number of times is wanted, not '0'"),
        ("acc < 3 after 2", "2 needs a unit"),
        ("acc < 3 4", "column 9: and, or, for, after, or the end is wanted, not '4'"),
        ("acc < max(3)", "the name of a metric is wanted, not '3'"),
        ("acc < (1 + 2", "')' is wanted, not the end"),
        ("acc < 3 for 2 for 3", "acc < 3 for 2 has `for` twice; write it once"),
        ("acc < 3 after 3ep after 1ep", "acc < 3 after 3ep has `after` twice"),
        ("acc < 3 for 1 after 0ep for 1", "acc < 3 has `for` twice"),
        ("acc < nan", "column 7: a metric or a finite number is wanted, not 'nan'"),
        ("acc < Inf", "a metric or a finite number is wanted, not 'Inf'"),
        ("acc > -inf", "is wanted, not 'inf'"),
        ("acc < max(nan)", "the name of a metric is wanted, not 'nan'"),
        ("acc < 1e400", "column 7: a finite number is wanted, not '1e400'"),
        ("acc < -1e400%", "a finite number is wanted, not '1e400%'"),
        ("1 < 2", "1 < 2 compares no metric"),
    ],
)
def test_what_is_no_predicate_is_told_where_it_goes_wrong(text: str, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        Predicate.parse(text)
    assert words in str(caught.value)


def test_a_comparison_of_two_alternatives_is_counted_once() -> None:
    rule = "a > 0 for 2 and b > 0 or a > 0 for 2 and c > 0"
    assert met(rule, (1, {"a": 1, "b": 1, "c": 1}), (2, {"a": 1})) == [False, True]


def test_what_is_journalled_twice_at_a_step_is_counted_once() -> None:
    again = (4, {"a": 1.0})
    assert met("a > 0 for 2", again, again, (5, {"a": 1.0})) == [False, False, True]


def test_a_part_is_no_number_of_times() -> None:
    with pytest.raises(ValueError, match="a whole number of times is wanted"):
        Predicate.parse("a > 0 for 2%")
