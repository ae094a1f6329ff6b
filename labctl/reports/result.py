"""What a finished run has to say to a table, whether it lies in a folder here or in a bundle."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer

from labctl.registry.config import Config
from labctl.store.journal import Journal, Record
from labctl.store.run import Run
from labctl.store.status import Status

TRAINING_POINTS = 200
"""A training curve keeps at most this many points."""


def _decoded(value: Any) -> Any:
    return float(value) if value in ("nan", "inf", "-inf") else value


def _encoded(value: float) -> float | str:
    return value if math.isfinite(value) else repr(value)


Number = Annotated[
    float, Field(allow_inf_nan=True), BeforeValidator(_decoded), PlainSerializer(_encoded)
]
"""A float that JSON can hold even when it is not finite."""


class Curve(Config):
    """A metric over training."""

    steps: tuple[int, ...]
    values: tuple[Number, ...]

    @classmethod
    def of(cls, points: Mapping[int, float], limit: int | None = None) -> Curve:
        """The curve through `points`: at most `limit` of them, evenly spread, both ends kept."""
        steps = sorted(points)
        if limit is not None and len(steps) > limit:
            spread = (round(place * (len(steps) - 1) / (limit - 1)) for place in range(limit))
            steps = [steps[place] for place in spread]
        return cls(steps=tuple(steps), values=tuple(points[step] for step in steps))

    def at(self, step: int) -> float | None:
        """The value after `step` steps; None if there is none."""
        return self.values[self.steps.index(step)] if step in self.steps else None


class Conditions(Config):
    """What the arithmetic ran on; times measured under different conditions are not compared."""

    device: str = ""
    device_name: str = ""
    torch: str = ""
    threads: int | None = None
    """Threads of the CPU."""
    engine: str = ""
    """How steps were executed, where there is a choice."""
    replicas: int = 1
    """Runs trained together in one process, for most of the steps; times are of those."""
    workers: int = 1
    """Processes that shared the device, as far as their supervisor knew."""

    @property
    def hardware(self) -> str:
        """`NVIDIA H200, 4 CPU threads`."""
        name = self.device_name or self.device or "unknown hardware"
        if not self.threads:
            return name
        threads = "CPU thread" if self.device == "cuda" else "thread"
        return f"{name}, {self.threads} {threads}{'s' if self.threads > 1 else ''}"

    def __str__(self) -> str:
        shared = f", {self.workers} workers" if self.workers > 1 else ""
        together = f", {self.replicas} runs together" if self.replicas > 1 else ""
        engine = f", {self.engine}" if self.engine else ""
        return f"{self.hardware}{shared}, torch {self.torch or 'unknown'}{engine}{together}"

    @property
    def pace(self) -> str:
        """What of it decides how fast steps are on the same hardware."""
        words = [self.engine] if self.engine else []
        words += [f"{self.replicas} runs together"] if self.replicas > 1 else ["alone"]
        words += [f"{self.workers} workers"] if self.workers > 1 else []
        return ", ".join(words)


class Provenance(Config):
    """Where the code came from, without anything that names a machine, a user or a folder."""

    labctl: str = ""
    python: str = ""
    packages: dict[str, str] = {}
    system: str = ""
    cpu_count: int | None = None
    commit: str = ""
    is_dirty: bool = False

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Provenance:
        """What may be published of the facts that a run keeps."""
        git = facts.get("git") or {}
        known = {name: facts[name] for name in cls.model_fields if name in facts}
        return cls(**known, commit=git.get("commit", ""), is_dirty=git.get("is_dirty", False))


class PhaseFact(Config):
    """A stretch of training, and what its structural knobs came to."""

    start: int
    end: int
    realised: dict[str, Number]


class Result(Config):
    """One run that came to its end: DONE, DIVERGED or HALTED."""

    recipe: str
    preset: str | None
    key: str
    group: str
    seed: int
    data: str
    """Name of the data set."""
    steps: int
    """Steps of the budget."""
    status: Status
    message: str
    """Why it diverged, or which rule halted it."""
    ended: str
    """Date, UTC."""
    plan: dict[str, Any]
    """As JSON: an older or newer labctl reads it without knowing every field."""
    provenance: Provenance
    conditions: tuple[Conditions, ...]
    """Of each attempt whose training counts, repetitions left out."""
    parameters: int | None
    """Trainable and other parameters of the model."""
    metrics: dict[str, Number]
    """The last value of each metric; accuracies are fractions."""
    evaluations: dict[str, Curve]
    """Metrics of evaluations and measurements, whole."""
    training: dict[str, Curve]
    """Means over windows of training steps, thinned."""
    first_losses: tuple[str, ...]
    """Of the first steps, exactly."""
    phases: tuple[PhaseFact, ...]
    ledger: dict[str, Any]
    """FLOPs; empty if they were not counted."""
    seconds_per_step: float | None
    """Mean over the training, without compilation and evaluation; of runs trained together, the
    share of one. None if they were of different work, which cannot be told apart."""
    wall_seconds: float
    """From beginning to end of each attempt, without work that was lost and done again."""
    joules: float | None = None
    """What the device drew meanwhile, the share of one of the runs that had it; None if it does not
    tell."""

    @property
    def label(self) -> str:
        """`recipe`, or `recipe@preset`."""
        return f"{self.recipe}@{self.preset}" if self.preset else self.recipe

    @property
    def point(self) -> Mapping[str, Any]:
        """Fields that were given other values than the recipe's."""
        point: Mapping[str, Any] = self.plan.get("point", {})
        return point

    @property
    def device_seconds(self) -> float | None:
        """Of `wall_seconds`, the share of one of the runs that had the device; None if there were
        not always as many, or nobody counted them."""
        if not all("workers" in conditions.model_fields_set for conditions in self.conditions):
            return None
        shares = {conditions.replicas * conditions.workers for conditions in self.conditions}
        return self.wall_seconds / shares.pop() if len(shares) == 1 else None

    @property
    def work(self) -> Mapping[str, Any]:
        """The part of the plan that decides the result."""
        work: Mapping[str, Any] = self.plan.get("work", {})
        return work


def result_of(run: Run) -> Result:
    """Read a run's folder.

    Raises:
        RunError: its plan cannot be read.
    """
    plan, journal = run.plan, run.journal
    end = run.end or {}
    curves = journal.curves
    windows = [record for record in journal.of("metrics") if "steps" in record.fields]
    replicas = _replicas(windows)
    timed = [r for r in windows if "seconds" in r.fields and _beside(r) == replicas]
    in_training = {name for record in windows for name in record.values}
    steps = sum(record.fields["steps"] for record in timed)
    seconds = sum(record.fields["seconds"] for record in timed)
    begins = list(journal.of("begin"))
    ended = max((record.time for record in journal.records), default=0.0)
    return Result(
        recipe=plan.recipe,
        preset=plan.preset,
        key=plan.key,
        group=plan.group,
        seed=plan.work.seed,
        data=plan.work.data.name,
        steps=plan.work.steps,
        status=run.status,
        message=str(end.get("message", "")),
        ended=datetime.fromtimestamp(ended, UTC).date().isoformat(),
        plan=json.loads(
            plan.model_copy(update={"measures": run.taken}).model_dump_json(by_alias=True)
        ),
        provenance=Provenance.of(run.provenance),
        conditions=_conditions(begins, {record.attempt for record in windows}, replicas),
        parameters=next(
            (begin.fields["parameters"] for begin in begins if "parameters" in begin.fields), None
        ),
        metrics=journal.last,
        evaluations={
            name: Curve.of(curve) for name, curve in curves.items() if name not in in_training
        },
        training={
            name: Curve.of(curve, TRAINING_POINTS)
            for name, curve in curves.items()
            if name in in_training
        },
        first_losses=tuple(
            str(loss) for record in journal.of("first_losses") for loss in record.fields["losses"]
        ),
        phases=_phases(journal),
        ledger=run.ledger,
        seconds_per_step=seconds / steps if steps else None,
        wall_seconds=_wall_seconds(journal),
        joules=_joules(journal, begins, windows),
    )


def _beside(window: Record) -> int:
    """Runs that were trained together in a stretch of training."""
    return int(window.fields.get("replicas", 1))


def _replicas(windows: Sequence[Record]) -> int:
    """Runs that were trained together for most of the steps."""
    steps = Counter[int]()
    for window in windows:
        steps[_beside(window)] += window.fields["steps"]
    return max(steps, key=lambda number: (steps[number], number), default=1)


def _conditions(
    begins: Sequence[Record], trained: set[int], replicas: int
) -> tuple[Conditions, ...]:
    """Those of the attempts that trained, or of all if none did."""
    fields = Conditions.model_fields
    found = (
        Conditions(
            **{name: begin.fields[name] for name in fields if name in begin.fields},
            replicas=replicas,
        )
        for begin in begins
        if begin.attempt in trained or not trained
    )
    return tuple(dict.fromkeys(found))


def _phases(journal: Journal) -> tuple[PhaseFact, ...]:
    by_start = {record.step: record.fields for record in journal.of("phase")}
    return tuple(
        PhaseFact(start=start, end=fields["end"], realised=fields.get("realised", {}))
        for start, fields in sorted(by_start.items())
    )


def _wall_seconds(journal: Journal) -> float:
    times: dict[int, list[float]] = {}
    for record in journal.records:
        times.setdefault(record.attempt, []).append(record.time)
    return sum(max(of_attempt) - min(of_attempt) for of_attempt in times.values())


def _joules(journal: Journal, begins: Sequence[Record], windows: Sequence[Record]) -> float | None:
    """Each worker reads what the device draws for all of them; runs of one share that already."""
    counted = {record.attempt for record in journal.records if "joules" in record.fields}
    if not windows or not {window.attempt for window in windows} <= counted:
        return None
    workers = {begin.attempt: begin.fields.get("workers", 1) for begin in begins}
    return math.fsum(
        record.fields.get("joules", 0.0) / workers[record.attempt] for record in journal.records
    )
