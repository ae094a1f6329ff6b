"""Which of the jobs that wait one worker takes."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.execute.job import Job, Together
from labctl.execute.queue import Queue
from labctl.store.journal import JournalWriter


def seeds(queue: Queue, workers: int, together: Together) -> list[int]:
    return [int(run.folder.name.removeprefix("seed=")) for run in queue.take(workers, together)]


@pytest.fixture
def jobs(lab: Any) -> list[Job]:
    """Four seeds of one row, and one of another."""
    return [*lab.jobs("tiny", "seeds=4"), *lab.jobs("tiny", "seeds=1", "batch_size=64")]


@pytest.mark.parametrize(
    ("workers", "together", "taken"),
    [
        (1, "auto", [[0, 1, 2, 3], [0]]),
        (2, "auto", [[0, 1, 2], [3], [0]]),
        (1, 1, [[0], [1], [2], [3], [0]]),
        (1, 5, [[0, 1, 2, 3, 0]]),
        (3, 5, [[0, 1], [2], [3], [0]]),
    ],
)
def test_a_worker_takes_a_row_or_as_many_as_the_user_wants_but_no_more_than_its_share(
    lab: Any, jobs: list[Job], workers: int, together: Together, taken: list[list[int]]
) -> None:
    queue = Queue(lab.project)
    queue.add(jobs)
    found = []
    while queue:
        found.append(seeds(queue, workers, together))
    assert found == taken


def test_what_its_worker_left_behind_goes_alone(lab: Any, jobs: list[Job]) -> None:
    queue = Queue(lab.project)
    queue.add_alone(jobs[1])
    queue.add(jobs[2:4])
    assert seeds(queue, 1, "auto") == [1]
    queue.add_alone(jobs[1])
    assert seeds(queue, 1, 4) == [2, 3]
    assert seeds(queue, 1, 4) == [1] and not queue


def test_runs_that_began_with_other_threads_have_other_workers(lab: Any, jobs: list[Job]) -> None:
    queue = Queue(lab.project)
    queue.add(jobs[:3])
    facts = {"device": "cpu", "threads": 3}
    JournalWriter(queue.runs[1].folder, 1, 0, facts).close()
    assert seeds(queue, 1, "auto") == [0, 2]
    assert seeds(queue, 1, "auto") == [1]


def test_one_device_comes_after_the_other(lab: Any, jobs: list[Job]) -> None:
    other = lab.jobs("tiny", "seeds=[7]", "runtime.device=auto")
    queue = Queue(lab.project)
    queue.add([jobs[0], *other, jobs[1]])
    assert queue.device == "cpu" and seeds(queue, 1, 4) == [0, 1]
    assert queue.device == "auto" and seeds(queue, 1, 4) == [7]
