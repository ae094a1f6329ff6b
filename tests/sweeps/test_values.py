"""Values of a sweep: exact, both ends included, and refused with the way to say it."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from labctl.sweeps.values import parse_values, written


def texts(text: str, step: str | None = None) -> list[str]:
    return [written(value) for value in parse_values(text, Decimal(step) if step else None)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.20:0.25:0.01", ["0.2", "0.21", "0.22", "0.23", "0.24", "0.25"]),
        ("0.25:0.20:-0.01", ["0.25", "0.24", "0.23", "0.22", "0.21", "0.2"]),
        ("1:16/4", ["1", "6", "11", "16"]),
        ("0:1/3", ["0", "0.5", "1"]),
        ("0:1/4", ["0", "0.333333", "0.666667", "1"]),
        ("log:1e-4:1e-1/4", ["0.0001", "0.001", "0.01", "0.1"]),
        ("log:1:100/3", ["1", "10", "100"]),
        ("log:1:10/3", ["1", "3.162", "10"]),
        ("3, 1,2", ["3", "1", "2"]),
        ("1e-3,0.5,2", ["0.001", "0.5", "2"]),
        ("0.1:0.2:0.1,0.9", ["0.1", "0.2", "0.9"]),
        ("bf16,fp32", ["bf16", "fp32"]),
        ("true,false", ["true", "false"]),
        ("10ep,20ep", ["10ep", "20ep"]),
        ("[1,2],[3,4]", ["[1,2]", "[3,4]"]),
        ("-1:1:1", ["-1", "0", "1"]),
        ("1_000:3_000:1_000", ["1000", "2000", "3000"]),
        ("1e-20", ["1e-20"]),
    ],
)
def test_values_are_what_was_written(text: str, expected: list[str]) -> None:
    assert texts(text) == expected


def test_a_range_without_a_step_takes_the_given_one() -> None:
    assert texts("0.20:0.22", "0.01") == ["0.2", "0.21", "0.22"]
    assert texts("0.20:0.22:0.02", "0.01") == ["0.2", "0.22"]
    assert texts("0.22:0.20", "0.01") == ["0.22", "0.21", "0.2"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("log:16:100/4", ["16", "29", "54", "100"]),
        ("log:1:10/7", ["1", "2", "3", "5", "7", "10"]),
        ("1:16/5", ["1", "5", "8", "12", "16"]),
        ("4:1/4", ["4", "3", "2", "1"]),
        ("1:3", ["1", "2", "3"]),
        ("3:1", ["3", "2", "1"]),
        ("2:6:2", ["2", "4", "6"]),
        ("0.5:8.5/3", ["0.5", "4", "8.5"]),
    ],
)
def test_spaced_values_of_an_integer_are_rounded(text: str, expected: list[str]) -> None:
    """Ends that somebody wrote stay as they are, for the recipe to refuse."""
    assert [written(value) for value in parse_values(text, is_integer=True)] == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0.20:0.25", "in steps of what? Write 0.20:0.25:0.01, or 0.20:0.25/6 for six values"),
        ("1:9", "Write 1:9:1"),
        ("0.20:0.25:0.02", "steps of 0.02 from 0.20 miss 0.25; they end at 0.24"),
        ("0:1:-0.1", "do not lead from 0 to 1; write 0:1:0.1"),
        ("5:1", "in steps of what? Write 5:1:-1, or 5:1/6"),
        ("0.3:0.1", "Write 0.3:0.1:-0.1"),
        ("5:1:1", "write 5:1:-1"),
        ("0:1:0", "steps of 0"),
        ("log:1:10", "how many values? For example log:1:10/7"),
        ("log:1:10:3", "For example log:1:10/7"),
        ("log:5", "log:5: a range is lo:hi:step"),
        ("log:0:1/3", "only positive numbers have logarithms"),
        ("0:1/1", "from 2 to 10000 values"),
        ("1:1/3", "both ends are 1"),
        ("0:1/x", "written lo:hi/n"),
        ("a:b", "'a' is not a number"),
        ("0:inf:1", "inf is not a finite number"),
        ("0:1:1e-9", "at most 10000 can be swept"),
        ("1,2,1.0", "1 is there twice"),
        ("", "no values"),
        ("1:2:3:4", "a range is"),
    ],
)
def test_what_cannot_be_swept_is_refused_with_what_could(text: str, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_values(text)
    assert words in str(caught.value)


@given(
    st.decimals("-1000", "1000", places=3),
    st.decimals("0.001", "10", places=3),
    st.integers(1, 200),
)
def test_a_range_is_the_arithmetic_progression(first: Decimal, step: Decimal, count: int) -> None:
    assume(step)
    values = parse_values(f"{first}:{first + step * count}:{step}")
    assert len(values) == count + 1
    assert values == tuple(first + step * place for place in range(count + 1))
    # What a recipe reads of the text is the nearest float: no sum of rounding errors.
    assert [float(written(value)) for value in values] == [float(value) for value in values]
