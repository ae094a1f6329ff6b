"""The feeding process, as its supervisor meets it: an order, a pipe, an exit code."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from labctl.project import Project
from labctl.store.journal import JournalWriter
from labctl.store.lock import FileLock
from labctl.store.run import Run
from labctl.store.status import Status
from labctl.track import feed
from labctl.track.store import connect

NewRun = Callable[..., Run]
End = Callable[..., None]
Found = Callable[..., Any]
Points = Callable[..., dict[str, list[tuple[int, float, int]]]]
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(project: Project) -> Iterator[Start]:
    """`start(runs, **environment)`: a feed whose standard input stays open."""
    started: list[subprocess.Popen[str]] = []

    def begin(runs: list[Run], **environment: str) -> subprocess.Popen[str]:
        order = {"project": str(project.root), "runs": [str(run.folder) for run in runs]}
        process = subprocess.Popen(
            [sys.executable, "-m", "labctl.track.feed", json.dumps(order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)


@pytest.mark.slow
def test_from_the_first_step_to_the_end_of_input(
    project: Project,
    client: Any,
    new_run: NewRun,
    end: End,
    found: Found,
    points: Points,
    start: Start,
) -> None:
    run, planned = new_run(seed=0), new_run(seed=1)
    process = start([run, planned])
    with FileLock(run.lock_path):
        journal = JournalWriter(run.folder, 1, 0, {})
        for step in range(1, 11):
            journal.metrics(step, {"train/loss": 1 / step})
        journal.record("checkpoint", 10)
        mark = run.folder / "mlflow.json"
        until(lambda: mark.exists() and '"train/loss": 10' in mark.read_text())
        assert found(client, run).info.status == "RUNNING"
        process.send_signal(signal.SIGINT)  # Ctrl-C reaches everybody; the feed waits for its end
        journal.metrics(20, {"train/loss": 0.25, "test/acc": 0.5})
        time.sleep(1)
        assert process.poll() is None
    end(run, journal, Status.DONE, 20)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 0
    stored = points(client, found(client, run))
    assert [step for step, *_ in stored["train/loss"]] == [*range(1, 11), 20]
    assert [value for _, value, _ in stored["final/test/acc"]] == [0.5]
    assert found(client, run).info.status == "FINISHED"


@pytest.mark.slow
def test_two_feeds_on_a_fresh_store_send_nothing_twice(
    project: Project, new_run: NewRun, end: End, found: Found, points: Points, start: Start
) -> None:
    runs = [new_run(seed=seed) for seed in range(3)]
    for run in runs:
        journal = JournalWriter(run.folder, 1, 0, {})
        for step in range(1, 501):
            journal.metrics(step, {"train/loss": 1 / step})
        end(run, journal, Status.DONE, 500)
    processes = [start(runs) for _ in range(2)]
    for process in processes:
        assert process.communicate(timeout=90) == ("", "")
        assert process.returncode == 0
    client = connect(project)
    parents = set()
    for run in runs:
        entity = found(client, run)  # asserts that there is one
        parents.add(entity.data.tags["mlflow.parentRunId"])
        curve = points(client, entity)["train/loss"]
        assert [step for step, *_ in curve] == list(range(1, 501))
    assert len(parents) == 1


@pytest.mark.slow
def test_a_store_that_is_down_is_told_once(new_run: NewRun, end: End, start: Start) -> None:
    runs = [new_run(seed=seed) for seed in range(2)]
    for run in runs:
        end(run, JournalWriter(run.folder, 1, 0, {}), Status.DONE, 0)
    process = start(runs, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert process.stderr
    assert process.stderr.readline() == (
        "MLflow store http://127.0.0.1:9: no answer (ConnectionError)\n"
    )
    assert "`labctl sync` sends the rest" in process.stderr.readline()
    time.sleep(5)
    _, rest = process.communicate(timeout=60)
    assert rest == ""
    assert process.returncode == 1


@pytest.mark.slow
def test_a_store_that_never_answers_holds_nobody_up(
    new_run: NewRun, end: End, start: Start
) -> None:
    run = new_run()
    end(run, JournalWriter(run.folder, 1, 0, {}), Status.DONE, 0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        process = start([run], MLFLOW_TRACKING_URI=f"http://127.0.0.1:{port}")
        begun = time.monotonic()
        _, told = process.communicate(timeout=90)
    assert time.monotonic() - begun < feed.LAST_PASS_SECONDS + 30
    assert process.returncode == 1
    assert "labctl sync" in told


@pytest.mark.slow
def test_a_run_that_cannot_be_read_keeps_no_other(
    project: Project, client: Any, new_run: NewRun, end: End, found: Found, start: Start
) -> None:
    broken, whole = new_run(seed=0), new_run(seed=1)
    for run in (broken, whole):
        end(run, JournalWriter(run.folder, 1, 0, {}), Status.DONE, 0)
    (broken.folder / "plan.json").write_text("{}")
    process = start([broken, whole])
    _, told = process.communicate(timeout=60)
    assert process.returncode == 1
    assert told.count("the plan cannot be read") == 1
    assert found(client, whole).info.status == "FINISHED"
