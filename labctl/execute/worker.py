"""The process that trains: `python -m labctl.execute.worker ORDER`. It knows nothing of MLflow.

Several runs given to one worker are trained in turns, or one after the other.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from labctl.data.batches import Batches
from labctl.errors import EnvironmentProblem, LabctlError, RunError
from labctl.registry.card import Places
from labctl.registry.registry import Registry
from labctl.store.atomic import write_json
from labctl.store.lock import FileLock
from labctl.store.run import Run
from labctl.store.status import Status
from labctl.train import checkpoint
from labctl.train.assembly import Assembly
from labctl.train.clock import Clock
from labctl.train.cost import write_ledger
from labctl.train.numerics import device_of
from labctl.train.training import Diverged, Halted, Training

from .crew import TAKEN
from .forerunner import Forerunner
from .width import Fixed, Width, width_of

PROGRESS_SECONDS = 0.5
TURN = 1
"""Steps that a run takes before the next one has its turn."""


class Stop:
    """Whether the worker was asked to stop, by a signal or by a file in the run's folder."""

    def __init__(self) -> None:
        self.reason = ""
        self._looked: dict[Path, float] = {}

    def catch_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self.note)

    def note(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        self.reason = signal.Signals(number).name

    def asked(self, run: Run) -> bool:
        """A signal means every run of the worker, a file the one that it lies beside."""
        if self.reason:
            return True
        now = time.monotonic()
        if now - self._looked.get(run.folder, 0.0) > 0.2:
            self._looked[run.folder] = now
            return run.stop_path.exists()
        return False


def device_facts(device: torch.device) -> dict[str, Any]:
    """What the arithmetic ran on."""
    facts: dict[str, Any] = {
        "device": device.type,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= {
            "device_name": properties.name,
            "device_uuid": str(properties.uuid),
            "cuda": torch.version.cuda,
        }
    else:
        facts["device_name"] = _cpu_name()
    return facts


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


class Poisoned(Exception):
    """The device refuses this process any further work: no run of it is to blame, or to be
    trusted."""


@dataclass
class Bench:
    """What the runs of one worker have in common."""

    roots: tuple[Path, ...]
    stop: Stop
    registry: Registry | None
    """None: each run's plugins come from its stored code."""
    facts: Mapping[str, Any]
    clock: Clock = field(default_factory=Clock)
    shelf: dict[str, Mapping[str, Batches]] = field(default_factory=dict)
    """Data on the device, once for all that are in training."""
    runs: int = 1
    """Runs that the worker was given."""
    live: list[Attempt] = field(default_factory=list)
    """Attempts in training, and the one that begins."""

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


class Attempt:
    """One attempt at one run: holds its lock, trains it, and writes how it ended."""

    def __init__(self, run: Run, bench: Bench) -> None:
        self.run, self.bench, self.stop = run, bench, bench.stop
        self.registry = bench.registry or Registry(run.source_path, is_quiet=True)
        self.lock = FileLock(run.lock_path)
        self.was_squeezed = False
        """Whether it ended for want of memory that others had: nothing is said of the run then."""
        self.training: Training | None = None
        self.status: Status | None = None
        self.done: dict[str, Any] | None = None
        """How the run ended, if this attempt only adds measurements: whatever becomes of them, the
        run stays DONE."""
        self._noted = 0.0

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
        self.run.stop_path.unlink(missing_ok=True)
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
            self.bench.clear_shelf(assembly.shelf_name)
            write_ledger(self.run, assembly)
            facts = {**device_facts(device), **self.bench.facts, "pid": os.getpid()}
            self.training = Training(self.run, assembly, device, facts, self.bench.clock)

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
        except Exception as error:
            if isinstance(error, torch.AcceleratorError) and self.bench.runs > 1:
                raise Poisoned(str(error)) from error
            traceback.print_exc()
            self._end(Status.FAILED, f"{type(error).__name__}: {error}")

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

    def _note_progress(self, training: Training) -> None:
        now = time.monotonic()
        if now - self._noted > PROGRESS_SECONDS:
            self._noted = now
            progress = {
                "step": training.step,
                "time": time.time(),
                "seconds_per_step": training.seconds_per_step,
            }
            write_json(self.run.folder / "progress.json", progress, durable=False)


def work(
    runs: Sequence[Run],
    roots: tuple[Path, ...],
    stop: Stop,
    registry: Registry | None = None,
    facts: Mapping[str, Any] | None = None,
    width: Width | None = None,
    forerunner: Forerunner | None = None,
) -> list[Attempt]:
    """Train `runs` until each has ended, as many in turns as `width` lets, all if it is not given;
    those that somebody else has are left out.

    Plugins come from each run's stored code, unless a registry is given. `facts` are journalled
    with those of the device. `forerunner` attends to them.

    Raises:
        Poisoned: with several runs; none of those in training has an end then.
    """
    bench = Bench(roots, stop, registry, facts or {}, runs=len(runs))
    rounds = _Rounds(bench, width or Fixed(len(runs)), runs)
    try:
        while rounds.go_on():
            if forerunner is not None:
                rounds.shown_to(forerunner)
    except Poisoned:
        for attempt in bench.live:
            attempt.let_go()
        raise
    return rounds.begun


class _Rounds:
    """The runs of a worker, one round of turns after the other.

    Nothing here outlasts a round that would keep a run's memory from the next one.
    """

    def __init__(self, bench: Bench, width: Width, runs: Sequence[Run]) -> None:
        self.bench, self.width = bench, width
        self.waiting, self.begun = deque(runs), list[Attempt]()

    def go_on(self) -> bool:
        """Let a run join, or give each its turn; False when none is left."""
        if self._has_room():
            self._begin(self.waiting.popleft())
        elif self.bench.live:
            self.bench.clock.attend([attempt.run.plan for attempt in self.bench.live])
            for attempt in list(self.bench.live):
                attempt.turn()
                self._settle()
        else:
            return False
        if self.width.why:
            self._tell(self.width.why)
            self.width.why = ""
        return True

    def shown_to(self, forerunner: Forerunner) -> None:
        """Once no run waits to join, whose joining depends on memory and speed."""
        training = self.bench.live[0].training if self.bench.live else None
        if training is not None and not self.waiting:
            forerunner.attend(training)

    def _has_room(self) -> bool:
        while self.waiting and not self.bench.stop.reason:
            try:
                plan = self.waiting[0].plan
            except LabctlError as error:  # its folder is gone
                print(error, file=sys.stderr)
                self.waiting.popleft()
                continue
            return self.width.has_room([a.training for a in self.bench.live if a.training], plan)
        return False

    def _begin(self, run: Run) -> None:
        attempt = Attempt(run, self.bench)
        if attempt.claim():
            self.begun.append(attempt)
            self.bench.live.append(attempt)
            attempt.begin()
            self._settle()

    def _settle(self) -> None:
        """Take out what has ended, and give its memory back."""
        ended = [attempt for attempt in self.bench.live if attempt.status is not None]
        if not ended:
            return
        self.bench.live = [attempt for attempt in self.bench.live if attempt not in ended]
        for attempt in ended:
            if attempt.was_squeezed:
                self.begun.remove(attempt)
                self.waiting.appendleft(attempt.run)
                self.width.narrow(max(1, len(self.bench.live)))
        gc.collect()  # a recording and what it reads refer to each other
        torch.cuda.empty_cache()

    def _tell(self, why: str) -> None:
        print(why, flush=True)
        for attempt in self.bench.live:
            if attempt.training is not None:
                journal, step = attempt.training.journal, attempt.training.step
                journal.record("together", step, why=why)


def main(arguments: Sequence[str]) -> int:
    """Train the run folders named on the command line."""
    order = json.loads(arguments[0])
    torch.set_num_threads(order["threads" if torch.cuda.is_available() else "cpu_threads"])
    stop = Stop()
    stop.catch_signals()
    roots = tuple(Path(root) for root in order["data_roots"])
    runs = [Run(Path(folder)) for folder in order["runs"]]
    width = width_of(order["together"])
    forerunner = Forerunner(roots, order["of_machine"], order["workers"])
    facts = {"workers": order["workers"]}
    try:
        attempts = work(runs, roots, stop, facts=facts, width=width, forerunner=forerunner)
    finally:
        forerunner.end()
    if not attempts:
        return TAKEN
    return 0 if all(attempt.status in (Status.DONE, Status.STOPPED) for attempt in attempts) else 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
