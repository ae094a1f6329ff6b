"""What a recipe comes to with all that lies under and over it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from labctl.errors import RecipeError
from labctl.recipe.layers import NOTHING, laid, overridden, point_of
from labctl.recipe.source import Mark, Node, parse


def tree(value: Any, mark: str = "under") -> Node:
    """The tree of plain data, all of it marked alike."""
    if isinstance(value, dict):
        children = {key: tree(child, mark) for key, child in value.items()}
        return Node(children, Mark(mark), dict.fromkeys(children, Mark(mark)))
    if isinstance(value, list):
        return Node([tree(child, mark) for child in value], Mark(mark))
    return Node(value, Mark(mark))


def over(under: Any, *layers: Any) -> Any:
    """The plain data of layers laid on one another."""
    found = tree(under)
    for layer in layers:
        found = laid(found, tree(layer, "over"))
    return found.plain()


@pytest.mark.parametrize(
    ("under", "layer", "found"),
    [
        ("{a: 1, b: 2}", "{b: 3, c: 4}", "{a: 1, b: 3, c: 4}"),
        ("{a: {b: 1, c: {d: 2}}}", "{a: {c: {e: 3}}}", "{a: {b: 1, c: {d: 2, e: 3}}}"),
        ("{a: [1, 2]}", "{a: [3]}", "{a: [3]}"),
        ("{a: {b: 1}}", "{a: 5}", "{a: 5}"),
        ("{a: 5}", "{a: {b: 1}}", "{a: {b: 1}}"),
        ("{ema: {decay: 0.9}}", "{ema: null}", "{ema: null}"),
        ("{ema: null}", "{ema: {decay: 0.9}}", "{ema: {decay: 0.9}}"),
        # A block that names another thing replaces the whole.
        (
            "{model: {architecture: a, d: 3}}",
            "{model: {architecture: b}}",
            "{model: {architecture: b}}",
        ),
        ("{data: {name: a, val: 3}}", "{data: {name: b, x: 1}}", "{data: {name: b, x: 1}}"),
        ("{optimizer: {kind: a, x: 3}}", "{optimizer: {kind: b}}", "{optimizer: {kind: b}}"),
        (
            "{schedules: {lr: {kind: a, p: 1}}}",
            "{schedules: {lr: {kind: b}}}",
            "{schedules: {lr: {kind: b}}}",
        ),
        # A table of times is not fields: those of the layer below would stand between.
        (
            "{schedules: {m: {kind: step, every: 1, values: {0%: a, 10%: b}}}}",
            "{schedules: {m: {values: {0%: a, 50%: c}}}}",
            "{schedules: {m: {kind: step, every: 1, values: {0%: a, 50%: c}}}}",
        ),
        (
            "{presets: {p: {schedules: {m: {values: {0%: a, 10%: b}}}}}}",
            "{presets: {p: {schedules: {m: {values: {0%: c}}}}}}",
            "{presets: {p: {schedules: {m: {values: {0%: c}}}}}}",
        ),
        (
            "{model: {values: {a: 1}}}",
            "{model: {values: {b: 2}}}",
            "{model: {values: {a: 1, b: 2}}}",
        ),
        # One that names the same, or nothing, does not.
        ("{data: {name: a, val: 3}}", "{data: {name: a, x: 1}}", "{data: {name: a, val: 3, x: 1}}"),
        ("{data: {name: a}}", "{data: {val: 1}}", "{data: {name: a, val: 1}}"),
        ("{data: {val: 1}}", "{data: {name: a}}", "{data: {val: 1, name: a}}"),
        # Entries that happen to be called like a naming field name nothing.
        ("{marks: {name: 1, kind: 2}}", "{marks: {name: 3}}", "{marks: {name: 3, kind: 2}}"),
        ("{name: a, seeds: 3}", "{name: b}", "{name: b, seeds: 3}"),
        # Null takes an inherited entry away.
        ("{claims: {a: {x: 1}, b: {x: 2}}}", "{claims: {a: null}}", "{claims: {b: {x: 2}}}"),
        ("{presets: {a: {seeds: 1}, b: {}}}", "{presets: {b: null}}", "{presets: {a: {seeds: 1}}}"),
        # In a preset it stays, until the preset is laid on its recipe.
        (
            "{presets: {a: {loss: {x: {}}}}}",
            "{presets: {a: {loss: {x: null}}}}",
            "{presets: {a: {loss: {x: null}}}}",
        ),
        (
            "{presets: {a: {data: {name: b, v: 1}}}}",
            "{presets: {a: {data: {name: c}}}}",
            "{presets: {a: {data: {name: c}}}}",
        ),
        ("{loss: 5}", "{loss: {x: {}}}", "{loss: {x: {}}}"),
        ("{loss: {x: {}}}", "{loss: null}", "{loss: null}"),
    ],
)
def test_one_layer_on_another(under: str, layer: str, found: str) -> None:
    assert over(yaml.safe_load(under), yaml.safe_load(layer)) == yaml.safe_load(found)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("loss", "write a: {}"),
        ("measure", "write a: {}"),
        ("claims", "remove it"),
        ("marks", "remove it"),
        ("schedules", "remove it"),
        ("presets", "remove it"),
    ],
)
def test_null_must_take_something_away(name: str, hint: str) -> None:
    layer = parse(f"title: x\n{name}:\n  a:\n", "r.yaml")
    for under in (NOTHING, tree({name: {"b": {}}}), tree({name: 5})):
        with pytest.raises(RecipeError) as caught:
            laid(under, layer)
        (problem,) = caught.value.problems
        assert problem.where == "r.yaml:3:3"
        assert problem.message == f"{name}.a: null takes away an inherited entry, and there is none"
        assert hint in problem.hint


def test_what_is_taken_away_twice_is_not_there_the_second_time() -> None:
    assert over({"loss": {"a": {}, "b": {}}}, {"loss": {"a": None}}, {"seeds": 2}) == {
        "loss": {"b": {}}, "seeds": 2,
    }  # fmt: skip
    with pytest.raises(RecipeError, match="null takes away"):
        over({"loss": {"a": {}}}, {"loss": {"a": None}}, {"loss": {"a": None}})


def test_marks_are_those_of_the_layer_that_decided() -> None:
    found = laid(tree({"a": {"b": 1, "c": 2}, "d": [3]}), tree({"a": {"b": 5}}, "over"))
    places = {steps: str(found.place(steps)) for steps in [("a", "b"), ("a", "c"), ("d",), ("a",)]}
    assert places == {("a", "b"): "over", ("a", "c"): "under", ("d",): "under", ("a",): "over"}


SMALL = st.recursive(
    st.integers(0, 3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
LAYER = st.dictionaries(st.sampled_from("abc"), SMALL, max_size=3)


@given(LAYER, LAYER, LAYER)
def test_laws_of_layers(one: Any, two: Any, three: Any) -> None:
    assert over({}, one) == one == over(one, {})
    assert over(one, one) == one
    assert over(over(one, two), three) == over(one, two, three)
    assert over(one, over(two, three)) == over(one, two, three) or _replaces(one, two, three)


def _replaces(one: Any, two: Any, three: Any) -> bool:
    """Whether a scalar of the middle layer stands between two mappings: then order matters."""
    if not (isinstance(one, dict) and isinstance(three, dict)):
        return False
    if not isinstance(two, dict):
        return True
    return any(
        _replaces(one[key], two[key], three[key]) for key in one.keys() & two.keys() & three.keys()
    )


UNDER = {"a": 0, "b": [10, {"c": 20}], "model": {"architecture": "x", "depth": 3}}


@pytest.mark.parametrize(
    ("texts", "changed"),
    [
        (["a=1"], {"a": 1}),
        (["model.depth=4"], {"model": {"architecture": "x", "depth": 4}}),
        (["b.1.c=5", "b.0=6"], {"b": [6, {"c": 5}]}),
        (["b=[]"], {"b": []}),
        (["a.x.y=1e-3"], {"a": {"x": {"y": 0.001}}}),
        (["new.field=1"], {"new": {"field": 1}}),
        (["a= two words "], {"a": "two words"}),
        (["a=b=c"], {"a": "b=c"}),
        (["a="], {"a": None}),
        (["a=1", "a=2"], {"a": 2}),
        # Names first, in whatever order they are typed: no depth is lost.
        (
            ["model.depth=4", "model.architecture=z"],
            {"model": {"architecture": "z", "depth": 4}},
        ),
    ],
)
def test_overrides(texts: list[str], changed: Any) -> None:
    assert overridden(tree(UNDER), texts).plain() == UNDER | changed


def test_an_override_reaches_into_a_table() -> None:
    steps = {"m": {"kind": "step", "values": {"0%": "a", "30%": "b"}}}
    found = overridden(tree({"schedules": steps}), ["schedules.m.values.30%=c"])
    assert found.plain()["schedules"]["m"] == {"kind": "step", "values": {"0%": "a", "30%": "c"}}
    found = overridden(tree({"schedules": steps}), ["schedules.m.values={0%: d}"])
    assert found.plain()["schedules"]["m"] == {"kind": "step", "values": {"0%": "d"}}


def test_every_wrong_override_is_named() -> None:
    texts = ["a", "=1", "a..b=1", "b.2=1", "b.x=1", "a=[", "c=yes", "loss.x=null", "a=1"]
    with pytest.raises(RecipeError) as caught:
        overridden(tree({"b": [1, 2]}), texts)
    found = [(problem.where, problem.message) for problem in caught.value.problems]
    assert found == [
        ("", "'a' is not an override"),
        ("", "'=1' is not an override"),
        ("", "'a..b=1' is not an override"),
        ("override 'a=['", "the value '[' is not YAML"),
        ("override 'c=yes'", "is 'yes' a truth value or a word?"),
        ("override 'b.2=1'", "no position '2' in a list of 2"),
        ("override 'b.x=1'", "no position 'x' in a list of 2"),
        ("override 'loss.x=null'", "loss.x: null takes away an inherited entry, and there is none"),
    ]
    assert all(problem.hint for problem in caught.value.problems)


def test_an_override_leaves_marks_of_the_rest_of_a_list() -> None:
    found = overridden(tree({"b": [1, {"c": 2, "d": 3}]}), ["b.1.c=5"])
    assert str(found.place(("b", 0))) == "under"
    assert str(found.place(("b", 1, "d"))) == "under"
    assert str(found.place(("b", 1, "c"))) == "override 'b.1.c=5'"


def test_the_point_says_what_the_overrides_came_to() -> None:
    given = ("b.x=0.9", "a=1", "b.x=0.2", "seeds=[3]")
    assert point_of(given) == {"a": 1, "b.x": 0.2}
    assert list(point_of(given)) == ["a", "b.x"]
    assert overridden(tree({"b": {"x": 1}}), given[:3]).plain()["b"]["x"] == 0.2
