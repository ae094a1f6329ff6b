"""Tables of what was trained."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from labctl.reports.grid import Grid
from labctl.reports.report import report as make

from .opening import Where, opened


def report(
    table: str | Path = "main",
    preset: str | None = None,
    bundles: Path | str | Iterable[Path | str] = (),
    *,
    plots: bool | None = True,
    project: Where = None,
) -> Grid:
    """A table of recipes/tables/: means over seeds, and what qualifies them.

    Args:
        table: its name or path, or the name of a sweep.
        preset: of its recipes.
        bundles: published results that are read beside those of docs/results/.
        plots: draw what can be drawn of it; None: if it shows a sweep.
        project: the project or its folder; the working folder if not given.

    Raises:
        UsageError: no such table.
        RecipeError: a fault of the table or of a recipe.
        RunError: a bundle that cannot be read.
    """
    named = [bundles] if isinstance(bundles, str | Path) else bundles
    return make(*opened(project), str(table), preset, tuple(map(Path, named)), plots=plots)
