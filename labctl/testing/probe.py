"""Does a plugin's card side import torch? Asked in a process of its own, which has not."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from labctl.plans.derive import plans
from labctl.plans.sketch import realised
from labctl.project import Project
from labctl.recipe.recipe import load
from labctl.registry.registry import Registry

HEAVY = ("torch", "torchvision", "mlflow", "optuna", "scipy", "matplotlib", "sklearn")
"""What reading a recipe must not import: each takes a second or more."""


class Watch(MetaPathFinder):
    """Finds no module, but notes who asks for a heavy one."""

    def __init__(self) -> None:
        self.stage = ""
        self.found: dict[str, tuple[str, traceback.StackSummary]] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name in HEAVY and name not in self.found:
            self.found[name] = self.stage, traceback.extract_stack()
        return None

    def findings(self, folder: Path) -> list[tuple[str, str]]:
        """What was imported when, and which line of the code below `folder` asked for it."""
        lines = []
        for name, (stage, frames) in self.found.items():
            inside = [frame for frame in frames if Path(frame.filename).is_relative_to(folder)]
            where = f"{inside[-1].filename}:{inside[-1].lineno}" if inside else "not in the plugin"
            lines.append((f"{stage} imports {name}", where))
        return lines


def watched(
    root: Path, plugin: str, recipe: str, preset: str | None, overrides: Sequence[str]
) -> list[tuple[str, str]]:
    """What imports what while the recipe is read, planned and described."""
    project = Project(root)
    registry = Registry(project.plugins, is_quiet=True)
    watch = Watch()
    sys.meta_path.insert(0, watch)
    watch.stage = "loading the cards"
    folder = registry.load(plugin).plugin.folder
    watch.stage = "reading the recipe"
    loaded = load(project, registry, recipe, preset, tuple(overrides))
    watch.stage = "planning"
    plan = plans(loaded)[0]
    watch.stage = "`realised`"
    realised(loaded, plan)
    return watch.findings(folder)


if __name__ == "__main__":
    order = json.loads(sys.argv[1])
    print(json.dumps(watched(Path(order.pop("root")), **order)))
