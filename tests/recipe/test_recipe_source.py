"""YAML as its author means it: values, marks and traps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from labctl.errors import RecipeError
from labctl.recipe.source import Mark, Node, number, parse, parse_value, read

RECIPES = Path(__file__).parents[2] / "recipes"


def faults(text: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        parse(text, "r.yaml")
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1.0e-3", 0.001),
        ("1E+3", 1000.0),
        (".5", 0.5),
        ("-.5e1", -5.0),
        ("5.", 5.0),
        ("0", 0),
        ("-0", 0),
        ("+7", 7),
        ("0.0", 0.0),
        ("1_000", 1000),
        ("50_000.5", 50_000.5),
        ("12_345_678", 12_345_678),
    ],
)
def test_numbers_are_read_as_people_write_them(text: str, value: float) -> None:
    found = number(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "007", "0_1", "00.5", "0o17", "0x1F", "1_0", "1__000", "1_", "_1", "2024_01", "1e", "e3",
        "2024-01-01", "12:30:45", "0.20:0.25", "1,5", "10%", "5ep", "--1", "1e3.5", ".", "-", "",
        "nan", "inf", "1 000", "\u0661",
    ],
)  # fmt: skip
def test_other_texts_stay_texts(text: str) -> None:
    assert number(text) == text


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**62), 2**62))
def test_numbers_that_python_writes_are_read_back(value: float) -> None:
    found = number(repr(value))
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("null", None),
        ("~", None),
        ("", None),
        ("true", True),
        ("false", False),
        ("'1e-3'", "1e-3"),
        ('"yes"', "yes"),
        ("'null'", "null"),
        ("0.20:0.25", "0.20:0.25"),
        ("2024-01-01", "2024-01-01"),
        ("007", "007"),
        ("[1, two, 3.0]", [1, "two", 3.0]),
        ("{a: {b: 1}}", {"a": {"b": 1}}),
        ("|\n  two\n  lines\n", "two\nlines\n"),
        ("&x [1]", [1]),
    ],
)
def test_values(text: str, value: Any) -> None:
    assert parse(f"key: {text}\n", "r.yaml").plain() == {"key": value}


@pytest.mark.parametrize("word", ["yes", "No", "ON", "off", "True", "FALSE"])
def test_a_word_that_may_be_a_truth_value_is_a_fault(word: str) -> None:
    (fault,) = faults(f"a: 1\nkey: [x, {word}]\n")
    assert fault.startswith(f"r.yaml:2:10: is {word!r} a truth value or a word?")
    assert fault.endswith(f"write true or false, or quote it: '{word}'")


def test_such_a_word_may_be_a_key() -> None:
    assert parse("on: 1\nno: 2\n", "r.yaml").plain() == {"on": 1, "no": 2}


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("a: 1\na: 2\n", "2:1", "'a' is given twice; first at r.yaml:1:1"),
        ("x: {b: 1, b: 2}\n", "1:11", "'b' is given twice; first at r.yaml:1:5"),
        ("a: 1\n\tb: 2\n", "2:1", "a tab in the indentation"),
        ("a:\tb\n", "1:3", "not YAML"),
        ("", "", "empty, or no mapping at the top"),
        ("# nothing\n", "", "empty, or no mapping at the top"),
        ("- a\n", "1:1", "empty, or no mapping at the top"),
        ("word\n", "1:1", "empty, or no mapping at the top"),
        ("a: 1\n---\nb: 2\n", "2:1", "a second document in one file"),
        ("a: &x {b: 1}\nc: {<<: *x}\n", "2:5", "merge keys (<<) are not read here"),
        ("a: *x\n", "1:4", "an alias of nothing: no &x comes before it"),
        ("a: &x [1, *x]\n", "1:11", "an alias that contains itself: &x"),
        ("a: &x {b: *x}\n", "1:11", "an alias that contains itself: &x"),
        ("a: !!python/object:os.system x\n", "1:4", "tags such as !!python/object:os.system"),
        ("a: !!str 5\n", "1:4", "tags such as !!str are not read here"),
        ("a: !own [1]\n", "1:4", "tags such as !own are not read here"),
        ("? [a]\n: 1\n", "1:3", "a key must be a word"),
        ("'': 1\n", "1:1", "a key must be a word"),
        ("a: .inf\n", "1:4", ".inf is not a finite number"),
        ("a: -.INF\n", "1:4", "-.INF is not a finite number"),
        ("a: .NaN\n", "1:4", ".NaN is not a finite number"),
        ("a: 1e999\n", "1:4", "1e999 is not a finite number"),
        (f"a: {'9' * 5000}\n", "1:4", "99999999999999999999... (5000 characters) is not a finite"),
        ("a: 9223372036854775808\n", "1:4", "9223372036854775808 does not fit into 64 bits"),
        ("a: b: c\n", "1:5", "not YAML: mapping values are not allowed here"),
        ("b: 1\na: [1, 2\n", "2:4", "not YAML: while parsing a flow sequence"),
        ("b: 1\na: 'text\n", "2:4", "not YAML: while scanning a quoted scalar"),
        ("b: 1\na:2\n", "2:1", "not YAML: while scanning a simple key"),
        ("a: 1\n  b: 2\n", "2:4", "not YAML"),
        ("a: @b\n", "1:4", "not YAML"),
        ("%YAML 2.0\n---\na: 1\n", "1:1", "not YAML: found incompatible YAML document"),
        ("a: 1\nb: x\x00y\n", "2:5", "a control character, which YAML does not allow"),
        ("a: " + "[" * 41 + "]" * 41, "1:43", "more than 40 levels deep"),
        ("a: " + "[" * 20_000, "1:43", "more than 40 levels deep"),
        ("a: " + "{b: " * 20_000, "1:160", "more than 40 levels deep"),
    ],
)
def test_traps(text: str, place: str, message: str) -> None:
    first = faults(text)[0]
    where = f"r.yaml:{place}: " if place else "r.yaml:"
    assert first.startswith(where), first
    assert message in first
    assert "\n" in first or message.startswith(("not YAML", "an alias")), "a next step is given"


def test_the_place_of_a_syntax_error_is_drawn() -> None:
    (fault,) = faults("a: 1\nb: [1, 2\n")
    assert fault.splitlines()[1:] == ["  b: [1, 2", "     ^"]


def test_all_problems_are_found_at_once_up_to_the_one_that_ends_reading() -> None:
    found = faults("a: yes\nb: 1\nb: 2\nc: !x 3\nd: .nan\ne: [1\n")
    assert [fault.partition(": ")[0] for fault in found] == [
        "r.yaml:1:4", "r.yaml:3:1", "r.yaml:4:4", "r.yaml:5:4", "r.yaml:6:4",
    ]  # fmt: skip


def test_one_document_may_be_framed() -> None:
    assert parse("---\na: 1\n...\n", "r.yaml").plain() == {"a": 1}


def test_an_alias_is_a_copy() -> None:
    tree = parse("a: &x {b: [1]}\nc: *x\nd: &x 2\ne: *x\n", "r.yaml")
    assert tree.plain() == {"a": {"b": [1]}, "c": {"b": [1]}, "d": 2, "e": 2}


def test_aliases_cannot_make_a_tree_of_any_size() -> None:
    lines = ["a0: &a0 [" + ", ".join(["x"] * 10) + "]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    (fault,) = faults("\n".join(lines))
    assert "more than 100,000 values" in fault


TREE = """\
# a comment
one: 1
two:
  three: [4, {five: 6}]
  seven: eight
"""


@pytest.mark.parametrize(
    ("steps", "line", "column"),
    [
        ((), 2, 1),
        (("one",), 2, 1),
        (("two",), 3, 1),
        (("two", "three"), 4, 3),
        (("two", "three", 0), 4, 11),
        (("two", "three", 1), 4, 14),
        (("two", "three", 1, "five"), 4, 15),
        (("two", "seven"), 5, 3),
        (("two", "nine"), 3, 1),
        (("two", "three", 7), 4, 3),
        (("one", "deeper", "still"), 2, 1),
        (("nothing",), 2, 1),
        (("two", "nine", "seven"), 3, 1),
    ],
)
def test_the_place_of_what_steps_lead_to(
    steps: tuple[str | int, ...], line: int, column: int
) -> None:
    assert parse(TREE, "r.yaml").place(steps) == Mark("r.yaml", line, column)


def test_node_lookups_of_what_is_no_mapping() -> None:
    node = Node([1], Mark("x"))
    assert node.get("a") is None
    assert node.children == {}


def test_a_value_of_the_command_line() -> None:
    mark = Mark("override")
    tree = parse_value("{a: [1e-3, on the], b: ''}", mark)
    assert tree.plain() == {"a": [0.001, "on the"], "b": ""}
    assert {str(tree.place(steps)) for steps in [(), ("a",), ("a", 1), ("b",)]} == {"override"}
    assert parse_value("", mark).plain() is None


@pytest.mark.parametrize("text", ["[1", "on", "{a: 1, a: 2}", "!!int 3", "*x", "'", ".inf", "\x00"])
def test_traps_of_the_command_line(text: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_value(text, Mark("override"))
    assert [problem.where for problem in caught.value.problems] == ["override"]


# Without line breaks and control characters: JSON and YAML differ about those.
WORDS = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), max_size=8)
KEYS = st.text("abc", min_size=1, max_size=3)
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(KEYS, PLAIN, min_size=1, max_size=4))
def test_json_is_read_as_json(tree: dict[str, Any]) -> None:
    text = json.dumps(tree, ensure_ascii=False)
    assert parse(text, "r.yaml").plain() == tree


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    for reading in (lambda: parse(text, "r.yaml"), lambda: parse_value(text, Mark("o"))):
        try:
            assert isinstance(reading(), Node)
        except RecipeError as error:
            assert all(problem.where for problem in error.problems)


@given(st.text("ab01:{}[]-,#&*!|>'\"%@ \n\t?<=~.eén", max_size=40))
def test_any_text_of_yaml_signs_is_read_or_refused(text: str) -> None:
    try:
        assert isinstance(parse(text, "r.yaml"), Node)
    except RecipeError as error:
        assert all(problem.where for problem in error.problems)


@pytest.mark.parametrize(
    ("data", "plain"),
    [
        (b"\xef\xbb\xbfa: 1\n", {"a": 1}),
        (b"a: 1\r\nb: 2\r\n", {"a": 1, "b": 2}),
        ("a: é\n".encode(), {"a": "é"}),
    ],
)
def test_files(tmp_path: Path, data: bytes, plain: Any) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(data)
    assert read(path, "r.yaml").plain() == plain


@pytest.mark.parametrize(
    ("data", "where"),
    [
        ("a: 1\nb: é\n".encode("latin-1"), "r.yaml:2:4"),
        ("a: 1\n".encode("utf-16"), "r.yaml:1:1"),
    ],
)
def test_a_file_that_is_not_utf_8(tmp_path: Path, data: bytes, where: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(data)
    with pytest.raises(RecipeError) as caught:
        read(path, "r.yaml")
    (problem,) = caught.value.problems
    assert (problem.where, problem.message) == (where, "not UTF-8 text")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none.yaml", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(RecipeError, match=f"cannot be read: {reason}"):
            read(path, "r.yaml")


def read_by(text: str, libyaml: bool) -> Node | list[str]:
    """The tree, or what is said of the text; without libyaml as where PyYAML has none."""
    with mock.patch.object(yaml, "__with_libyaml__", libyaml):
        try:
            return parse.__wrapped__(text, "r.yaml")
        except RecipeError as error:
            return [str(problem) for problem in error.problems]


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="PyYAML was built without libyaml")
@given(st.text("ab:  \n\n-{}[],|>#'\"&*!%@`~.0\u00e9", max_size=40))
def test_a_text_reads_the_same_with_libyaml_and_without(text: str) -> None:
    alone = read_by(text, libyaml=False)
    if isinstance(alone, Node):
        assert read_by(text, libyaml=True) == alone


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="PyYAML was built without libyaml")
@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.yaml")), ids=lambda path: path.stem)
def test_a_recipe_reads_the_same_with_libyaml_and_without(path: Path) -> None:
    text = path.read_text()
    alone = read_by(text, libyaml=False)
    assert isinstance(alone, Node)
    assert read_by(text, libyaml=True) == alone


@pytest.mark.parametrize("text", ["a: [1, 2\nb: 3\n", "a: 'x\nb: 3\n", "a: {b: 1}}\n", "a: b: c\n"])
def test_a_fault_is_told_the_same_with_libyaml_and_without(text: str) -> None:
    told = read_by(text, libyaml=False)
    assert isinstance(told, list)
    assert read_by(text, libyaml=True) == told
