"""What MLflow is to show of a run: a pure function of the run's folder."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from labctl.plans.fields import fields_of
from labctl.plans.plan import Plan
from labctl.store.journal import Journal
from labctl.store.run import Run
from labctl.store.status import Status

from .names import legal
from .store import shown

SCHEMA = 3
"""Raised when runs are shown differently: other tags, other names."""
FINAL = "final/"
"""Before the name of what a run that is done came to."""
VALUE_LENGTH = 6000
"""Longest value of a parameter, in characters; longer ones are cut. plan.json has them whole."""
TAG_LENGTH = 8000
FILE_LIMIT = 20_000_000
"""Bytes; larger files of a measurement stay in the run's folder alone."""

ENDED = (Status.DONE, Status.FAILED, Status.DIVERGED, Status.HALTED, Status.STOPPED)
MLFLOW_STATUS = {
    Status.PENDING: "SCHEDULED",
    Status.RUNNING: "RUNNING",
    Status.DONE: "FINISHED",
    Status.FAILED: "FAILED",
    Status.DIVERGED: "FAILED",
    Status.HALTED: "FINISHED",
    Status.STOPPED: "KILLED",
    Status.LOST: "KILLED",
}


class Point(NamedTuple):
    """One value of a metric, as MLflow takes it."""

    name: str
    value: float
    time_ms: int
    """Milliseconds since 1970, when the value was recorded."""
    step: int


@dataclass(frozen=True)
class Projection:
    """A run as it stands now."""

    run: Run
    plan: Plan
    status: Status
    journal: Journal

    @classmethod
    def of(cls, run: Run) -> Projection | None:
        """None if the run has recorded nothing yet.

        Raises:
            RunError: its plan cannot be read.
        """
        status = run.status
        journal = run.journal
        if not journal.records:
            return None
        # If a new attempt began meanwhile, the journal may hold what can still be superseded.
        if status in ENDED and run.status != status:
            status = Status.RUNNING
        return cls(run, run.plan, status, journal)

    @property
    def start_ms(self) -> int:
        """When the first attempt began: with the key, what tells this run from any other."""
        return _ms(self.journal.records[0].time)

    @property
    def end_ms(self) -> int | None:
        """When the run ended, or was last heard of; None while it is running."""
        if self.status is Status.RUNNING:
            return None
        end = self.run.end or {}
        return _ms(end.get("time", self.journal.records[-1].time))

    @property
    def durable_step(self) -> float:
        """The last step that no later attempt can supersede; infinite once the run ended."""
        return math.inf if self.status in ENDED else self.journal.durable_step

    def points(self) -> list[Point]:
        """Every finite value of every metric, one per step, in order of steps."""
        finite = {at: found for at, found in self._values().items() if math.isfinite(found[0])}
        points = [
            Point(legal(name), value, time_ms, step)
            for (name, step), (value, time_ms) in finite.items()
        ]
        return sorted(points, key=lambda point: point.step)

    def _values(self) -> dict[tuple[str, int], tuple[float, int]]:
        values: dict[tuple[str, int], tuple[float, int]] = {}
        last: dict[str, int] = {}
        for record in self.journal.of("metrics"):
            for name, value in record.values.items():
                values[name, record.step] = value, _ms(record.time)
                last[name] = record.step
        if self.status is Status.DONE:
            for name, step in last.items():
                if name.startswith(("test/", "val/")):
                    values[f"{FINAL}{name}", step] = values[name, step]
        if self.status.is_final:
            step = self.journal.records[-1].step
            values["diverged", step] = float(self.status is Status.DIVERGED), self.end_ms or 0
        return values

    def params(self) -> dict[str, str]:
        """The plan's work, flattened, by the fields of a recipe: `optimizer.momentum`."""
        work = self.plan.work.model_dump(mode="json", by_alias=True)
        return {legal(name): text[:VALUE_LENGTH] for name, text in _flat("", fields_of(work))}

    def group_tags(self) -> dict[str, str]:
        """What the replicates of a group have in common."""
        plan = self.plan
        return {
            "labctl.schema": str(SCHEMA),
            "labctl.recipe": plan.recipe,
            "labctl.label": plan.label,
            "labctl.group": plan.group,
            **({"labctl.preset": plan.preset} if plan.preset else {}),
            **({"labctl.tags": ", ".join(plan.tags)} if plan.tags else {}),
            **({"mlflow.note.content": plan.title[:TAG_LENGTH]} if plan.title else {}),
        }

    def tags(self) -> dict[str, str]:
        """What is known when the run begins, and written once: notes are the reader's to edit."""
        provenance = self.run.provenance
        git = provenance.get("git") or {}
        source = {
            "mlflow.source.type": "LOCAL",
            "mlflow.source.name": provenance.get("recipe"),
            "mlflow.source.git.commit": git.get("commit"),
            "mlflow.source.git.branch": git.get("branch"),
            "mlflow.source.git.repoURL": shown(git.get("remote") or ""),
            "mlflow.source.git.dirty": str(git["is_dirty"]).lower() if "is_dirty" in git else None,
        }
        return {
            **self.group_tags(),
            "labctl.kind": "run",
            "labctl.key": self.plan.key,
            "labctl.seed": str(self.plan.work.seed),
            **{name: str(value)[:TAG_LENGTH] for name, value in source.items() if value},
        }

    def state(self) -> dict[str, str]:
        """The tags that change as the run goes on; those without a value are left out."""
        state = {
            "labctl.status": self.status.value,
            "labctl.attempts": str(self.journal.attempts),
            "labctl.message": str((self.run.end or {}).get("message", "")),
            "labctl.not_finite": ", ".join(self._first_not_finite()),
        }
        return {name: value[:TAG_LENGTH] for name, value in state.items() if value}

    def _first_not_finite(self) -> Iterator[str]:
        for name, curve in self.journal.curves.items():
            steps = [step for step, value in curve.items() if not math.isfinite(value)]
            if steps:
                yield f"{name} at step {min(steps)}"

    def files(self) -> Iterator[tuple[str, Path]]:
        """Artifacts by name; those of measurements once the run ended.

        The plan is called otherwise than in the run's folder: what is named plan.json under the
        runs folder, where these artifacts may lie, is a run.
        """
        folder = self.run.folder
        for name, path in {
            "resolved_plan.json": folder / "plan.json",
            "provenance.json": folder / "provenance.json",
            "code.patch": folder / "code.patch",
            "ledger.json": folder / "ledger.json",
        }.items():
            if path.exists():
                yield name, path
        if self.status in ENDED:
            for path in sorted((folder / "measurements").rglob("*")):
                if path.is_file() and path.stat().st_size <= FILE_LIMIT:
                    yield path.relative_to(folder).as_posix(), path


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Dotted names with texts; lists stay whole."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flat(f"{name}.{key}" if name else str(key), item)
    else:
        yield name, value if isinstance(value, str) else json.dumps(value)
