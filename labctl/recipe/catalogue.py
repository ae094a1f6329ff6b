"""Where recipes are found, and what one comes to with all that it extends.

A recipe is named by its path, or by its name in the project's `recipes/` or among those that are
bundled with labctl.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from labctl.errors import Problem, RecipeError, UsageError, did_you_mean
from labctl.project import Project, is_file

from .layers import NOTHING, laid, overridden, point_of
from .source import Mark, Node, read

ASIDE = ("bases", "sweeps", "tables")
"""Folders of `recipes/` whose files are not recipes to run by themselves."""
SUFFIXES = (".yml", ".yaml")
_PRESET = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class RecipeFile:
    """A recipe on disk: its name is its path below `recipes/`, without the suffix."""

    name: str
    path: Path
    is_bundled: bool


@dataclass(frozen=True, slots=True)
class Composition:
    """A recipe with everything laid in."""

    tree: Node
    """What counts: all that it extends, the recipe, the preset, the overrides."""
    plain: Node
    """The same without preset and overrides."""
    presets: tuple[str, ...]
    point: Mapping[str, Any]
    """What the overrides set, but for the seeds: plain values by dotted path, in order of paths."""


@cache
def bundled_root() -> Path | None:
    """The folder of recipes that came with labctl, in a wheel or in a checkout."""
    spec = importlib.util.find_spec("labctl_recipes")
    places = list(spec.submodule_search_locations or []) if spec else []
    places.append(str(Path(__file__).parents[2] / "recipes"))
    return next((Path(place).resolve() for place in places if Path(place).is_dir()), None)


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    """Name and path of every YAML file below `root`; of two with one name, `.yaml` comes last."""
    for suffix in SUFFIXES:
        for path in sorted(root.rglob(f"*{suffix}")):
            relative = path.relative_to(root)
            if not any(part.startswith(".") for part in relative.parts):
                yield relative.with_suffix("").as_posix(), path


def listed(project: Project, folder: str = "") -> dict[str, RecipeFile]:
    """Recipes by name, or the files of one folder aside (`tables`).

    The project's own win over bundled ones.
    """
    bundled = bundled_root()
    found: dict[str, RecipeFile] = {}
    for root in (bundled, project.recipes):
        if root is None or not root.is_dir():
            continue
        is_bundled = root == bundled and project.recipes.resolve() != bundled
        for name, path in _files(root):
            first = name.partition("/")[0] if "/" in name else ""
            if (first == folder) if folder else (first not in ASIDE):
                found[name] = RecipeFile(name, path, is_bundled)
    return dict(sorted(found.items()))


def located(project: Project, name: str) -> RecipeFile:
    """The recipe that `name` means: a path, or a name in the catalogue.

    Raises:
        UsageError: there is none.
    """
    path = Path(name)
    known = listed(project)
    is_path = path.suffix in SUFFIXES
    if not is_path and name in known:
        return known[name]
    for candidate in (path, project.root / path):
        if is_file(candidate):
            found = candidate.resolve()
            return RecipeFile(_name_of(project, found), found, is_bundled=False)
    if not is_path:
        raise UsageError(f"no recipe {name!r}", hint=did_you_mean(name, known))
    # `recipes/x.yaml`, typed from elsewhere or for a bundled recipe.
    parts = path.with_suffix("").parts
    inside = "/".join(parts[1:] if parts[0] == "recipes" else parts)
    if inside not in known:
        raise UsageError(f"no recipe file {name}", hint=did_you_mean(inside, known))
    return known[inside]


def _name_of(project: Project, path: Path) -> str:
    for root in (project.recipes.resolve(), bundled_root()):
        if root is not None and path.is_relative_to(root):
            return path.relative_to(root).with_suffix("").as_posix()
    return path.stem


def composed(project: Project, file: RecipeFile, seen: tuple[Path, ...] = ()) -> Node:
    """The recipe's tree with everything that it extends, later files laid on earlier ones.

    Raises:
        RecipeError: a file cannot be read, or is extended by itself.
    """
    path = file.path.resolve()
    seen = (*seen, path)
    tree = read(path, project.shown(path))
    under = NOTHING
    for base in _bases(tree):
        below = _base_file(project, path, base)
        if below.path in seen:
            chain = " -> ".join(project.shown(path) for path in (*seen, below.path))
            message = f"recipes that extend each other in a circle: {chain}"
            hint = "remove one `extends:` of the circle"
            raise RecipeError(message, where=str(base.mark), hint=hint)
        under = laid(under, composed(project, below, seen))
    own = {key: child for key, child in tree.children.items() if key != "extends"}
    return laid(under, Node(own, tree.mark, tree.keys))


def _bases(tree: Node) -> list[Node]:
    """What a recipe extends: one name, or a list of names."""
    extends = tree.get("extends")
    if extends is None:
        return []
    bases = extends.value if isinstance(extends.value, list) else [extends]
    hint = "extends: bases/x.yaml, or a list of such"
    wrong = [base.mark for base in bases if not isinstance(base.value, str)]
    if wrong:
        problem = "extends should name a recipe file"
        raise RecipeError([Problem(problem, str(mark), hint) for mark in wrong])
    return bases


def _base_file(project: Project, path: Path, base: Node) -> RecipeFile:
    """The file that the recipe at `path` extends: beside it, in the project, or bundled."""
    named = str(base.value)
    names = [named] if named.endswith(SUFFIXES) else [named + suffix for suffix in SUFFIXES[::-1]]
    roots = [root for root in (path.parent, project.recipes, bundled_root()) if root is not None]
    for root in roots:
        for name in names:
            if is_file(root / name):
                found = (root / name).resolve()
                return RecipeFile(_name_of(project, found), found, is_bundled=False)
    looked = ", ".join(dict.fromkeys(project.shown(root) for root in roots))
    near = [name for root in roots[1:] for name, _ in _files(root)]
    hint = f"looked in {looked}; {did_you_mean(names[0].removesuffix(SUFFIXES[1]), near)}"
    raise RecipeError(f"extends {names[0]}, which is not there", where=str(base.mark), hint=hint)


def resolved(
    project: Project, file: RecipeFile, preset: str | None, overrides: tuple[str, ...] = ()
) -> Composition:
    """The recipe with all that it extends, its preset and the overrides laid in.

    Raises:
        RecipeError: an unknown preset, an override that is none, or a fault of a file.
    """
    tree = composed(project, file)
    presets = _presets(tree)
    children = {key: child for key, child in tree.children.items() if key != "presets"}
    plain = final = Node(children, tree.mark, tree.keys)
    if preset is not None:
        if preset not in presets:
            hint = did_you_mean(preset, presets)
            raise RecipeError(f"no preset {preset!r}", where=project.shown(file.path), hint=hint)
        final = laid(final, presets[preset])
    tree = overridden(final, overrides)
    return Composition(tree, plain, tuple(presets), point_of(overrides))


def presets_of(project: Project, file: RecipeFile) -> tuple[str, ...]:
    """Names of a recipe's presets.

    Raises:
        RecipeError: a fault of a file.
    """
    return tuple(_presets(composed(project, file)))


def tags_of(project: Project, file: RecipeFile) -> tuple[str, ...]:
    """Tags of a recipe, as far as they are words.

    Raises:
        RecipeError: a fault of a file.
    """
    tags = (composed(project, file).get("tags") or NOTHING).plain()
    return tuple(tag for tag in tags if isinstance(tag, str)) if isinstance(tags, list) else ()


def _presets(tree: Node) -> dict[str, Node]:
    block = tree.get("presets")
    if block is None:
        return {}
    if not isinstance(block.value, dict):
        where = str(tree.keys.get("presets", block.mark))
        hint = "presets: {smoke: {budget: 2ep}}"
        raise RecipeError("presets should be a mapping of names to fields", where=where, hint=hint)
    problems = []
    for name, preset in block.value.items():
        mark: Mark = block.keys[name]
        if not _PRESET.fullmatch(name):
            problem = f"preset {name!r} becomes part of a folder's name"
            problems.append(Problem(problem, str(mark), "use letters, digits, . _ and -"))
        if not isinstance(preset.value, dict):
            problem = f"presets.{name} should be a mapping of the fields that it changes"
            problems.append(Problem(problem, str(mark), f"{name}: {{budget: 2ep}}"))
        problems += [
            Problem(f"a preset cannot hold {key!r}", str(preset.keys[key]), "move it to the top")
            for key in ("extends", "presets")
            if preset.get(key) is not None
        ]
    if problems:
        raise RecipeError(problems)
    return dict(block.value)
