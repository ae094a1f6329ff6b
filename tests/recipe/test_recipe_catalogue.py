"""Where recipes are found, what they extend, and their presets."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labctl.errors import RecipeError, UsageError
from labctl.project import Project
from labctl.recipe import catalogue
from labctl.recipe.catalogue import composed, listed, located, presets_of, resolved

Files = dict[str, str]


@pytest.fixture
def shop(project: Project, monkeypatch: pytest.MonkeyPatch) -> Callable[[Files, Files], Project]:
    """`shop(own, bundled)`: a project with recipes of its own, and others that came with labctl."""

    def write(root: Path, files: Files) -> None:
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def make(own: Files, bundled: Files | None = None) -> Project:
        write(project.recipes, own)
        bundle = project.root / "installed"
        write(bundle, {"ours.yaml": "title: ours\n", **(bundled or {})})
        monkeypatch.setattr(catalogue, "bundled_root", lambda: bundle)
        return project

    return make


def plain(project: Project, name: str) -> Any:
    return composed(project, located(project, name)).plain()


def fault(project: Project, name: str) -> str:
    with pytest.raises(RecipeError) as caught:
        composed(project, located(project, name))
    return str(caught.value)


def test_recipes_are_listed_by_name(shop: Any) -> None:
    own = {
        "b.yaml": "a: 1\n",
        "a.yml": "a: 1\n",
        "sub/deep/c.yaml": "a: 1\n",
        "x1.5.yaml": "a: 1\n",
        "bases/base.yaml": "a: 1\n",
        "tables/main.yaml": "a: 1\n",
        "tables/sub/other.yaml": "a: 1\n",
        "sweeps/s.yaml": "a: 1\n",
        ".hidden/h.yaml": "a: 1\n",
        "sub/.h.yaml": "a: 1\n",
        "notes.txt": "no recipe",
    }
    project = shop(own)
    assert list(listed(project)) == ["a", "b", "ours", "sub/deep/c", "x1.5"]
    assert list(listed(project, "tables")) == ["tables/main", "tables/sub/other"]
    assert [name for name, file in listed(project).items() if file.is_bundled] == ["ours"]


def test_a_file_called_like_a_folder_aside_is_a_recipe(shop: Any) -> None:
    assert "tables" in listed(shop({"tables.yaml": "a: 1\n"}))


def test_the_projects_own_recipe_wins(shop: Any) -> None:
    project = shop({"ours.yaml": "title: mine\n"})
    assert plain(project, "ours") == {"title": "mine"}
    assert not listed(project)["ours"].is_bundled


def test_of_two_suffixes_yaml_wins(shop: Any) -> None:
    assert plain(shop({"a.yml": "a: 1\n", "a.yaml": "a: 2\n"}), "a") == {"a": 2}


def test_a_recipe_by_path_or_name(shop: Any, tmp_path: Path) -> None:
    project = shop({"a.yaml": "a: 1\n", "sub/b.yaml": "a: 2\n", "x1.5.yaml": "a: 3\n"})
    loose = project.root / "elsewhere" / "mine.yaml"
    loose.parent.mkdir()
    loose.write_text("a: 4\n", encoding="utf-8")
    names = {
        "a": "a",
        "a.yaml": "a",
        "recipes/a.yaml": "a",
        "./recipes/a.yaml": "a",
        str(project.recipes / "a.yaml"): "a",
        "sub/b": "sub/b",
        "sub/b.yaml": "sub/b",
        "recipes/sub/b.yaml": "sub/b",
        "x1.5": "x1.5",
        "recipes/x1.5.yaml": "x1.5",
        "ours": "ours",
        "recipes/ours.yaml": "ours",
        "elsewhere/mine.yaml": "mine",
        str(loose): "mine",
    }
    assert {text: located(project, text).name for text in names} == names
    os.chdir("/")
    del names["./recipes/a.yaml"]
    assert {text: located(project, text).name for text in names} == names


def test_a_stray_file_does_not_hide_a_recipe(shop: Any) -> None:
    project = shop({"a.yaml": "a: 1\n"})
    (project.root / "a").write_text("not a recipe", encoding="utf-8")
    assert located(project, "a").path == project.recipes / "a.yaml"


@pytest.mark.parametrize(
    "name",
    ["aa", "recipes/aa.yaml", "aa.yaml", "", ".", "/", "recipes", "bases/base", "a\0", "x" * 5000,
     "recipes/" + "x" * 5000 + ".yaml", "/no/such.yaml", "a.yaml/b.yaml"],
)  # fmt: skip
def test_no_such_recipe(shop: Any, name: str) -> None:
    project = shop({"a1.yaml": "a: 1\n", "bases/base.yaml": "a: 1\n"})
    with pytest.raises(UsageError, match="no recipe") as caught:
        located(project, name)
    assert "a1" in caught.value.hint


def test_a_chain_of_bases(shop: Any) -> None:
    project = shop(
        {
            "top.yaml": "extends: bases/middle.yaml\ntitle: top\nmodel: {depth: 3}\n",
            "bases/middle.yaml": "extends: low\nmodel: {width: 2}\nseeds: 3\n",
            "bases/low.yaml": "extends: under\nmodel: {architecture: x, depth: 1}\nseeds: 2\n",
        },
        {"under.yaml": "title: under\nbudget: 1ep\n"},
    )
    assert plain(project, "top") == {
        "title": "top",
        "budget": "1ep",
        "model": {"architecture": "x", "depth": 3, "width": 2},
        "seeds": 3,
    }


def test_several_bases_later_ones_on_top(shop: Any) -> None:
    project = shop(
        {
            "a.yaml": "extends: [bases/one, bases/two.yaml]\nc: 3\n",
            "bases/one.yaml": "a: 1\nb: 1\nclaims: {x: {y: 1}}\n",
            "bases/two.yaml": "b: 2\nc: 2\n",
            "diamond.yaml": "extends: [a, bases/one]\n",
        }
    )
    assert plain(project, "a") == {"a": 1, "b": 2, "c": 3, "claims": {"x": {"y": 1}}}
    assert plain(project, "diamond") == {"a": 1, "b": 1, "c": 3, "claims": {"x": {"y": 1}}}


def test_a_base_is_looked_for_beside_the_file_first(shop: Any) -> None:
    files = {"base.yaml": "a: 1\n", "sub/base.yaml": "a: 2\n", "sub/x.yaml": "extends: base\n"}
    project = shop(files)
    assert plain(project, "sub/x") == {"a": 2}


def test_a_loose_file_extends_the_projects_recipes(shop: Any) -> None:
    project = shop({"bases/base.yaml": "a: 1\n"})
    loose = project.root / "mine.yaml"
    loose.write_text("extends: bases/base\nb: 2\n", encoding="utf-8")
    assert plain(project, "mine.yaml") == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("extends", "message"),
    [
        ("5", "a.yaml:1:10: extends should name a recipe file"),
        ("{a: b}", "a.yaml:1:10: extends should name a recipe file"),
        ("null", "a.yaml:1:10: extends should name a recipe file"),
        ("[5, bases/base, [x]]", "a.yaml:1:11: extends should name a recipe file"),
        ("bases/bse", "a.yaml:1:10: extends bases/bse.yaml, which is not there"),
        ("[bases/base, no.yaml]", "a.yaml:1:23: extends no.yaml, which is not there"),
        ("''", "a.yaml:1:10: extends .yaml, which is not there"),
        ("a", "a.yaml:1:10: recipes that extend each other in a circle: recipes/a.yaml ->"),
        ("b", "b.yaml:1:10: recipes that extend each other in a circle: recipes/a.yaml ->"),
        ("'" + "x" * 5000 + "'", "which is not there"),
    ],
)
def test_what_cannot_be_extended(shop: Any, extends: str, message: str) -> None:
    project = shop(
        {
            "a.yaml": f"extends: {extends}\n",
            "b.yaml": "extends: a\n",
            "bases/base.yaml": "a: 1\n",
        }
    )
    text = fault(project, "a")
    assert message in text
    assert text.count("\n  "), "there is a next step"


def test_a_missing_base_is_looked_for_by_similarity(shop: Any) -> None:
    text = fault(shop({"a.yaml": "extends: bases/bse\n", "bases/base.yaml": "a: 1\n"}), "a")
    assert "looked in recipes, installed; did you mean 'bases/base'?" in text


def test_both_wrong_names_of_a_list_are_reported(shop: Any) -> None:
    text = fault(shop({"a.yaml": "extends: [5, x, 7]\n"}), "a")
    assert "a.yaml:1:11" in text and "a.yaml:1:17" in text


def test_faults_of_a_base_are_placed_there(shop: Any) -> None:
    project = shop({"a.yaml": "extends: bases/base\n", "bases/base.yaml": "a: 1\na: 2\n"})
    assert fault(project, "a").startswith("recipes/bases/base.yaml:2:1: 'a' is given twice")


PRESETS = """\
seeds: 3
claims: {a: {x: 1}}
presets:
  smoke: {seeds: 1, claims: {a: null}}
  full: {}
"""


def test_presets_and_overrides_are_laid_on_in_this_order(shop: Any) -> None:
    project = shop({"a.yaml": PRESETS})
    file = located(project, "a")
    assert presets_of(project, file) == ("smoke", "full")
    whole = resolved(project, file, "smoke", ("seeds=7",))
    assert whole.tree.plain() == {"seeds": 7, "claims": {}}
    assert whole.plain.plain() == {"seeds": 3, "claims": {"a": {"x": 1}}}
    assert whole.presets == ("smoke", "full")
    assert resolved(project, file, None).tree.plain() == whole.plain.plain()


def test_a_child_changes_adds_and_removes_presets(shop: Any) -> None:
    child = "extends: a\npresets: {smoke: {budget: 1ep}, full: null, more: {seeds: 9}}\n"
    project = shop({"a.yaml": PRESETS, "b.yaml": child})
    file = located(project, "b")
    assert presets_of(project, file) == ("smoke", "more")
    tree = resolved(project, file, "smoke").tree
    assert tree.plain() == {"seeds": 1, "claims": {}, "budget": "1ep"}
    assert str(tree.place(("seeds",))) == "recipes/a.yaml:4:11"
    assert str(tree.place(("budget",))) == "recipes/b.yaml:2:19"


def test_an_unknown_preset(shop: Any) -> None:
    project = shop({"a.yaml": PRESETS})
    with pytest.raises(RecipeError) as caught:
        resolved(project, located(project, "a"), "smok")
    assert str(caught.value) == (
        "recipes/a.yaml: no preset 'smok'\n  did you mean 'smoke'?  there are: full, smoke"
    )


@pytest.mark.parametrize(
    ("presets", "place", "message"),
    [
        ("5", "1:1", "presets should be a mapping of names to fields"),
        ("null", "1:1", "presets should be a mapping of names to fields"),
        ("[smoke]", "1:1", "presets should be a mapping of names to fields"),
        ("{smoke: 5}", "1:11", "presets.smoke should be a mapping of the fields that it changes"),
        ("{smoke: [a]}", "1:11", "presets.smoke should be a mapping of the fields"),
        ("{a/b: {}}", "1:11", "preset 'a/b' becomes part of a folder's name"),
        ("{..: {}}", "1:11", "preset '..' becomes part of a folder's name"),
        ("{a: {extends: b}}", "1:15", "a preset cannot hold 'extends'"),
        ("{a: {presets: {}}}", "1:15", "a preset cannot hold 'presets'"),
    ],
)
def test_faults_of_presets_are_found_with_or_without_one(
    shop: Any, presets: str, place: str, message: str
) -> None:
    project = shop({"a.yaml": f"presets: {presets}\n"})
    for preset in (None, "smoke"):
        with pytest.raises(RecipeError) as caught:
            resolved(project, located(project, "a"), preset)
        (problem,) = caught.value.problems
        assert problem.where == f"recipes/a.yaml:{place}"
        assert problem.message.startswith(message)
        assert problem.hint
