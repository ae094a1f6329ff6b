"""Runs as a table to compute with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labctl.recipe.derived import DERIVED
from labctl.reports.quantity import value_of
from labctl.reports.result import result_of
from labctl.store.run import Run, all_runs

from .opening import Where, opened

if TYPE_CHECKING:
    import pandas


def runs(project: Where = None) -> pandas.DataFrame:
    """A row for each run of the project, whatever became of it, by recipe and seed.

    Columns: what the run is (`recipe`, `preset`, `seed`, `key`, `group`, `data`), how it stands
    (`status`, `steps`, `message`, `ended`), what it ran on (`device`, `torch`, `commit`), figures
    of runs that came to an end (`time` and `wall` in seconds, `flops`, `parameters`, `tokens`,
    `gap` in points), the last value of each metric by its name (accuracies as fractions), a column
    `set FIELD` for each field that was set otherwise than in the recipe, and the run's `folder`.
    """
    import pandas

    found, _ = opened(project)
    rows = [_row(run) for run in all_runs(found)]
    frame = pandas.DataFrame(rows)
    if rows:
        frame = frame.sort_values(["recipe", "preset", "group", "seed"], ignore_index=True)
    return frame


def _row(run: Run) -> dict[str, Any]:
    told = result_of(run)
    conditions = told.conditions[-1] if told.conditions else None
    derived = {n: value_of(told, n) if told.status.is_final else None for n in DERIVED}
    return {
        "recipe": told.recipe,
        "preset": told.preset or "",
        "seed": told.seed,
        "key": told.key,
        "group": told.group,
        "data": told.data,
        "status": str(told.status),
        "steps": told.steps,
        "message": told.message,
        "ended": told.ended if told.conditions else "",
        "device": conditions.device_name or conditions.device if conditions else "",
        "torch": conditions.torch if conditions else "",
        "commit": told.provenance.commit[:10],
        **derived,
        **{f"set {field}": value for field, value in told.point.items()},
        **{name: value for name, value in told.metrics.items() if not name.startswith("knob/")},
        "folder": str(run.folder),
    }
