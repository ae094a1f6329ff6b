"""A new plugin, made from one that works: `skeleton`, beside this file, under another name."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from labctl.errors import UsageError
from labctl.project import Project
from labctl.recipe.catalogue import listed
from labctl.registry.card import Architecture
from labctl.registry.registry import Registry
from labctl.store.atomic import write_text

from .naming import RULE, is_name, nearest

SKELETON = Path(__file__).with_name("skeleton")
FILES = {
    "__init__.py": "plugins/skeleton/__init__.py",
    "config.py": "plugins/skeleton/config.py",
    "model.py": "plugins/skeleton/model.py",
    "README.md": "plugins/skeleton/README.md",
    # Not `test_...` here: pytest would take it for a test of labctl.
    "conformance.py": "plugins/skeleton/test_skeleton.py",
    "recipe.yaml": "recipes/skeleton.yaml",
}
"""Each file of the skeleton, and where a project has it."""


def write(project: Project, registry: Registry, name: str) -> list[Path]:
    """Write `plugins/NAME/` and `recipes/NAME.yaml`; the files, in the order to read them.

    Raises:
        UsageError: the name is no name, or taken, or something of that name is there.
        EnvironmentProblem: the disk refuses.
    """
    _check_name(name)
    _check_free(project, registry, name)
    written = []
    for source, target in FILES.items():
        text = (SKELETON / source).read_text(encoding="utf-8")
        path = project.root / target.replace("skeleton", name)
        write_text(path, text.replace("skeleton", name))
        written.append(path)
    return written


def _check_name(name: str) -> None:
    if not is_name(name):
        raise UsageError(
            f"{name!r} cannot name a plugin: {RULE}", hint=f"labctl new plugin {nearest(name)}"
        )
    if name in sys.stdlib_module_names or _is_installed(name):
        raise UsageError(
            f"{name!r} is a Python module, which a plugin of that name would hide from its tests",
            hint=f"labctl new plugin {name}_model",
        )


def _is_installed(name: str) -> bool:
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None


def _check_free(project: Project, registry: Registry, name: str) -> None:
    """Nothing of that name is there: no folder, plugin, architecture or recipe."""
    other = f"choose another name: labctl new plugin {name}2"
    folder = project.plugins / name
    if folder.exists():
        raise UsageError(f"{project.shown(folder)} exists", hint=other)
    if name in registry.plugins:
        raise UsageError(
            f"plugin {name!r} is there already, from {registry.plugins[name].origin}", hint=other
        )
    for card, owner in registry.cards(Architecture):
        if card.name == name:
            raise UsageError(
                f"architecture {name!r} is brought by {owner.plugin.origin}", hint=other
            )
    if file := listed(project).get(name):
        raise UsageError(
            f"recipe {name!r} is there already: {project.shown(file.path)}", hint=other
        )
