"""What pyproject.toml says must be installed is what is there."""

from __future__ import annotations

import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def packages_in(folder: str, installed_as: str) -> set[str]:
    """Dotted names of the packages below `folder`, under the name they are installed by."""
    return {
        ".".join((installed_as, *init.parent.relative_to(ROOT / folder).parts))
        for init in (ROOT / folder).rglob("__init__.py")
    }


def test_every_package_is_listed(pyproject: dict[str, Any]) -> None:
    on_disk = packages_in("labctl", "labctl") | packages_in("plugins", "labctl_plugins")
    assert set(pyproject["tool"]["setuptools"]["packages"]) == on_disk | {"labctl_recipes"}


def test_every_plugin_is_announced(pyproject: dict[str, Any]) -> None:
    folders = {init.parent.name for init in (ROOT / "plugins").glob("*/__init__.py")}
    announced = pyproject["project"]["entry-points"]["labctl.plugins"]
    bundled = {name: f"labctl_plugins.{name}" for name in folders}
    assert announced == {"labctl": "labctl.builtin"} | bundled


def test_every_labctl_folder_with_code_is_a_package() -> None:
    """Import-linter passes over a folder without `__init__.py`."""
    folders = {path.parent for path in (ROOT / "labctl").rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_plugins_is_no_package() -> None:
    """`labctl_plugins` is a namespace, which other distributions may add to."""
    assert not (ROOT / "plugins" / "__init__.py").exists()


def test_the_recipes_are_found_where_they_are_installed() -> None:
    spec = find_spec("labctl_recipes")
    assert spec is not None and spec.submodule_search_locations is not None
    # An editable install adds a placeholder that is no folder.
    folders = [Path(place) for place in spec.submodule_search_locations if Path(place).is_dir()]
    installed = {path.relative_to(folder) for folder in folders for path in folder.rglob("*.yaml")}
    recipes = ROOT / "recipes"
    assert installed == {path.relative_to(recipes) for path in recipes.rglob("*.yaml")}
