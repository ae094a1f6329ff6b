"""A run: the folder in which a plan was carried out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from labctl.errors import RunError, UsageError, did_you_mean
from labctl.plans.plan import MeasurementPart, Plan
from labctl.project import Project, is_file

from .address import address_of, called, known
from .atomic import write_json, write_text
from .journal import Journal, segments
from .lock import is_held
from .status import Status

ASIDE = ".aside-"
"""After the name of a run's folder, of one that was set aside."""


@dataclass(frozen=True)
class Run:
    """Paths and state of one run folder: `runs/<recipe@preset>/<group>/seed=<n>/`."""

    folder: Path

    @property
    def lock_path(self) -> Path:
        return self.folder / "lock"

    @property
    def log_path(self) -> Path:
        """Everything that the worker printed."""
        return self.folder / "worker.log"

    @property
    def checkpoint_path(self) -> Path:
        return self.folder / "checkpoint.pt"

    @property
    def weights_path(self) -> Path:
        """The trained weights of a finished run."""
        return self.folder / "weights.pt"

    @property
    def predictions_path(self) -> Path:
        """Of each split of labelled examples the classes that a finished run predicted, and under
        `SPLIT_targets` those that they are."""
        return self.folder / "predictions.npz"

    @property
    def source_path(self) -> Path:
        """Code of the plugins as it was when the run was planned."""
        return self.folder / "source"

    @property
    def stop_path(self) -> Path:
        """Exists while somebody asks the worker to stop."""
        return self.folder / "stop"

    @property
    def end_path(self) -> Path:
        """Written by the worker last: the status in which it ended."""
        return self.folder / "end.json"

    @cached_property
    def plan(self) -> Plan:
        """The plan that is carried out here.

        Raises:
            RunError: it is missing or damaged.
        """
        path = self.folder / "plan.json"
        try:
            return Plan.model_validate_json(path.read_bytes())
        except OSError as error:
            raise RunError(f"no plan: {error.strerror}", where=str(path)) from None
        except ValidationError as error:
            raise RunError(
                f"the plan cannot be read ({error.error_count()} problems): "
                "damaged, or of another labctl version",
                where=str(path),
                hint="move the folder away and run the recipe again; "
                "the journal in it stays readable",
            ) from None

    @property
    def is_readable(self) -> bool:
        """Whether its plan can be read."""
        try:
            return bool(self.plan)
        except RunError:
            return False

    def create(self, plan: Plan, provenance: dict[str, Any]) -> None:
        """Write provenance, once, and the plan.

        A plan of the same key may differ in what is no part of the work: its title, its
        measurements. A run that has begun goes on to log as often as it did: means over other
        stretches could be compared with none.
        """
        if segments(self.folder):
            plan = self._logging_as_before(plan)
        if not (self.folder / "provenance.json").exists():
            write_json(self.folder / "provenance.json", provenance)
        text = plan.model_dump_json(indent=1, by_alias=True) + "\n"
        path = self.folder / "plan.json"
        if not path.exists() or path.read_bytes() != text.encode():
            write_text(path, text)
            self.__dict__.pop("plan", None)

    def _logging_as_before(self, plan: Plan) -> Plan:
        try:
            before = self.plan.runtime.log_every
        except RunError:
            return plan
        runtime = plan.runtime.model_copy(update={"log_every": before})
        return plan.model_copy(update={"runtime": runtime})

    @property
    def status(self) -> Status:
        """As the folder says now."""
        if is_held(self.lock_path):
            return Status.RUNNING
        if end := self.end:
            return Status(end["status"])
        if is_held(self.lock_path):  # a worker took it between the two looks
            return Status.RUNNING
        return Status.LOST if segments(self.folder) else Status.PENDING

    @property
    def is_planned(self) -> bool:
        """Whether there is a plan, even one that cannot be read; what is set aside has none."""
        return (self.folder / "plan.json").exists()

    @property
    def set_aside(self) -> list[Path]:
        """Folders of earlier beginnings of this run, which nobody goes on with."""
        return sorted(self.folder.parent.glob(f"{self.folder.name}{ASIDE}*"))

    @property
    def is_begun(self) -> bool:
        """Whether a worker has taken it up, whatever became of that."""
        return self.status is not Status.PENDING

    @property
    def end(self) -> dict[str, Any] | None:
        """What the worker wrote last: status, step, message; None if it has not ended."""
        try:
            end = json.loads(self.end_path.read_text(encoding="utf-8"))
            Status(end["status"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return dict(end)

    def needs(self, plan: Plan) -> bool:
        """Whether `plan` asks for work that has not ended here: training, or, of a trained run,
        measurements. A run that diverged or was halted has none to take."""
        end = self.end
        if end is None or not Status(end["status"]).is_final:
            return True
        return Status(end["status"]) is Status.DONE and bool(self.unmeasured(plan))

    def unmeasured(self, plan: Plan) -> list[MeasurementPart]:
        """Measurements of `plan` that were not taken, or asked something else when they were, or by
        other code."""
        return [part for part in plan.measures if not self._has_measured(part)]

    def _has_measured(self, part: MeasurementPart) -> bool:
        if not (self.folder / "measurements" / part.name / "values.json").exists():
            return False
        asked = self.asked(part.name)
        if asked is None:  # of before it was kept
            return True
        return asked == part if asked.plugin else asked.config == part.config

    def asked(self, measurement: str) -> MeasurementPart | None:
        """What a measurement was last begun as, without a plugin if by whose code was not kept;
        None if nothing is known."""
        asked = self._json(f"measurements/{measurement}/asked.json")
        try:
            return MeasurementPart(**asked)
        except ValidationError:  # its config alone, before code counted
            return MeasurementPart(name=measurement, plugin="", config=asked) if asked else None

    @property
    def taken(self) -> tuple[MeasurementPart, ...]:
        """What the plan measures, as it was begun; as it is planned where that is not known."""
        known = [(part, self.asked(part.name)) for part in self.plan.measures]
        return tuple(asked if asked and asked.plugin else part for part, asked in known)

    def measured(self, measurement: str) -> dict[str, float]:
        """What a measurement found; empty if it was not taken."""
        values = self._json(f"measurements/{measurement}/values.json")
        return {name: float(value) for name, value in values.items()}

    @property
    def provenance(self) -> dict[str, Any]:
        return self._json("provenance.json")

    @property
    def ledger(self) -> dict[str, Any]:
        """FLOPs of the work, see `labctl.train.cost.ledger`; empty if they were not counted."""
        return self._json("ledger.json")

    @property
    def progress(self) -> dict[str, Any]:
        """The worker's latest word: step, loss, time; nothing if it makes no sense."""
        told = self._json("progress.json")
        return told if isinstance(told.get("step", 0), int) else {}

    def _json(self, name: str) -> dict[str, Any]:
        try:
            value = json.loads((self.folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}

    @property
    def journal(self) -> Journal:
        """Read afresh at each call."""
        return Journal.read(self.folder)

    def request_stop(self) -> None:
        write_text(self.stop_path, "")

    def withdraw_stop(self) -> None:
        """Forget what was asked of an earlier command; a worker that has the run still heeds it."""
        if self.status is not Status.RUNNING:
            self.stop_path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder)


def run_of(project: Project, plan: Plan) -> Run:
    """Where `plan` is carried out."""
    return Run(project.runs / plan.label / plan.group[:8] / f"seed={plan.work.seed}")


def run_folders(project: Project) -> Iterator[Run]:
    """Every folder that could be a run's, in order of names, whatever is in it.

    What lies inside a run's own folder, stored code or a repetition, is not among them.
    """
    for path in sorted(project.runs.glob("**/seed=*")):
        inside = path.relative_to(project.runs)
        if path.is_dir() and not any(part.startswith("seed=") for part in inside.parts[:-1]):
            yield Run(path)


def all_runs(project: Project) -> Iterator[Run]:
    """Every run of the project, in order of names; folders without a readable plan are left out."""
    for run in run_folders(project):
        try:
            _ = run.plan
        except RunError:
            continue
        yield run


def find_runs(project: Project, text: str) -> list[Run]:
    """The runs that `text` means: a folder, or what `called` takes.

    Raises:
        UsageError: there is none.
    """
    path = Path(text)
    if is_file(path / "plan.json"):
        return [Run(path.resolve())]
    runs = {run: address_of(run.plan) for run in all_runs(project)}
    if found := called(text, runs):
        return found
    raise UsageError(f"no run {text!r}", hint=did_you_mean(text, known(runs)))


def find_run(project: Project, text: str) -> Run:
    """The one run that `text` means.

    Raises:
        UsageError: there is none, or there are several.
    """
    found = find_runs(project, text)
    if len(found) > 1:
        names = [run.plan.name for run in found]
        keys = [
            name if names.count(name) == 1 else run.plan.key
            for name, run in zip(names, found, strict=True)
        ]
        raise UsageError(
            f"{text!r} means {len(found)} runs", hint=f"name one: {', '.join(map(repr, keys))}"
        )
    return found[0]
