"""A flattened recipe means the same as the recipe that it was made from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from labctl.plans.derive import plans
from labctl.project import Project
from labctl.recipe.catalogue import listed
from labctl.recipe.flat import _flow, flattened
from labctl.recipe.recipe import load
from labctl.recipe.source import Mark, parse, parse_value
from labctl.registry.registry import Registry

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry(ROOT / "plugins", is_quiet=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(listed(Project(ROOT))))
def test_the_bundled_recipes(tmp_path: Path, registry: Registry, name: str) -> None:
    project = Project(ROOT)
    text = flattened(project, name, registry)
    path = tmp_path / "flat.yaml"
    path.write_text(text, encoding="utf-8")
    for preset in (None, "smoke"):
        ours = plans(load(project, registry, str(path), preset))
        theirs = plans(load(project, registry, name, preset))
        assert [plan.key for plan in ours] == [plan.key for plan in theirs]
        assert [plan.measures for plan in ours] == [plan.measures for plan in theirs]
    assert "extends" not in parse(text, "flat.yaml").plain()


def test_fields_at_their_defaults_are_comments_that_can_be_uncommented(toys: Any) -> None:
    text = flattened(toys.project, "toy", toys.registry)
    for line in ("# rate: 0.5", "# bucket: 4", "# size: all", "# mode: plain"):
        assert f"  {line}" in text
    assert "# width" not in text
    defaults = re.compile(r"  # (\w+: .*)")
    opened = [defaults.sub(r"  \1", line) for line in text.splitlines()]
    assert len(parse("\n".join(opened), "x.yaml").plain()["model"]) == 7
    assert toys.problems_of("\n".join(opened)) == []


def test_nulls_are_gone_and_presets_stay(toys: Any) -> None:
    toys.write("x", "extends: toy\nloss: {aux: {}, cross_entropy: {}}\npresets: {a: {seeds: 1}}\n")
    toys.write("z", "extends: x\nloss: {aux: null}\n")
    plain = parse(flattened(toys.project, "z"), "z.yaml").plain()
    assert plain["loss"] == {"cross_entropy": {}}
    assert plain["presets"] == {"a": {"seeds": 1}}


TEXT = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), max_size=12)
TRAPS = st.sampled_from(
    ["on", "No", "1e-3", "0.20:0.25", "null", "~", "", "true", "007", "1_000", ".inf", "- a",
     "a: b", "a #b", "#", "*a", "&a", "!x", "%", "@a", "`", "<<", "2024-01-01", "y", " a ", "[",
     "{", "?", "|"]
)  # fmt: skip
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
    | TRAPS
)


KEYS = st.text("abc", min_size=1) | TRAPS.filter(lambda text: text not in ("", "<<"))


@example("\xa0")
@example("\x85")
@example("\u2028a")
@given(
    st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
        max_leaves=6,
    )
)
def test_what_is_written_is_read_back(value: Any) -> None:
    """However a text looks: quotes stand where labctl would take it for something else."""
    assert parse_value(_flow(value), Mark("x")).plain() == value
