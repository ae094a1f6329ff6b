"""A supervisor whose work is decided while it goes on: searches with pruning."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from rich.console import Console

from labctl.execute.display import Lines
from labctl.execute.job import Job, Outcome
from labctl.execute.options import Options
from labctl.execute.supervisor import Supervisor
from labctl.store.atomic import write_json
from labctl.store.run import Run
from labctl.store.status import Status

WORKER = """
import json, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
status = "DONE"
if "seed=2" in folder.name:
    while not (folder / "stop").exists():
        time.sleep(0.01)
    status = "STOPPED"
end = {"status": status, "step": 1, "message": "", "code": 0, "time": time.time()}
(folder / "end.json").write_text(json.dumps(end))
"""


def spawn(self: Supervisor, runs: Sequence[Run], slot: Any) -> subprocess.Popen[bytes]:
    (run,) = runs
    command = [sys.executable, "-c", WORKER, str(run.folder)]
    process = subprocess.Popen(command, pass_fds=[slot.lock.descriptor])
    slot.lock.release()
    return process


class ThreeSeeds:
    """Offers a job at a time, dislikes seed 2, and writes down what it hears."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = list(jobs)
        self.rooms: list[int] = []
        self.heard: list[tuple[int, Status]] = []

    def more(self, room: int) -> Sequence[Job]:
        self.rooms.append(room)
        return [self.jobs.pop(0)] if self.jobs else []

    def verdict(self, run: Run) -> str:
        return "not promising" if run.plan.work.seed == 2 else ""

    def ended(self, outcome: Outcome) -> None:
        self.heard.append((outcome.run.plan.work.seed, outcome.status))


@pytest.fixture
def supervise(lab: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(Supervisor, "_spawn", spawn)

    def run(steering: Any, **options: Any) -> list[Outcome]:
        silent = Lines(Console(quiet=True))
        made = Options(track=False, yes=True, **options)
        return Supervisor(lab.project, lab.registry, silent, made, steering).carry_out([])

    return run


def test_work_is_taken_in_as_workers_fall_idle_and_stopped_on_a_verdict(
    lab: Any, supervise: Any
) -> None:
    steering = ThreeSeeds(lab.jobs("tiny", "seeds=[1,2,3]"))
    outcomes = supervise(steering, jobs=1)
    assert [outcome.run.plan.work.seed for outcome in outcomes] == [1, 2, 3]
    assert steering.heard == [(1, Status.DONE), (2, Status.STOPPED), (3, Status.DONE)]
    assert set(steering.rooms) == {1}, "one worker, and asked only when it was idle"


def test_a_worker_that_dies_before_it_takes_a_run_is_not_told_with_the_end_before(
    lab: Any, supervise: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = lab.jobs("tiny", "seeds=[1]")
    (run,) = lab.runs("tiny", "seeds=[1]")
    run.create(job.plan, {})
    write_json(run.end_path, {"status": "STOPPED", "step": 1, "message": "SIGINT", "time": 1.0})
    monkeypatch.setattr(sys.modules[__name__], "WORKER", "import os; os.kill(os.getpid(), 9)")
    (outcome,) = supervise(ThreeSeeds([job]), jobs=1)
    assert outcome.status is Status.LOST
    assert outcome.message.startswith("the worker died without a word (SIGKILL); its log: ")


def test_what_is_done_is_told_and_not_trained_again(lab: Any, supervise: Any) -> None:
    supervise(ThreeSeeds(lab.jobs("tiny", "seeds=[1,3]")), jobs=2)
    steering = ThreeSeeds(lab.jobs("tiny", "seeds=[1,3,5]"))
    outcomes = supervise(steering, jobs=2)
    assert [outcome.was_skipped for outcome in outcomes] == [True, True, False]
    assert steering.heard == [(seed, Status.DONE) for seed in (1, 3, 5)]


def test_nothing_offered_is_nothing_done(supervise: Any) -> None:
    assert supervise(ThreeSeeds([])) == []
