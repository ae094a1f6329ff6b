"""One run being trained: an object that can be advanced, checkpointed and finished."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from labctl.data.examples import Batch
from labctl.measure.device import wait
from labctl.plans.plan import Phase
from labctl.registry.card import KnobValue
from labctl.store.atomic import write_atomic
from labctl.store.journal import FIRST_LOSSES, JournalWriter
from labctl.store.run import Run

from . import checkpoint
from .appraisal import Appraisal
from .assembly import Assembly
from .ending import Diverged, Halted
from .first_losses import FirstLosses
from .lane import Lane
from .learner import Knobs, Looking, Metrics
from .measuring import take_measurements
from .meter import Meter
from .numerics import Arithmetic
from .rig import Rig
from .saver import Saver
from .stopping import Stopping
from .stopwatch import Stopwatch
from .streams import seed_global
from .window import Window


class Training:
    """Carries a plan out, from its latest checkpoint on, and writes the journal.

    `advance` trains up to a step, `checkpoint` and `begin_checkpoint` make what was done durable,
    `finish` evaluates, measures and keeps the weights. Several trainings may take turns in one
    process: none keeps state that another could see.
    """

    def __init__(
        self,
        run: Run,
        assembly: Assembly,
        device: torch.device,
        facts: Mapping[str, Any],
        stopwatch: Stopwatch | None = None,
    ) -> None:
        self.run, self.assembly, self.device = run, assembly, device
        self.stopwatch = stopwatch or Stopwatch()
        self.plan, self.work = assembly.plan, assembly.plan.work
        self.arithmetic = Arithmetic(self.work.numerics, device)
        self.lane = Lane(device)
        with self.at_work():
            self.rig = Rig(assembly, device, self.arithmetic)
            self._phases = {phase.start: phase for phase in self.work.phases()}
            self.window = Window(self.stopwatch)
            self.step = 0
            self.first = FirstLosses()
            self._latest_rate: float | None = None
            self.appraisal = Appraisal(self.rig, self.work)
            self.windows = 0
            """Stretches of steps that were averaged, in this attempt."""
            faults = self._restore()
        if not self.is_trained:
            self._forget_results()
        self.stopping = Stopping.resumed(self.work.stop, run, self.step)
        self.journal = self._begin(facts, faults)
        self.saver = Saver(run.checkpoint_path, self.journal, self.plan.runtime.checkpoint_seconds)
        self.meter = Meter(device)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Around everything that computes."""
        with self.lane.entered(), self.arithmetic.active():
            yield

    def _begin(self, facts: Mapping[str, Any], faults: list[str]) -> JournalWriter:
        engine, weights = self.rig.engine, self.rig.model.parameters()
        own = {"parameters": sum(one.numel() for one in weights), "engine": engine.name}
        if engine.why:
            own["why_engine"] = engine.why
        journal = JournalWriter.of_next_attempt(self.run.folder, self.step, {**facts, **own})
        for fault in faults:
            journal.record("warning", self.step, message=f"checkpoint not used: {fault}")
        return journal

    @property
    def is_trained(self) -> bool:
        return self.step >= self.work.steps

    def skip_to(self, step: int) -> None:
        """Stand at `step` as if all before it had been trained, which says nothing of the weights:
        for timing."""
        self.step = step

    def advance(self, steps: int) -> None:
        """Train `steps` more steps, or to the end of the budget.

        Raises:
            Diverged: the loss stopped being finite.
            Halted: a stop rule of the recipe was met.
        """
        self.saver.note()
        with self.stopwatch.running(), self.at_work():
            for _ in range(min(steps, self.work.steps - self.step)):
                self._note_phase()
                self._one_step()
                if self.step % self.plan.runtime.log_every == 0 or self.step == self.work.steps:
                    self._close_window()
                if self.work.is_evaluated(self.step):
                    self.evaluate()

    def _one_step(self) -> None:
        engine = self.rig.engine
        self.rig.set_training()
        batch, knobs = self.rig.supply.at(self.step), self.rig.board.at(self.step)
        found = self._look(batch, knobs)
        seed_global(self.work.seed, "dropout", self.step)
        if engine.is_due(batch, knobs):
            self._prepare(batch, knobs)
        if engine.compiles(batch, knobs):
            self._compile(batch, knobs, found)
        else:
            self._count(found | engine.step(batch, knobs))

    def _look(self, batch: Batch, knobs: Knobs) -> Metrics:
        """What the learner finds at the beginning of an epoch, if it takes a look."""
        learner = self.rig.learner
        if self.step % self.work.steps_per_epoch or not isinstance(learner, Looking):
            return {}
        seed_global(self.work.seed, "look", self.step)
        return learner.look(batch, knobs)

    def _compile(self, batch: Batch, knobs: Knobs, found: Metrics) -> None:
        """A step that is the first of its form; not on the steps' time."""
        with self._aside():
            self.journal.record("compiling", self.step)
            began = time.perf_counter()
            self._count(found | self.rig.engine.step(batch, knobs))
            wait(self.device)
            self.window.is_typical = False
            seconds = time.perf_counter() - began
            name = self.rig.engine.name
            self.journal.record("engine", self.step, engine=name, seconds=seconds)

    def _prepare(self, batch: Batch, knobs: Knobs) -> None:
        """What the engine does before such a step for the first time; not on the steps' time."""
        with self._aside():
            self.journal.record("engine", self.step, **self.rig.engine.prepare(batch, knobs))

    def _count(self, metrics: Metrics) -> None:
        self.window.add(metrics)
        if self.rig.average is not None:
            self.rig.average.update_parameters(self.rig.model)
        self.first.add(self.step, metrics)
        self.step += 1
        if self.step in (FIRST_LOSSES, self.work.steps):
            self.record_first()

    def record_first(self) -> None:
        """Journal the losses of the first steps: after the last of them, or when training is left
        before that."""
        self.first.record(self.journal, self.step)

    def _note_phase(self) -> None:
        """At the first step of a phase: what its structural knobs come to."""
        phase = self._phases.get(self.step)
        if phase is None:
            return
        self.journal.record(
            "phase",
            self.step,
            end=phase.end,
            structural=phase.structural,
            realised=self._realised(phase),
        )

    def _realised(self, phase: Phase) -> dict[str, float]:
        values: dict[str, KnobValue] = {**self.work.constants, **phase.structural}
        card = self.assembly.architecture.card
        realised: dict[str, float] = card.realised(
            self.assembly.architecture.config, self.assembly.spec, values
        )
        return realised

    def _close_window(self) -> None:
        means = self.window.means()  # waits for the device
        with self.stopwatch.stopped():
            self._journal_window(means)
            self.window, self.windows = Window(self.stopwatch), self.windows + 1

    def _journal_window(self, means: Mapping[str, float]) -> None:
        """Journal the metrics of a stretch of steps, and heed them."""
        values = {f"train/{name}": value for name, value in means.items()}
        knobs = self.rig.board.values(self.step - 1)
        values |= {
            f"knob/{name}": float(value)
            for name, value in knobs.items()
            if not isinstance(value, str)
        }
        seconds, steps = self.window.seconds, self.window.steps
        timing = {"seconds": seconds} if self.window.is_timed and self.window.is_typical else {}
        together = self.window.replicas
        timing |= self._drawn(together) if self.meter.is_due else {}
        self.journal.metrics(self.step, values, **timing, steps=steps, replicas=together)
        if self.window.is_typical:
            self._latest_rate = seconds / steps
        if not all(np.isfinite(value) for value in means.values()):
            bad = ", ".join(name for name, value in means.items() if not np.isfinite(value))
            raise Diverged(
                f"{bad} stopped being finite within steps {self.step - steps} to {self.step}"
            )
        self._heed(values)

    def _drawn(self, together: int) -> dict[str, float]:
        """This run's share of what the device drew since the last stretch of steps ended."""
        joules = self.meter.drawn()
        return {} if joules is None else {"joules": joules / together}

    def _heed(self, values: Mapping[str, float]) -> None:
        if name := self.stopping.note(self.step, values):
            raise Halted(f"{name} at step {self.step}: {self.stopping.rules[name]}")

    def evaluate(self) -> None:
        """Evaluate on the held-out splits; at the end on training too, keeping predictions."""
        with self._aside():
            values = self.appraisal.at(self.step)
            self.journal.metrics(self.step, values)
            self._heed(values)

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """Around what is not training: the device has finished the steps it was given before, on
        their time."""
        with self.stopwatch.running():
            wait(self.device)
        with self.stopwatch.stopped():
            yield

    @property
    def seconds_per_step(self) -> float | None:
        """Of the window before this one, or of this one if it is the first; None before the second
        step."""
        if self._latest_rate is None and self.window.steps > 1:
            return self.window.seconds / self.window.steps
        return self._latest_rate

    def checkpoint(self) -> None:
        """Make everything up to this step durable, and wait for that."""
        self.begin_checkpoint()
        self.saver.wait()

    def begin_checkpoint(self) -> None:
        """Begin to make everything up to this step durable, while training goes on."""
        self.saver.wait()
        with self.at_work(), self._aside():
            self.saver.begin(self.step, self._state())

    def _state(self) -> dict[str, Any]:
        """All that a checkpoint holds, copied to the host."""
        state = {
            "key": self.plan.key,
            "step": self.step,
            **self.rig.state_dict(),
            "window": self.window.state_dict(),
            "first": self.first.losses,
        }
        copied: dict[str, Any] = checkpoint.moved(state, torch.device("cpu"), copied=True)
        return copied

    def _restore(self) -> list[str]:
        state, faults = checkpoint.load(self.run.checkpoint_path)
        if state is None:
            if self.run.weights_path.exists():
                self._restore_weights()
            return faults
        self.rig.load_state_dict(state)
        self.window = Window.from_state(
            checkpoint.moved(state["window"], self.device), self.stopwatch
        )
        self.first.load(state["first"], self.device)
        self.step = int(state["step"])
        return faults

    def _restore_weights(self) -> None:
        """A finished run that is opened again, for a measurement that was asked for later."""
        self.rig.load_result(checkpoint.load_weights(self.run.weights_path))
        self.step = self.work.steps
        self.appraisal.skip_to(self.step)

    def _forget_results(self) -> None:
        """What an earlier attempt left that got further than the checkpoint this one begins at."""
        self.run.weights_path.unlink(missing_ok=True)
        for path in self.run.folder.glob("measurements/*/values.json"):
            path.unlink(missing_ok=True)

    def finish(self) -> None:
        """Final evaluation if a restart lost it, predictions, measurements, weights."""
        with self.at_work():
            if self.appraisal.step != self.step:
                self.evaluate()
            for name, metrics in self.stopping.unseen.items():
                message = f"stop.{name} was never tried: no {', '.join(metrics)} was journalled"
                self.journal.record("warning", self.step, message=message)
            self.appraisal.keep_predictions(self.run.predictions_path)
            rig, model = self.rig, self.rig.result
            state = model.state_dict()
            write_atomic(self.run.weights_path, lambda file: checkpoint.write_state(file, state))
            take_measurements(
                self.plan, self.assembly, model, rig.splits, rig.board, self.run, self.journal
            )

    def end(self, status: str, message: str = "") -> None:
        """Close the journal with the status in which this attempt ended."""
        self._let_saver_end()
        if drawn := self._drawn(self.stopwatch.runs):
            self.journal.record("energy", self.step, **drawn)
        self.journal.record("end", self.step, status=status, message=message)
        self.journal.close()

    def leave(self) -> None:
        """Close the journal without a word of how this attempt ended."""
        self._let_saver_end()
        self.journal.close()

    def _let_saver_end(self) -> None:
        """Whatever became of the last checkpoint, the attempt is to end."""
        try:
            self.saver.wait()
        except Exception as error:
            self.journal.record("warning", self.step, message=f"no checkpoint: {error}")
