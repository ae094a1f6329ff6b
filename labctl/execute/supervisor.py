"""Carrying plans out: what is done is skipped, what is missing gets a worker, nothing is done
twice."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import FrameType
from typing import Protocol

from labctl.errors import EnvironmentProblem
from labctl.plans.plan import Plan
from labctl.project import Project
from labctl.registry.registry import Registry
from labctl.store.run import Run, run_of
from labctl.store.status import Status

from .crew import Crew, log_of, spawn, threads_of
from .device import require_device
from .display import Display, Watched
from .duration import lasting
from .job import Job, Outcome, Together, outcome_of
from .provenance import Provenance
from .signals import Heard, Interrupted
from .slots import Slot, Slots
from .tracking import Tracking

POLL_SECONDS = 0.15
PATIENCE_HOURS = 6.0
"""Longest work on a CPU that is begun without being asked twice."""
PROBE_SECONDS = 4.0
MOST_RUNS = 1_000_000
"""Of work whose end is not known when it begins."""


@dataclass(frozen=True, slots=True)
class Options:
    """How the user wants plans carried out."""

    jobs: int | None = None
    """Workers at once; by default one per GPU, or one per core."""
    fail_fast: bool = False
    yes: bool = False
    """Begin work of many hours on a CPU without asking."""
    track: bool = True
    """Feed MLflow."""
    together: Together = "auto"
    """Runs that a worker trains in turns; `auto` measures on a GPU how many are fastest."""
    threads: int = 0
    """CPU threads of each worker; 0 shares the cores among them."""


class Steering(Protocol):
    """Decides, while runs train, which others shall be trained and which are not worth going on."""

    def more(self, room: int) -> Sequence[Job]:
        """Jobs to begin now that `room` workers are idle; asked until no run is left."""
        ...

    def verdict(self, run: Run) -> str:
        """Why a running run shall be stopped now; empty to let it go on."""
        ...

    def ended(self, outcome: Outcome) -> None:
        """A run has ended."""
        ...


@dataclass
class _Active:
    watched: Watched
    crew: Crew | None
    """None: a worker of another supervisor."""
    is_shown: bool = False


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
        self.outcomes: dict[str, Outcome] = {}
        self._order: dict[str, None] = {}
        self._waiting: list[Job] = []
        self._jobs: dict[str, Job] = {}
        self._alone: set[str] = set()
        """Keys of runs whose worker died while it had others too."""
        self._active: list[_Active] = []
        self._signal = 0
        self._signals = 0
        self._heeded = False
        self._stopping = False
        self._too_long = ""

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
            require_device(self._waiting)
            runs = [run_of(self.project, job.plan) for job in self._waiting]
            fresh = [run for run in runs if not run.folder.exists()]
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
        return [self.outcomes[key] for key in self._order]

    def _admit(self, jobs: Sequence[Job]) -> list[Job]:
        """Take jobs in, each key once; those of them that have something to train."""
        fresh = []
        for job in jobs:
            if job.plan.key in self._order:
                continue
            self._order[job.plan.key] = None
            self._jobs[job.plan.key] = job
            run = run_of(self.project, job.plan)
            if run.status.is_final and not run.needs(job.plan):
                self._note(outcome_of(run, job.plan, was_skipped=True), job.plan)
            else:
                fresh.append(job)
        self._waiting += fresh
        return fresh

    def _note(self, outcome: Outcome, plan: Plan) -> None:
        self.outcomes[plan.key] = outcome
        if self.steering is not None:
            self.steering.ended(outcome)

    def _steer(self, provenance: Provenance, tracking: Tracking | None) -> None:
        """Stop what is not worth going on, and take in what shall be trained besides."""
        if self.steering is None or self._stopping or self._signals:
            return
        for active in self._active:
            run = active.watched.run
            if active.crew is None:
                continue  # another labctl trains it, for its own reasons
            if not run.stop_path.exists() and (reason := self.steering.verdict(run)):
                run.request_stop()
                self.display.say(f"{active.watched.plan.name}  {reason}")
        while (room := self._slots.count - len(self._active) - len(self._waiting)) > 0:
            more = self.steering.more(room)
            for job in self._admit(more):
                run = run_of(self.project, job.plan)
                provenance.store(run, job.plan, job.recipe)
                if tracking is not None:
                    tracking.add(run)
            if not more:
                break

    def _leave_waiting(self) -> None:
        """Begin no more runs."""
        for job in self._waiting:
            run = run_of(self.project, job.plan)
            self._note(Outcome(run, run.status, message="not begun"), job.plan)
        self._waiting.clear()

    def _train(self) -> None:
        provenance = Provenance(self.registry)
        for job in self._waiting:
            provenance.store(run_of(self.project, job.plan), job.plan, job.recipe)
        device = self._waiting[0].plan.runtime.device
        most = MOST_RUNS if self.steering else len(self._waiting)
        self._slots = Slots(self.project.runs, device, self.options.jobs, most)
        with ExitStack() as stack:
            stack.callback(self._kill_all)
            stack.enter_context(Heard(self._note_signal))
            stack.enter_context(self.display)
            runs = [run_of(self.project, job.plan) for job in self._waiting]
            tracking = Tracking(self.project, runs) if self.options.track else None
            while self._waiting or self._active:
                self._heed_signals()
                self._settle()  # before others begin: a failure may mean that none shall
                self._steer(provenance, tracking)
                self._start_waiting()
                self.display.refresh([active.watched for active in self._shown()])
                self._check_patience()
                time.sleep(POLL_SECONDS)
            if tracking is not None and not tracking.finish():
                self.display.say(
                    "MLflow does not have everything yet; the runs do. Later: labctl sync"
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
        for job in list(self._waiting):
            if self._signals:
                return
            run = run_of(self.project, job.plan)
            if run.status is Status.RUNNING:
                self._waiting.remove(job)
                self._watch(run, None)
                self.display.say(
                    f"{job.plan.name}  is being trained by another labctl; following it"
                )
        while self._waiting and not self._signals and (slot := self._slots.take()):
            self._start(self._next(), slot)

    def _next(self) -> list[Run]:
        """Runs for one worker, no longer waiting: the first, and what may be trained beside it.

        No more than its share, for others may become free: seeds of one recipe, or as many runs as
        the user wants together.
        """
        first, *others = self._waiting
        runs, taken = [run_of(self.project, first.plan)], [first]
        most = -(-len(self._waiting) // self._slots.count)
        if self._together != "auto":
            most = min(most, self._together)
        for job in others:
            if len(runs) < most and self._goes_with(job, first, threads_of(runs[0])):
                runs.append(run_of(self.project, job.plan))
                taken.append(job)
        self._waiting = [job for job in self._waiting if job not in taken]
        return runs

    def _goes_with(self, job: Job, first: Job, threads: int) -> bool:
        if {job.plan.key, first.plan.key} & self._alone:
            return False
        is_row = job.plan.group == first.plan.group or self._together != "auto"
        return is_row and threads_of(run_of(self.project, job.plan)) == threads

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
        self._active.append(_Active(Watched(run), crew))

    def _shown(self) -> list[_Active]:
        """Those that have begun, or will at once: a worker may keep others back."""
        for active in self._active:
            is_alone = active.crew is None or len(active.crew.runs) == 1
            if not active.is_shown and (is_alone or active.watched.run.status is Status.RUNNING):
                self._show(active)
        return [active for active in self._active if active.is_shown]

    def _show(self, active: _Active) -> None:
        active.is_shown = True
        self.display.began(active.watched)

    def _settle(self) -> None:
        """Take note of the runs that have ended."""
        for active in list(self._active):
            run = active.watched.run
            if active.crew is not None:
                if not active.crew.has_ended(run):
                    continue
                if active.crew.code is not None and run.status is Status.RUNNING:
                    active.crew = None  # another worker had it already
                    continue
            elif run.status is Status.RUNNING and not self._stopping:
                continue
            self._active.remove(active)
            if not self._goes_alone(active, run):
                self._close(active, run)

    def _goes_alone(self, active: _Active, run: Run) -> bool:
        """Whether a run that its worker left behind, with others beside it, is tried by itself."""
        crew = active.crew
        if crew is None or len(crew.runs) == 1 or self._stopping or self._signals:
            return False
        if crew.has_told_end(run) or not run.needs(active.watched.plan):
            return False
        self._alone.add(run.plan.key)
        job = self._jobs[run.plan.key]
        self._waiting.append(job)
        self.display.say(
            f"{job.plan.name}  goes on alone: the worker that it shared died ({crew.how_it_died})"
        )
        return True

    def _close(self, active: _Active, run: Run) -> None:
        outcome = outcome_of(run, active.watched.plan)
        status, message = outcome.status, outcome.message
        log = self.project.shown(log_of(run, active.crew))
        if status in (Status.LOST, Status.PENDING):
            how = active.crew.how_it_died if active.crew else "it belonged to another labctl"
            if self._stopping:
                message = f"ended as it was asked to ({how})"
            else:
                status = Status.LOST
                message = f"the worker died without a word ({how}); its log: {log}"
        elif status is Status.FAILED:
            message += f"\n  log: {log}"
        self._note(Outcome(run, status, message=message), run.plan)
        if not active.is_shown:
            self._show(active)
        self.display.ended(active.watched, status, message)
        if self.options.fail_fast and status in (Status.FAILED, Status.LOST):
            self._stop_all()

    def _check_patience(self) -> None:
        """On a CPU, stop before many hours of work unless they were asked for."""
        if self.options.yes or self._stopping or self._slots.gpus:
            return
        rates = [
            a.watched
            for a in self._active
            if a.watched.seconds_per_step
            and a.crew is not None
            and time.monotonic() - a.crew.began > PROBE_SECONDS
        ]
        if not rates:
            return
        pace = sum(w.seconds_per_step or 0.0 for w in rates) / len(rates)
        steps = sum(a.watched.plan.work.steps - a.watched.step for a in self._active)
        steps += sum(job.plan.work.steps for job in self._waiting)
        hours = pace * steps / self._slots.count / 3600
        if hours > PATIENCE_HOURS:
            self._too_long = (
                f"this would take about {lasting(hours * 3600)} on this CPU ({pace:.2g} s per step)"
            )
            self._stop_all()


def _discard(runs: Sequence[Run]) -> None:
    """Remove what a refused command began and did not end: nothing of it is worth resuming."""
    for run in runs:
        status = run.status
        if run.folder.exists() and status is not Status.RUNNING and not status.is_final:
            run.discard()
