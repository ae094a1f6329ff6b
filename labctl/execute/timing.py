"""A worker that is timed: `python -m labctl.execute.timing ORDER`. It trains as any worker does, a
stretch of steps without end, and writes down what that took."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch

import labctl
from labctl.data.batches import Batches
from labctl.data.examples import Batch
from labctl.errors import LabctlError
from labctl.measure.device import wait
from labctl.measure.launches import kernel_launches, operators
from labctl.measure.matmul import matmul_rate
from labctl.measure.speed import Launches, Matmul, Shares, Spread
from labctl.plans.plan import Plan, Work
from labctl.registry.registry import Registry
from labctl.store.atomic import write_json
from labctl.store.journal import Journal
from labctl.store.run import Run
from labctl.train.learner import Knobs, Learner
from labctl.train.numerics import Arithmetic
from labctl.train.supply import Supply
from labctl.train.training import Training

from .attempt import Attempt, Workbench
from .hardware import device_facts
from .stop import Stop

WINDOWS = 5
"""Stretches of steps that are timed one by one."""
WARM_STEPS = 3
"""At least, before them: one compiles, one is recorded, one is the first that is replayed."""
STRETCH = 4
"""How many times longer a window may become to hold a whole number of supplies."""
EVALUATED_BATCHES = 10
"""Of each held-out split; what an evaluation takes is a multiple of it."""
CHECKPOINTS = 3


class TimedSupply(Supply):
    """A supply that knows how long it took."""

    def __init__(self, supply: Supply, device: torch.device) -> None:
        super().__init__(supply.batches, supply.work, supply.dtype)
        self.device, self.seconds, self.waits = device, 0.0, False

    def at(self, step: int) -> Batch:
        if self.waits:
            wait(self.device)
        began = time.perf_counter()
        batch = super().at(step)
        if self.waits:
            wait(self.device)
        self.seconds += time.perf_counter() - began
        return batch


class Timing:
    """The runs of one worker, trained in turns and timed."""

    def __init__(
        self, runs: Sequence[Run], bench: Workbench, whole: Plan, at_step: int, steps: int
    ) -> None:
        """Begin them at `at_step`.

        Args:
            whole: the recipe's own plan, of whose work they are a stretch.
            steps: of each run, to be timed.
        """
        self.bench, self.whole = bench, whole
        self.attempts = [bench.join(run) for run in runs]
        self.trainings = [_training(attempt) for attempt in self.attempts]
        self.device = self.trainings[0].device
        self.bench.stopwatch.attend([run.plan for run in runs])
        self.supplies = [TimedSupply(t.rig.supply, self.device) for t in self.trainings]
        self.windows = min(WINDOWS, steps)
        self.per_window = self._per_window(-(-steps // self.windows))
        for training, supply in zip(self.trainings, self.supplies, strict=True):
            training.skip_to(at_step)
            supply.ahead = min(supply.ahead, self.per_window)
            training.rig.supply = supply

    @property
    def _made_at_once(self) -> int:
        """Steps of a supply of batches."""
        supply = self.supplies[0]
        return min(supply.ahead, supply.work.steps_per_epoch)

    def _per_window(self, steps: int) -> int:
        """Steps of a window: whole supplies of batches, unless these are many times larger."""
        made_at_once = self._made_at_once
        if made_at_once > STRETCH * steps:
            return steps
        return -(-steps // made_at_once) * made_at_once

    def first_step(self) -> None:
        """Of the first run; waits for it."""
        self._turn(self.attempts[0])
        self._settle()

    def warm_up(self) -> None:
        """Until amid a supply: a window that began with the making of one would have the device
        wait for it, which in training has steps to do meanwhile."""
        for attempt in self.attempts[1:]:
            self._turn(attempt)
        self._rounds(max(WARM_STEPS, self.per_window) + self._made_at_once // 2 - 1)
        self._settle()

    def measured(self) -> dict[str, Any]:
        """Seconds a step of one run, by window, and where the time of a whole run goes."""
        stopwatch, runs = self.bench.stopwatch, len(self.attempts)
        paces, lost = [], []
        self._watch(waits=False)
        for _ in range(self.windows):
            began, share = time.perf_counter(), stopwatch.share
            self._rounds(self.per_window)
            self._settle()
            share = stopwatch.share - share
            paces.append(share / self.per_window)
            lost.append((time.perf_counter() - began) / runs / self.per_window - paces[-1])
        share = sum(paces) * self.per_window
        if self.device.type == "cuda":  # only with waits can the two be told apart there
            self._watch(waits=True)
            share = stopwatch.share
            self._rounds(2 * self.per_window)
            self._settle()
            share = stopwatch.share - share
        data = sum(supply.seconds for supply in self.supplies) / runs / share
        return {
            "steps": self.windows * self.per_window,
            "step_seconds": Spread(median=median(paces), low=min(paces), high=max(paces)),
            "shares": self._shares(median(paces), data, max(0.0, median(lost))),
        }

    def _shares(self, pace: float, data: float, lost: float) -> Shares:
        training, work = self.trainings[0], self.whole.work
        stepping = pace * work.steps
        between = max(self.whole.runtime.checkpoint_seconds, pace)
        parts = {
            "data": data * stepping,
            "step": (1 - data) * stepping,
            "evaluation": self._example_seconds(training) * evaluated_examples(training, work),
            "tracking": lost * work.steps + (1 + stepping / between) * self._one_checkpoint(pace),
        }
        whole = sum(parts.values())
        return Shares(**{name: seconds / whole for name, seconds in parts.items()})

    def _example_seconds(self, training: Training) -> float:
        """What it takes to evaluate one example."""
        full = training.rig.splits
        held_out = {name: split for name, split in full.items() if name in ("val", "test")}
        if not held_out:
            return 0.0
        batch_size = training.work.evaluate.batch_size
        taken = []
        for batches in (1, EVALUATED_BATCHES):  # the first wakes the kernels
            few = {name: _first(split, batches * batch_size) for name, split in held_out.items()}
            training.rig.splits = {**full, **few}
            wait(self.device)
            began = time.perf_counter()
            with training.at_work():
                training.evaluate()
            wait(self.device)
            examples = sum(map(len, few.values())) * passes(training)
            taken.append((time.perf_counter() - began) / examples)
        training.rig.splits = full
        return taken[-1]

    def _one_checkpoint(self, pace: float) -> float:
        """By how much it holds up training, which goes on while it is written."""
        training = self.trainings[0]
        lost = []
        for _ in range(CHECKPOINTS):
            began, step = time.perf_counter(), training.step
            training.begin_checkpoint()
            while training.saver.is_busy:
                self._rounds(1)
            self._settle()
            trained = (training.step - step) * len(self.attempts) * pace
            lost.append(time.perf_counter() - began - trained)
        return max(0.0, median(lost))

    def launches(self) -> Launches:
        """Of one step of the first run."""
        training = self.trainings[0]
        is_cuda = self.device.type == "cuda"
        tally = kernel_launches if is_cuda else operators
        with training.at_work():
            rig = training.rig
            batch, knobs = rig.supply.at(training.step), rig.board.at(training.step)
            is_hidden = training.work.numerics.compiled and not is_cuda
            carried_out = None if is_hidden else tally(_step(rig.engine.step, batch, knobs))
            plain = _step(_as_written(training).step, batch, knobs)
            plain()  # makes what a learner makes once
            as_written = tally(plain)
        return Launches(
            unit="kernel launches" if is_cuda else "operators",
            as_written=as_written,
            as_carried_out=carried_out,
        )

    def preparing(self) -> dict[str, float]:
        """Seconds of compiling and of recording, of all runs, as their journals have them."""
        seconds = {"compile_seconds": 0.0, "capture_seconds": 0.0}
        for attempt in self.attempts:
            records = Journal.read(attempt.run.folder).records
            for before, record in pairwise(records):
                if record.kind == "engine":
                    is_compiling = before.kind == "compiling"
                    name = "compile_seconds" if is_compiling else "capture_seconds"
                    seconds[name] += record.fields.get("seconds", 0.0)
        return seconds

    def let_go(self) -> None:
        for attempt in self.attempts:
            attempt.let_go()

    def _watch(self, *, waits: bool) -> None:
        for supply in self.supplies:
            supply.seconds, supply.waits = 0.0, waits

    def _rounds(self, count: int) -> None:
        for _ in range(count):
            for attempt in self.attempts:
                self._turn(attempt)

    def _turn(self, attempt: Attempt) -> None:
        attempt.turn()
        attempt.require()

    def _settle(self) -> None:
        with self.bench.stopwatch.running():
            wait(self.device)


def evaluated_examples(training: Training, work: Work) -> int:
    """Examples that a whole run evaluates."""
    sizes = {name: len(split) for name, split in training.rig.splits.items()}
    held_out = sum(sizes.get(name, 0) for name in ("val", "test")) * passes(training)
    evaluations = sum(work.is_evaluated(step) for step in range(1, work.steps + 1))
    return evaluations * held_out + (sizes["train"] if work.evaluate.train else 0)


def passes(training: Training) -> int:
    """How often an evaluation goes through a held-out split: once more with the training's knobs,
    where they differ."""
    return 1 if training.rig.board.as_trained(training.step - 1) is None else 2


def _first(split: Batches, most: int) -> Batches:
    count = min(most, len(split))
    return Batches(split.examples.subset(torch.arange(count)), split.spec, split.device)


def _as_written(training: Training) -> Learner:
    """A learner of the same parts whose objective is not compiled."""
    assembly, rig = training.assembly, training.rig
    return assembly.learner(rig.model, assembly.objective(), rig.optimizer, rig.arithmetic)


def _step(
    step: Callable[[Batch, Knobs], object], batch: Batch, knobs: Knobs
) -> Callable[[], object]:
    return lambda: step(batch, knobs)


def _training(attempt: Attempt) -> Training:
    assert attempt.training is not None
    return attempt.training


def timed(order: dict[str, Any]) -> dict[str, Any]:
    """Carry out an order: the fields of a `labctl.measure.speed.Case` that are measured, `facts` of
    the device, and the rate of a `matmul` if it is asked for.

    Raises:
        LabctlError: training fails.
    """
    runs = [Run(Path(folder)) for folder in order["runs"]]
    roots = tuple(Path(root) for root in order["data_roots"])
    registry = Registry(Path(order["plugins"]), is_quiet=True)
    bench = Workbench(roots, Stop(), registry, {}, runs=len(runs))
    whole = Plan.model_validate_json(json.dumps(order["whole"]))
    timing = Timing(runs, bench, whole, order["at_step"], order["steps"])
    timing.first_step()
    found: dict[str, Any] = {"start_seconds": time.time() - order["spawned"]}
    timing.warm_up()
    measured = timing.measured()
    engine = timing.trainings[0].rig.engine
    ledger = runs[0].ledger
    found |= {name: value if name == "steps" else value.model_dump()
              for name, value in measured.items()}  # fmt: skip
    found |= {
        "launches": timing.launches().model_dump(),
        "carried_out": engine.name,
        "why": engine.why,
        "step_flops": ledger["phases"][0]["step_flops"],
        "uncounted": ledger["uncounted"],
        **timing.preparing(),
    }
    matmul = roof(timing.trainings[0].arithmetic).model_dump() if order["wants_matmul"] else None
    timing.let_go()
    facts = {**device_facts(timing.device), **_system()}
    return {"case": found, "facts": facts, "matmul": matmul}


def roof(arithmetic: Arithmetic) -> Matmul:
    """The rate of a large matrix product in a recipe's precision."""
    dtype = torch.bfloat16 if arithmetic.precision == "bf16" else arithmetic.dtype
    with arithmetic.active():
        return matmul_rate(arithmetic.device, dtype)


def _system() -> dict[str, Any]:
    return {
        "labctl": labctl.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu_count": os.cpu_count(),
    }


def main(arguments: Sequence[str]) -> int:
    """Carry out the order in a file and write what was found to its `result`."""
    order = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    try:
        result = timed(order)
    except LabctlError as error:
        fault = {"message": error.message, "hint": error.hint, "code": error.exit_code}
        write_json(Path(order["result"]), {"fault": fault})
        return error.exit_code
    write_json(Path(order["result"]), result)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
