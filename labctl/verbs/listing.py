"""Runs as a table to compute with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labctl.errors import LabctlError
from labctl.recipe.derived import DERIVED
from labctl.reports.quantity import value_of
from labctl.reports.result import Result, result_of
from labctl.store.run import Run, all_runs

from .opening import Where, opened

if TYPE_CHECKING:
    import pandas


COLUMNS = (
    "recipe", "preset", "seed", "key", "group", "data", "status", "steps", "message", "ended",
    "device", "torch", "commit", *DERIVED, "folder",
)  # fmt: skip
"""That every frame has."""


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
    if not rows:
        return pandas.DataFrame(columns=COLUMNS)
    order = ["recipe", "preset", "group", "seed"]
    return pandas.DataFrame(rows).sort_values(order, ignore_index=True)


def _row(run: Run) -> dict[str, Any]:
    plan = run.plan
    own = {
        "recipe": plan.recipe,
        "preset": plan.preset or "",
        "seed": plan.work.seed,
        "key": plan.key,
        "group": plan.group,
        "data": plan.work.data.name,
        "status": str(run.status),
        "steps": plan.work.steps,
    }
    try:
        found = _found(run, result_of(run))
    except (LabctlError, ValueError, TypeError, KeyError) as error:
        found = {"message": f"its journal cannot be read: {error}"}
    return {**own, **found, "folder": str(run.folder)}


def _found(run: Run, told: Result) -> dict[str, Any]:
    """What became of it."""
    conditions = told.conditions[-1] if told.conditions else None
    derived = {n: value_of(told, n) if told.status.is_final else None for n in DERIVED}
    return {
        "message": told.message,
        "ended": told.ended if run.end else "",
        "device": conditions.device_name or conditions.device if conditions else "",
        "torch": conditions.torch if conditions else "",
        "commit": told.provenance.commit[:10],
        **derived,
        **{f"set {field}": value for field, value in told.point.items()},
        **{name: value for name, value in told.metrics.items() if not name.startswith("knob/")},
    }
