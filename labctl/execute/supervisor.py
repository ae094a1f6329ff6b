"""Carrying plans out: what is done is skipped, what is missing gets a worker, nothing is done
twice."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from types import FrameType

from labctl.errors import EnvironmentProblem
from labctl.project import Project
from labctl.registry.registry import Registry
from labctl.store.run import Run, run_of
from labctl.store.status import Status

from .active import Active
from .crew import Crew, spawn, threads_of
from .device import require_device
from .display import Display, Watched
from .job import Job, Outcome, Together, outcome_of
from .options import Options
from .patience import too_long
from .provenance import Provenance
from .queue import Queue
from .signals import Heard, Interrupted
from .slots import Slot, Slots
from .steering import Steering
from .tracking import Tracking

POLL_SECONDS = 0.15
LOOK_SECONDS = 2.0
"""Between two looks at all that waits: each opens files of every run."""
MOST_RUNS = 1_000_000
"""Of work whose end is not known when it begins."""


class Supervisor:
    """Starts workers and watches them; holds no state that its own death could lose."""

    def __init__(
        self,
        project: Project,
        registry: Registry,
        display: Display,
        options: Options,
        steering: Steering | None = None,
    ) -> None:
        self.project, self.registry, self.display, self.options = (
            project,
            registry,
            display,
            options,
        )
        self.steering = steering
        self.outcomes: dict[Run, Outcome] = {}
        self._jobs: dict[Run, Job] = {}
        """In the order in which they were asked for."""
        self._waiting = Queue(project)
        self._active: list[Active] = []
        self._signal = 0
        self._signals = 0
        self._heeded = False
        self._stopping = False
        self._too_long = ""
        self._look_due = 0.0

    def carry_out(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Bring every plan to its end, those that steering adds as well; the outcome of each, in
        order.

        Raises:
            Interrupted: after all workers have stopped, their runs resumable.
            EnvironmentProblem: the machine lacks the device that every plan asks for, or the work
                would take many hours on this CPU, and nobody said yes.
        """
        self._admit(jobs)
        while self.steering and not self._waiting and (more := self.steering.more(1)):
            self._admit(more)
        if self._waiting:
            require_device(list(self._waiting))
            fresh = [run for run in self._waiting.runs if not run.folder.exists()]
            self._train()
        if self._too_long:
            _discard(fresh)
            raise EnvironmentProblem(
                self._too_long,
                hint="add --yes to train anyway, or try a preset that is made for a CPU: "
                "--preset smoke",
            )
        if self._signal:
            raise Interrupted(self._signal)
        return [self.outcomes[run] for run in self._jobs]

    def _admit(self, jobs: Sequence[Job]) -> list[Job]:
        """Take jobs in, each run once; those of them that have something to train."""
        fresh = []
        for job in jobs:
            run = run_of(self.project, job.plan)
            if run in self._jobs:
                continue
            self._jobs[run] = job
            if run.status.is_final and not run.needs(job.plan):
                if not run.is_readable:
                    run.create(job.plan, run.provenance)
                self._note(outcome_of(run, job.plan, was_skipped=True))
            else:
                fresh.append(job)
        self._waiting.add(fresh)
        return fresh

    def _note(self, outcome: Outcome) -> None:
        self.outcomes[outcome.run] = outcome
        if self.steering is not None:
            self.steering.ended(outcome)

    def _steer(self, provenance: Provenance, tracking: Tracking | None) -> None:
        """Stop what is not worth going on, and take in what shall be trained besides."""
        if self.steering is None or self._stopping or self._signals:
            return
        for active in self._active:
            run = active.run
            if active.crew is None:
                continue  # another labctl trains it, for its own reasons
            if not run.stop_path.exists() and (reason := self.steering.verdict(run)):
                run.request_stop()
                self.display.say(f"{active.watched.plan.name}  {reason}")
        while (room := self._slots.count - len(self._active) - len(self._waiting)) > 0:
            more = self.steering.more(room)
            for job in self._admit(more):
                run = self._prepare(job, provenance)
                if tracking is not None:
                    tracking.add(run)
            if not more:
                break

    def _prepare(self, job: Job, provenance: Provenance) -> Run:
        run = run_of(self.project, job.plan)
        provenance.store(run, job.plan, job.recipe)
        run.withdraw_stop()
        return run

    def _leave_waiting(self) -> None:
        """Begin no more runs."""
        for job in self._waiting:
            run = run_of(self.project, job.plan)
            self._note(Outcome(run, run.status, message="not begun"))
        self._waiting.clear()

    def _train(self) -> None:
        provenance = Provenance(self.registry)
        for job in self._waiting:
            self._prepare(job, provenance)
        self._turn_to(self._waiting.device)
        with ExitStack() as stack:
            stack.callback(self._kill_all)
            stack.enter_context(Heard(self._note_signal))
            stack.enter_context(self.display)
            tracking = Tracking(self.project, self._waiting.runs) if self.options.track else None
            while self._waiting or self._active:
                self._heed_signals()
                self._settle()  # before others begin: a failure may mean that none shall
                self._steer(provenance, tracking)
                self._start_waiting()
                self.display.refresh([active.watched for active in self._shown()])
                self._check_patience()
                time.sleep(POLL_SECONDS)
            if tracking is not None and not tracking.finish():
                complaint = tracking.complaint
                why = f"\n  {complaint}" if complaint else ""
                self.display.say(
                    f"MLflow does not have everything yet; the runs do. Later: labctl sync{why}"
                )

    def _note_signal(self, number: int, frame: FrameType | None) -> None:
        """Acted on between two polls: a worker that is just being started is in the list then."""
        self._signal = self._signal or number
        self._signals += 1

    def _heed_signals(self) -> None:
        """First signal: ask every worker to stop. Second: end them; their checkpoints remain."""
        if self._signals > 1:
            self._kill_all()
        elif self._signals and not self._heeded:
            self._heeded = True
            self._stop_all()
            self.display.say(
                "stopping: each run writes a checkpoint first; once more to end them at once"
            )

    def _stop_all(self) -> None:
        self._stopping = True
        for crew in self._crews:
            crew.stop()

    def _kill_all(self) -> None:
        self._stopping = True
        for crew in self._crews:
            crew.kill()

    @property
    def _crews(self) -> list[Crew]:
        """The workers that were started here, each once."""
        crews = (active.crew for active in self._active if active.crew is not None)
        return list(dict.fromkeys(crews))

    def _start_waiting(self) -> None:
        if self._stopping:
            self._leave_waiting()
        if not self._signals and time.monotonic() >= self._look_due:
            self._look_due = time.monotonic() + LOOK_SECONDS
            for job in self._waiting:
                self._look_at(job)
        while self._waiting and not self._signals and self._has_device():
            if not self._look_at(next(iter(self._waiting))):
                continue
            if not (slot := self._slots.take()):
                break
            self._start(self._waiting.take(self._slots.count, self._together), slot)

    def _has_device(self) -> bool:
        """Whether the slots are of the device that the next job asks for; those of another come
        when all of these are free."""
        if self._waiting.device != self._device and not self._active:
            self._turn_to(self._waiting.device)
        return self._waiting.device == self._device

    def _turn_to(self, device: str) -> None:
        most = MOST_RUNS if self.steering else len(self._waiting)
        self._device = device
        self._slots = Slots(self.project.runs, device, self.options.jobs, most)

    def _look_at(self, job: Job) -> bool:
        """Whether a job still waits: another labctl may train it, or somebody want it stopped."""
        run = run_of(self.project, job.plan)
        if run.status is Status.RUNNING:
            self._watch(run, None)
            said = "is being trained by another labctl; following it"
        elif run.stop_path.exists():
            self._note(Outcome(run, run.status, message="asked to stop"))
            said = "asked to stop before it began"
        else:
            return True
        self._waiting.remove(job)
        self.display.say(f"{job.plan.name}  {said}")
        return False

    def _start(self, runs: Sequence[Run], slot: Slot) -> None:
        crew = Crew(runs, self._spawn(runs, slot))
        for run in runs:
            self._watch(run, crew)

    def _spawn(self, runs: Sequence[Run], slot: Slot) -> subprocess.Popen[bytes]:
        threads = threads_of(runs[0]) or self.options.threads
        order = {
            "workers": self._slots.sharing,
            "of_machine": self._slots.count,
            "threads": threads or self._slots.threads,
            "cpu_threads": threads or self._slots.cpu_threads,
            "together": self._together,
        }
        return spawn(runs, slot, self.project.data_roots, order)

    @property
    def _together(self) -> Together:
        """Runs that a worker trains in turns: a number, or `auto` for it to find out.

        On a CPU one run already uses what a worker has. Where runs are steered, each is decided
        about by itself.
        """
        if self.options.together == "auto":
            return "auto" if self._slots.gpus and self.steering is None else 1
        return self.options.together

    def _watch(self, run: Run, crew: Crew | None) -> None:
        self._active.append(Active(Watched(run), crew))

    def _shown(self) -> list[Active]:
        """Those that have begun, or will at once: a worker may keep others back."""
        for active in self._active:
            is_alone = active.crew is None or len(active.crew.runs) == 1
            if not active.is_shown and (is_alone or active.watched.run.status is Status.RUNNING):
                self._show(active)
        return [active for active in self._active if active.is_shown]

    def _show(self, active: Active) -> None:
        active.is_shown = True
        self.display.began(active.watched)

    def _settle(self) -> None:
        """Take note of the runs that have ended."""
        for active in list(self._active):
            if not active.has_ended(self._stopping):
                continue
            self._active.remove(active)
            if not self._goes_alone(active):
                self._close(active)

    def _goes_alone(self, active: Active) -> bool:
        """Whether a run that its worker left behind, with others beside it, is tried by itself."""
        crew = active.crew
        if crew is None or self._stopping or self._signals or not active.is_left_behind():
            return False
        job = self._jobs[active.run]
        self._waiting.add_alone(job)
        self.display.say(
            f"{job.plan.name}  goes on alone: the worker that it shared died ({crew.how_it_died})"
        )
        return True

    def _close(self, active: Active) -> None:
        outcome = active.outcome(self.project, self._stopping)
        self._note(outcome)
        if not active.is_shown:
            self._show(active)
        self.display.ended(active.watched, outcome.status, outcome.message)
        if self.options.fail_fast and outcome.status in (Status.FAILED, Status.LOST):
            self._stop_all()

    def _check_patience(self) -> None:
        """On a CPU, stop before many hours of work unless they were asked for."""
        if self.options.yes or self._stopping or self._slots.gpus:
            return
        alike = [job for job in self._waiting if job.plan.runtime.device == self._device]
        self._too_long = too_long(self._active, alike, self._slots.count)
        if self._too_long:
            self._stop_all()


def _discard(runs: Sequence[Run]) -> None:
    """Remove what a refused command began and did not end: nothing of it is worth resuming."""
    for run in runs:
        status = run.status
        if run.folder.exists() and status is not Status.RUNNING and not status.is_final:
            run.discard()
