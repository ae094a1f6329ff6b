"""An attempt at a run, from taking it to how it ended."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from labctl.data.batches import Batches
from labctl.errors import EnvironmentProblem, LabctlError, RunError
from labctl.plans.plan import Plan
from labctl.registry.card import Places
from labctl.registry.guard import described, place_within
from labctl.registry.registry import Registry
from labctl.store.atomic import write_json
from labctl.store.journal import JournalWriter
from labctl.store.lock import FileLock
from labctl.store.run import Run
from labctl.store.status import Status
from labctl.train import checkpoint
from labctl.train.assembly import Assembly
from labctl.train.cost import write_ledger
from labctl.train.ending import Diverged, Halted
from labctl.train.numerics import device_of
from labctl.train.stopwatch import Stopwatch
from labctl.train.training import Training

from .hardware import device_facts
from .stop import Stop

PROGRESS_SECONDS = (0.5, 5.0)
"""Between two notes of how far a run is, at least and at most."""
PROGRESS_SHARE = 2e-3
"""Of a worker's time, that these notes may take before they become rarer: a disk may be slow."""
TURN = 1
"""Steps that a run takes before the next one has its turn."""


class Poisoned(Exception):
    """The device refuses this process any further work: no run of it is to blame, or to be
    trusted."""


@dataclass
class Workbench:
    """What the runs of one worker have in common."""

    roots: tuple[Path, ...]
    stop: Stop
    registry: Registry | None
    """None: each run's plugins come from its stored code."""
    facts: Mapping[str, Any]
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    shelf: dict[str, Mapping[str, Batches]] = field(default_factory=dict)
    """Data on the device, once for all that are in training."""
    runs: int = 1
    """Runs that the worker was given."""
    takes_other_data: bool = False
    """Whether data may be others than runs were planned with: whoever asks says so himself."""
    live: list[Attempt] = field(default_factory=list)
    """Attempts in training, and the one that begins."""
    codes: dict[Hashable, Registry] = field(default_factory=dict)
    """Plugins that were stored with runs, by their files."""

    def plugins_of(self, run: Run) -> Registry:
        """What a run's plugins come from: runs that stored the same files have the same modules, so
        that what was compiled for one of them fits all."""
        if self.registry is not None:
            return self.registry
        files = frozenset(
            (path.relative_to(run.source_path), path.read_bytes())
            for path in run.source_path.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        )
        return self.codes.setdefault(files, Registry(run.source_path, is_quiet=True))

    def join(self, run: Run) -> Attempt:
        """Begin an attempt at a run that nobody else has.

        Raises:
            RunError: it has ended at once.
        """
        attempt = Attempt(run, self)
        attempt.claim()
        self.live.append(attempt)
        attempt.begin()
        attempt.require()
        return attempt

    def clear_shelf(self, wanted: str) -> None:
        """Keep the data of those in training, and what is wanted next."""
        used = {a.training.assembly.shelf_name for a in self.live if a.training is not None}
        for name in self.shelf.keys() - used - {wanted}:
            del self.shelf[name]


def _require_data(plan: Plan, version: str) -> None:
    """Raises:
    EnvironmentProblem: the data here are not those that the run was planned with.
    """
    data = plan.work.data
    if version != data.version:
        raise EnvironmentProblem(
            f"data set {data.name} has changed: the run was planned with version {data.version}, "
            f"and this is {version}",
            hint="put the data back as they were; with these, labctl run trains another run",
        )


class Attempt:
    """One attempt at one run: holds its lock, trains it, and writes how it ended."""

    def __init__(self, run: Run, bench: Workbench) -> None:
        self.run, self.bench, self.stop = run, bench, bench.stop
        self.registry = bench.plugins_of(run)
        self.lock = FileLock(run.lock_path)
        self.was_squeezed = False
        """Whether it ended for want of memory that others had: nothing is said of the run then."""
        self.training: Training | None = None
        self.status: Status | None = None
        self.done: dict[str, Any] | None = None
        """How the run ended, if this attempt only adds measurements: whatever becomes of them, the
        run stays DONE."""
        self._note_due = 0.0

    def claim(self) -> bool:
        """Take the run; False if another worker has it, or it is done."""
        if not self.lock.acquire(timeout_s=1.0):
            return False
        end = self.run.end
        if end and Status(end["status"]).is_final:
            if not self.run.needs(self.run.plan):
                self.lock.release()
                return False
            self.done = end
        else:
            self.run.end_path.unlink(missing_ok=True)
        for pattern in ("*.pt*.partial", "*.npz.*.partial"):  # of a worker killed as it wrote
            for path in self.run.folder.glob(pattern):
                path.unlink(missing_ok=True)
        return True

    def begin(self) -> None:
        with self._ending():
            plan = self.run.plan
            device = device_of(plan.runtime.device)
            places = Places(self.bench.roots)
            assembly = Assembly(plan, self.registry, places, self.bench.shelf)
            if not self.bench.takes_other_data:
                _require_data(plan, assembly.spec.version)
            self.bench.clear_shelf(assembly.shelf_name)
            write_ledger(self.run, assembly)
            facts = {**device_facts(device), **self.bench.facts, "pid": os.getpid()}
            self.training = Training(self.run, assembly, device, facts, self.bench.stopwatch)

    def turn(self) -> None:
        """Train a little, or finish."""
        training = self.training
        assert training is not None
        with self._ending():
            if self.stop.asked(self.run):
                if not (training.is_trained and self.run.weights_path.exists()):
                    training.checkpoint()
                self._end(Status.STOPPED, self.stop.reason or "stop requested")
            elif training.is_trained:
                if not self.run.weights_path.exists():
                    training.checkpoint()
                training.finish()
                checkpoint.discard(self.run.checkpoint_path)
                self._end(Status.DONE)
            else:
                training.advance(TURN)
                self._note_progress(training)
                if training.saver.is_due:
                    training.begin_checkpoint()

    def require(self) -> None:
        """Raises:
        RunError: the attempt has ended.
        """
        if self.status is None:
            return
        if self.was_squeezed:
            raise RunError(
                "the device has no memory for so many seeds together", hint="fewer: --together 1"
            )
        end = self.run.end or {}
        raise RunError(
            f"{self.status}: {end.get('message') or 'the worker was asked to stop'}",
            hint="labctl run trains it, and shows whether it fails there too",
        )

    @contextmanager
    def _ending(self) -> Iterator[None]:
        """Whatever goes wrong becomes the status of this run, and of no other."""
        try:
            yield
        except Diverged as error:
            self._end(Status.DIVERGED, error.message)
        except Halted as error:
            self._end(Status.HALTED, error.message)
        except LabctlError as error:
            if error.__cause__ is not None:
                traceback.print_exc()
            print(error, file=sys.stderr)
            self._end(Status.FAILED, str(error), code=error.exit_code)
        except torch.cuda.OutOfMemoryError as error:
            if len(self.bench.live) > 1:
                self._make_room()
                return
            traceback.print_exc()
            self._end(
                Status.FAILED,
                f"out of device memory: {error}\n  use a smaller batch_size or fewer --jobs",
            )
        except (Exception, SystemExit) as error:
            if isinstance(error, torch.AcceleratorError) and self.bench.runs > 1:
                raise Poisoned(str(error)) from error
            traceback.print_exc()
            place = place_within(error, self.registry.folders)
            self._end(Status.FAILED, f"{place}{': ' if place else ''}{described(error)}")

    def _make_room(self) -> None:
        """Give up the memory that others have a better claim to; the run is begun again later."""
        if self.training is not None:
            self.training.end(Status.STOPPED, "out of device memory beside other runs")
        self.training, self.status, self.was_squeezed = None, Status.STOPPED, True
        self.lock.release()

    def let_go(self) -> None:
        """Leave the run without a word of how it ended."""
        if self.training is not None:
            self.training.leave()
        self.training = None
        self.lock.release()

    def _end(self, status: Status, message: str = "", code: int = 0) -> None:
        step = 0
        try:
            if self.training is not None:
                step = self.training.step
                self.training.end(status, message)
            else:
                step = self.run.journal.durable_step
                self._journal_end(step, status, message)
            end = {
                "status": status,
                "step": step,
                "message": message,
                "code": code,
                "time": time.time(),
            }
            if self.done is not None and status is not Status.DONE:
                now = {"message": f"measuring {status}: {message}", "time": time.time()}
                end = {**self.done, **now}
            write_json(self.run.end_path, end)
        except EnvironmentProblem as error:
            print(error, file=sys.stderr)
        self.status = status
        self.training = None
        self.lock.release()

    def _journal_end(self, step: int, status: Status, message: str) -> None:
        """The record of an attempt that ended before it could train, as far as there can be one;
        nothing is superseded."""
        facts = {**self.bench.facts, "pid": os.getpid()}
        try:
            journal = JournalWriter.of_next_attempt(self.run.folder, step, facts)
            journal.record("end", step, status=status, message=message)
            journal.close()
        except EnvironmentProblem as error:
            print(error, file=sys.stderr)

    def _note_progress(self, training: Training) -> None:
        began = time.monotonic()
        if began < self._note_due:
            return
        progress = {
            "step": training.step,
            "time": time.time(),
            "seconds_per_step": training.seconds_per_step,
        }
        write_json(self.run.folder / "progress.json", progress, durable=False)
        least, most = PROGRESS_SECONDS
        wanted = (time.monotonic() - began) * len(self.bench.live) / PROGRESS_SHARE
        self._note_due = began + min(max(wanted, least), most)
