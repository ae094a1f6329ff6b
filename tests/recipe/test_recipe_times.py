"""Times: what a recipe may write, and the steps that it means."""

from __future__ import annotations

import json
import math
import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from labctl.recipe.times import Clock, Interval, Length, Time, is_mark_name

CLOCK = Clock(1000, 40, 64, {"soft": Time(10, "%"), "hard": Time(3, "ep")})


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("50ep", 50, "ep"),
        ("50 ep", 50, "ep"),
        (" 1.5ep ", 1.5, "ep"),
        (".5ep", 0.5, "ep"),
        ("20000step", 20_000, "step"),
        ("20_000step", 20_000, "step"),
        ("1e3step", 1000, "step"),
        ("2.5E+1step", 25, "step"),
        ("10%", 10, "%"),
        ("0%", 0, "%"),
        ("20Mtok", 20e6, "tok"),
        ("1.5ktok", 1500, "tok"),
        ("2Gtok", 2e9, "tok"),
        ("2Btok", 2e9, "tok"),
    ],
)
def test_times_as_they_are_written(text: str, value: float, unit: str) -> None:
    assert Time.parse(text) == Time(value, unit)


def test_a_word_is_the_name_of_a_mark() -> None:
    assert Time.parse("soft_end") == Time(0, "mark", "soft_end")
    assert str(Time.parse("soft_end")) == "soft_end"
    assert [is_mark_name(text) for text in ("soft", "_a1", "50ep", "a b", "10%", "")] == [
        True, True, False, False, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["0", "10", "1.5", ".5", 0, 10, 1.5])
def test_a_number_needs_a_unit(text: str | float) -> None:
    with pytest.raises(ValueError, match=f"{text} needs a unit: {text}ep, {text}step or {text}%"):
        Time.parse(text)


@pytest.mark.parametrize(
    "text",
    ["-1ep", "1 epoch", "50epochs", "1,5ep", "1__0ep", "1_0ep", "5 %%", "1e", "", "a-b",
     "10%ep", "nan%", True, None, ["1ep"], {"a": 1}],
)  # fmt: skip
def test_other_things_are_no_times(text: object) -> None:
    with pytest.raises(ValueError, match=re.escape("a time is a number with a unit")):
        Time.parse(text)


@pytest.mark.parametrize("text", ["1e16ep", "1e300%", "1e999step", f"{'9' * 400}ep"])
def test_a_time_beyond_reason(text: str) -> None:
    with pytest.raises(ValueError, match="longer than anything that can be trained"):
        Time.parse(text)


@given(
    st.floats(0, 1e15) | st.integers(0, 10**15).map(float),
    st.sampled_from(["ep", "step", "%", "tok"]),
)
def test_a_time_reads_what_it_writes(value: float, unit: str) -> None:
    assert Time.parse(str(Time(value, unit))) == Time(value, unit)


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("250step", 250),
        ("2.5ep", 100),
        ("12.5%", 125),
        ("640tok", 10),
        ("soft", 100),
        ("hard", 120),
        ("100%", 1000),
        ("25ep", 1000),
    ],
)
def test_the_step_of_a_time(text: str, step: float) -> None:
    assert CLOCK.step(Time.parse(text)) == step
    assert CLOCK.resolved(Time.parse(text)) == Time(step, "step")


@given(st.integers(1, 400), st.integers(1, 300), st.integers(1, 64), st.fractions(0, 1))
def test_the_same_moment_in_four_units(
    epochs: int, per_epoch: int, tokens: int, share: Fraction
) -> None:
    steps = epochs * per_epoch
    clock = Clock(steps, per_epoch, tokens, {"here": Time(float(100 * share), "%")})
    moments = {
        "step": Time(float(share * steps), "step"),
        "ep": Time(float(share * epochs), "ep"),
        "%": Time(float(100 * share), "%"),
        "tok": Time(float(share * steps * tokens), "tok"),
        "mark": Time(0, "mark", "here"),
    }
    exact = float(share * steps)
    for time in moments.values():
        assert math.isclose(clock.step(time), exact, rel_tol=1e-12, abs_tol=1e-12)


def test_what_cannot_be_counted() -> None:
    with pytest.raises(ValueError, match="unknown mark 'sft'; marks of this recipe: hard, soft"):
        CLOCK.step(Time.parse("sft"))
    with pytest.raises(ValueError, match="not counted in tokens; use ep, step or %"):
        Clock(10, 1).step(Time.parse("5tok"))


def test_lengths_are_no_moments_and_intervals_not_empty() -> None:
    length, interval = TypeAdapter[Time](Length), TypeAdapter[Time](Interval)
    assert length.validate_python("0ep") == Time(0, "ep")
    assert interval.validate_python("2ep") == Time(2, "ep")
    with pytest.raises(ValidationError, match="a length of time is wanted, such as 2ep"):
        length.validate_python("soft")
    with pytest.raises(ValidationError, match="longer than 0ep"):
        interval.validate_python("0ep")


@given(st.text("0123456789.eE+-_ kMGBsteptok%ab", max_size=12))
def test_the_json_schema_says_the_same_as_the_parser(text: str) -> None:
    schema = TypeAdapter(Time).json_schema()
    is_matched = re.search(schema["pattern"], text) is not None
    try:
        Time.parse(text)
        is_time = True
    except ValueError as error:
        is_time = "longer than" in str(error)
    # The parser forgives spaces around a time, which an editor need not.
    assert is_matched == is_time or text != text.strip()
    assert json.dumps(schema)
