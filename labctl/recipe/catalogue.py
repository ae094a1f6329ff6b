"""Where recipes are found: as a path, in the project's `recipes/`, or among those bundled with labctl."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from labctl.errors import Problem, RecipeError, UsageError, did_you_mean
from labctl.project import Project

from .source import Node, merged, override, pruned, read

ASIDE = ("bases", "sweeps", "tables")
"""Folders of `recipes/` whose files are not recipes to run by themselves."""


@dataclass(frozen=True, slots=True)
class RecipeFile:
    """A recipe on disk: its name is its path below `recipes/`, without the suffix."""

    name: str
    path: Path
    is_bundled: bool


@cache
def bundled_root() -> Path | None:
    """The folder of recipes that came with labctl, in a wheel or in a checkout."""
    spec = importlib.util.find_spec("labctl_recipes")
    places = list(spec.submodule_search_locations or []) if spec else []
    places.append(str(Path(__file__).parents[2] / "recipes"))
    return next((Path(place).resolve() for place in places if Path(place).is_dir()), None)


def _below(root: Path, is_bundled: bool, folders: tuple[str, ...] = ()) -> Iterator[RecipeFile]:
    for path in sorted(root.rglob("*.yaml")):
        relative = path.relative_to(root)
        if (relative.parts[0] in folders) if folders else (relative.parts[0] not in ASIDE):
            yield RecipeFile(relative.with_suffix("").as_posix(), path, is_bundled)


def listed(project: Project, folder: str = "") -> dict[str, RecipeFile]:
    """Recipes by name, or the files of one folder aside (`tables`); the project's own win over bundled ones."""
    folders = (folder,) if folder else ()
    roots = [(bundled_root(), True), (project.recipes, False)]
    found: dict[str, RecipeFile] = {}
    for root, is_bundled in roots:
        if root is not None and root.is_dir():
            same = not is_bundled and root.resolve() == bundled_root()
            found |= {file.name: file for file in _below(root, is_bundled and not same, folders)}
    return found


def located(project: Project, name: str) -> RecipeFile:
    """The recipe that `name` means: a path, or a name in the catalogue.

    Raises:
        UsageError: there is none.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        for candidate in (path, project.root / path):
            if candidate.is_file():
                return RecipeFile(_name_of(project, candidate.resolve()), candidate.resolve(), is_bundled=False)
        stem = path.stem if path.parent.name != "recipes" else path.with_suffix("").name
        if stem not in listed(project):
            raise UsageError(f"no recipe file {name}", hint=did_you_mean(stem, listed(project)))
        name = stem
    known = listed(project)
    if name not in known:
        raise UsageError(f"no recipe {name!r}", hint=did_you_mean(name, known))
    return known[name]


def _name_of(project: Project, path: Path) -> str:
    for root in (project.recipes, bundled_root()):
        if root is not None and path.is_relative_to(root):
            return path.relative_to(root).with_suffix("").as_posix()
    return path.stem


def composed(project: Project, file: RecipeFile, seen: tuple[Path, ...] = ()) -> Node:
    """The recipe's tree with everything that it extends, later files laid on earlier ones."""
    if file.path in seen:
        chain = " -> ".join(project.shown(path) for path in (*seen, file.path))
        raise RecipeError(f"recipes that extend each other in a circle: {chain}", where=project.shown(file.path))
    tree = read(file.path, project.shown(file.path))
    extends = tree.get("extends")
    assert isinstance(tree.value, dict)
    own = Node({k: v for k, v in tree.value.items() if k != "extends"}, tree.mark, tree.keys)
    if extends is None:
        return own
    bases = extends.value if isinstance(extends.value, list) else [extends]
    under: Node | None = None
    for base in bases:
        if not isinstance(base.value, str):
            raise RecipeError("extends must name a recipe file", where=str(base.mark), hint="extends: bases/x.yaml")
        below = composed(project, _base_of(project, file, base), (*seen, file.path))
        under = below if under is None else merged(under, below)
    return own if under is None else merged(under, own)


def _base_of(project: Project, file: RecipeFile, base: Node) -> RecipeFile:
    relative = str(base.value)
    relative = relative if relative.endswith((".yaml", ".yml")) else relative + ".yaml"
    roots = [file.path.parent, project.recipes, bundled_root()]
    for root in roots:
        if root is not None and (root / relative).is_file():
            path = (root / relative).resolve()
            return RecipeFile(_name_of(project, path), path, is_bundled=False)
    looked = ", ".join(project.shown(root) for root in roots if root is not None)
    raise RecipeError(f"extends {relative}, which is not there", where=str(base.mark), hint=f"looked in {looked}")


def resolved(project: Project, file: RecipeFile, preset: str | None, overrides: tuple[str, ...]) -> tuple[Node, Node]:
    """The tree that counts: composed, preset and overrides laid on. Also the tree before those two.

    Raises:
        RecipeError: an unknown preset, an override that is none, or a fault of a file.
    """
    tree = composed(project, file)
    presets = tree.get("presets")
    assert isinstance(tree.value, dict)
    plain = Node({k: v for k, v in tree.value.items() if k != "presets"}, tree.mark, tree.keys)
    final = plain
    if preset is not None:
        chosen = presets.get(preset) if presets is not None else None
        if chosen is None:
            known = list(presets.value) if presets is not None and isinstance(presets.value, dict) else []
            raise RecipeError(
                f"no preset {preset!r}", where=project.shown(file.path), hint=did_you_mean(preset, known)
            )
        final = merged(final, chosen)
    problems: list[Problem] = []
    for text in overrides:
        try:
            final = merged(final, override(text))
        except RecipeError as error:
            problems += error.problems
    if problems:
        raise RecipeError(problems)
    return pruned(final), pruned(plain)
