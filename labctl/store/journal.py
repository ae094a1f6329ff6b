"""The append-only record that a run writes about itself.

One segment (`journal/0001.jsonl`, ...) per attempt, one JSON object per line. An attempt that
resumes begins with `from_step`: what earlier attempts recorded after that step is superseded.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from .atomic import storage

FORMAT = 1
FIRST_LOSSES = 20
"""Losses of this many first steps are journalled exactly: enough to tell two runs apart."""


def _encoded(value: float) -> float | str:
    return value if math.isfinite(value) else repr(value)


def _decoded(value: float | str) -> float:
    return float(value)


class JournalWriter:
    """Appends to the segment of one attempt; every record is flushed when `record` returns."""

    def __init__(
        self, folder: Path, attempt: int, from_step: int, facts: Mapping[str, Any]
    ) -> None:
        self.path = folder / "journal" / f"{attempt:04d}.jsonl"
        with storage(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("x", encoding="utf-8")
        self.record("begin", from_step, format=FORMAT, attempt=attempt, **facts)

    @classmethod
    def of_next_attempt(
        cls, folder: Path, from_step: int, facts: Mapping[str, Any]
    ) -> JournalWriter:
        """A segment after those that there are."""
        last = max((int(path.stem) for path in segments(folder)), default=0)
        return cls(folder, last + 1, from_step, facts)

    def record(self, kind: str, step: int, **fields: Any) -> None:
        """Append one record; `step` is the number of steps done."""
        line = json.dumps(
            {"kind": kind, "step": step, "time": time.time(), **fields}, allow_nan=False
        )
        with storage(self.path):
            self._file.write(line + "\n")
            self._file.flush()

    def metrics(self, step: int, values: Mapping[str, float], **fields: Any) -> None:
        """Append metric values after `step` steps.

        Training metrics say with `seconds` and `steps` what the steps behind them took, those of a
        measurement its name with `measurement`.
        """
        self.record(
            "metrics",
            step,
            values={name: _encoded(value) for name, value in values.items()},
            **fields,
        )

    def sync(self) -> None:
        """Wait until the disk has every record: they outlast the machine, not only the process."""
        with storage(self.path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        self.sync()
        with storage(self.path):
            self._file.close()


@dataclass(frozen=True, slots=True)
class Record:
    """One line of a journal."""

    kind: str
    step: int
    time: float
    """Seconds since 1970, when it was written."""
    attempt: int
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, float]:
        """Of a `metrics` record: value by metric."""
        return {name: _decoded(value) for name, value in self.fields.get("values", {}).items()}


@dataclass(frozen=True)
class Journal:
    """What all attempts of a run recorded, read once."""

    records: tuple[Record, ...]
    """In order of writing, without what a later attempt superseded."""
    attempts: int
    damage: tuple[str, ...]
    """Lines that could not be read, as `file:line: why`. A last line cut short by a crash is
    none."""

    @classmethod
    def read(cls, folder: Path) -> Journal:
        kept: list[Record] = []
        damage: list[str] = []
        attempts = 0
        for path in segments(folder):
            attempts += 1
            for record in _read_segment(path, attempts, damage):
                if record.kind == "begin":
                    kept = [r for r in kept if r.step <= record.step or r.kind == "begin"]
                    kept = [r for r in kept if r.kind != "end"]
                if taken := record.fields.get("measurement"):  # again, asked something else
                    kept = [r for r in kept if r.fields.get("measurement") != taken]
                kept.append(record)
        return cls(tuple(kept), attempts, tuple(damage))

    def of(self, kind: str) -> Iterator[Record]:
        return (record for record in self.records if record.kind == kind)

    @cached_property
    def curves(self) -> dict[str, dict[int, float]]:
        """Value by step for each metric; one value per step."""
        curves: dict[str, dict[int, float]] = {}
        for record in self.of("metrics"):
            for name, value in record.values.items():
                curves.setdefault(name, {})[record.step] = value
        return curves

    @property
    def last(self) -> dict[str, float]:
        """The last value of each metric."""
        return {name: curve[max(curve)] for name, curve in self.curves.items()}

    @property
    def durable_step(self) -> int:
        """The last step that no later attempt can supersede: of the last checkpoint, or of the
        end."""
        return max((r.step for r in self.records if r.kind in ("checkpoint", "end")), default=0)


def glance(folder: Path, metrics: Sequence[str]) -> tuple[int, tuple[str, float] | None]:
    """The last step that was recorded, and the first of `metrics` that has a value, with its last.

    What `Journal.read` finds, without reading all of a long journal: nothing supersedes what the
    last attempt recorded, whose steps rise.
    """
    step, is_known = 0, False
    latest: dict[str, float] = {}
    paths = segments(folder)
    for record in _newest_first(paths[-1]) if paths else ():
        if not is_known:
            step = max(step, record.step)
        if record.kind == "metrics":
            is_known = True  # what a checkpoint is of may lie before it
            latest = record.values | latest
        if metrics[0] in latest:
            return step, (metrics[0], latest[metrics[0]])
    if len(paths) > 1:
        last = Journal.read(folder).last
        latest = last | latest
    return step, next(((name, latest[name]) for name in metrics if name in latest), None)


def _newest_first(path: Path) -> Iterator[Record]:
    """Whole records of a segment, from its end on."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError:
        return
    for line in reversed(lines):
        if (record := record_of(line, 0)) is not None:
            yield record


def segments(folder: Path) -> list[Path]:
    """The journal's files, one per attempt, in order."""
    return sorted((folder / "journal").glob("[0-9]*.jsonl"))


def _read_segment(path: Path, attempt: int, damage: list[str]) -> Iterator[Record]:
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        damage.append(f"{path.name}: {error.strerror}")
        return
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        if (record := record_of(line, attempt)) is not None:
            yield record
        elif number < len(lines):  # a whole line, not the end that a crash cut off
            damage.append(f"{path.name}:{number}: not a record")


def record_of(line: bytes, attempt: int) -> Record | None:
    """What a line of a journal says; None if it is no record."""
    try:
        fields = json.loads(line)
        return Record(fields.pop("kind"), fields.pop("step"), fields.pop("time"), attempt, fields)
    except (ValueError, KeyError, AttributeError, TypeError):
        return None
