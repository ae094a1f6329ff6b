"""Jobs that wait for a worker, and which of them one worker takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from labctl.project import Project
from labctl.store.run import Run, run_of

from .crew import threads_of
from .job import Job, Together


class Queue:
    """Jobs in the order in which they are begun."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._jobs: list[Job] = []
        self._alone: set[str] = set()
        """Keys of runs whose worker died while it had others too."""

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        """Over those that wait now, whatever is taken out meanwhile."""
        return iter(list(self._jobs))

    @property
    def runs(self) -> list[Run]:
        return [run_of(self.project, job.plan) for job in self._jobs]

    @property
    def device(self) -> str:
        """That the next job asks for."""
        return self._jobs[0].plan.runtime.device

    def add(self, jobs: Sequence[Job]) -> None:
        """Jobs that follow those that wait, but for this: one device after the other."""
        self._jobs += jobs
        devices = list(dict.fromkeys(job.plan.runtime.device for job in self._jobs))
        self._jobs.sort(key=lambda job: devices.index(job.plan.runtime.device))

    def add_alone(self, job: Job) -> None:
        """A job that no worker shall have with others."""
        self._alone.add(job.plan.key)
        self._jobs.append(job)

    def remove(self, job: Job) -> None:
        self._jobs.remove(job)

    def clear(self) -> None:
        self._jobs.clear()

    def take(self, workers: int, together: Together) -> list[Run]:
        """Runs for one worker, no longer waiting: the first, and what may be trained beside it.

        No more than its share, for others may become free: seeds of one recipe, or as many runs as
        the user wants together.
        """
        first, *others = self._jobs
        runs, taken = [run_of(self.project, first.plan)], [first]
        most = -(-len(self._jobs) // workers)
        if together != "auto":
            most = min(most, together)
        for job in others:
            if len(runs) < most and self._goes_with(job, first, threads_of(runs[0]), together):
                runs.append(run_of(self.project, job.plan))
                taken.append(job)
        self._jobs = [job for job in self._jobs if job not in taken]
        return runs

    def _goes_with(self, job: Job, first: Job, threads: int, together: Together) -> bool:
        if {job.plan.key, first.plan.key} & self._alone:
            return False
        if job.plan.runtime.device != first.plan.runtime.device:
            return False
        is_row = job.plan.group == first.plan.group or together != "auto"
        return is_row and threads_of(run_of(self.project, job.plan)) == threads
