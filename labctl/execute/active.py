"""A run that a supervisor watches, from its beginning to how it ended."""

from __future__ import annotations

from dataclasses import dataclass

from labctl.project import Project
from labctl.store.run import Run
from labctl.store.status import Status

from .crew import Crew, log_of
from .display import Watched
from .job import Outcome, outcome_of


@dataclass
class Active:
    """A run and who trains it."""

    watched: Watched
    crew: Crew | None
    """None: a worker of another supervisor."""
    is_shown: bool = False

    @property
    def run(self) -> Run:
        return self.watched.run

    def has_ended(self, is_stopping: bool) -> bool:
        """Whether nobody trains it any more; a worker of another supervisor is not waited for when
        all is to stop."""
        run = self.run
        if self.crew is not None:
            if not self.crew.has_ended(run):
                return False
            if self.crew.code is not None and run.status is Status.RUNNING:
                self.crew = None  # another worker had it already
                return False
        elif run.status is Status.RUNNING and not is_stopping:
            return False
        return True

    def is_left_behind(self) -> bool:
        """Whether its worker died before it had its end, with others beside it."""
        crew = self.crew
        if crew is None or len(crew.runs) == 1:
            return False
        return not crew.has_told_end(self.run) and self.run.needs(self.watched.plan)

    def outcome(self, project: Project, is_stopping: bool) -> Outcome:
        """How it ended; of a run without an end, how its worker did."""
        found = outcome_of(self.run, self.watched.plan)
        status, message = found.status, found.message
        log = project.shown(log_of(self.run, self.crew))
        is_told = self.crew is None or self.crew.has_told_end(self.run)
        is_of_before = status in (Status.STOPPED, Status.FAILED) and not is_told
        if status in (Status.LOST, Status.PENDING) or is_of_before:
            how = self.crew.how_it_died if self.crew else "it belonged to another labctl"
            if is_stopping:
                message = f"ended as it was asked to ({how})"
            else:
                status = Status.LOST
                message = f"the worker died without a word ({how}); its log: {log}"
        elif status is Status.FAILED:
            message += f"\n  log: {log}"
        return Outcome(self.run, status, message=message)
