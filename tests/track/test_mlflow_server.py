"""Against a real MLflow server: it dies in the middle, and no point is lost or there twice."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from labctl.errors import EnvironmentProblem
from labctl.project import Project
from labctl.store.journal import JournalWriter
from labctl.store.lock import FileLock
from labctl.store.run import Run
from labctl.store.status import Status
from labctl.track.mirror import Mirror, sync
from labctl.track.store import connect
from labctl.track.ui import ui_command

NewRun = Callable[..., Run]
End = Callable[..., None]
Found = Callable[..., Any]
Points = Callable[..., dict[str, list[tuple[int, float, int]]]]

pytestmark = pytest.mark.slow


class Server:
    """`labctl ui` on the store of a project: an MLflow server on this machine."""

    def __init__(self, project: Project, log: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.command = ui_command(project, self.port)
        self.folder, self.log = project.root, log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 120
        while not self.answers():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.2)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                return True
        except OSError:
            return False

    def kill(self) -> None:
        """End it and its workers at once, in the middle of whatever they do."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture
def server(project: Project, client: Any, tmp_path: Path) -> Iterator[Server]:
    server = Server(project, tmp_path / "server.log")
    server.start()
    yield server
    server.kill()


def test_a_server_that_dies_and_comes_back(
    project: Project,
    server: Server,
    new_run: NewRun,
    end: End,
    found: Found,
    points: Points,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    run = new_run()
    mirror = Mirror(project)
    journal = JournalWriter(run.folder, 1, 0, {})
    with FileLock(run.lock_path):
        for step in range(1, 1501):
            journal.metrics(step, {"train/loss": 1 / step, "knob/lr": 0.1})
        journal.record("checkpoint", 1500)
        assert mirror.deliver(run).sent == 3000
        for step in range(1501, 3001):
            journal.metrics(step, {"train/loss": 1 / step, "knob/lr": 0.1})
        journal.metrics(3000, {"test/acc": 0.5})
        journal.record("checkpoint", 3000)

        # the server dies after the first batch of this pass: whether it arrived, we never hear
        log_batch = MlflowClient.log_batch

        def dying(self: Any, run_id: str, metrics: Any = (), *rest: Any, **named: Any) -> None:
            log_batch(self, run_id, metrics, *rest, **named)
            server.kill()
            raise OSError("connection reset")

        with monkeypatch.context() as patch:
            patch.setattr(MlflowClient, "log_batch", dying)
            with pytest.raises(EnvironmentProblem, match="connection reset"):
                mirror.deliver(run)
        for _ in range(2):
            begun = time.monotonic()
            with pytest.raises(EnvironmentProblem, match=f"127.0.0.1:{server.port}: ") as problem:
                mirror.deliver(run)
            assert time.monotonic() - begun < 10
            assert "labctl sync" in problem.value.hint
    end(run, journal, Status.DONE, 3000)
    with pytest.raises(EnvironmentProblem):
        sync(project, [run])

    server.start()
    # 3001 remain, of which 1000 had arrived; two more points belong to the end
    assert mirror.deliver(run).sent == 3001 - 1000 + 2
    (delivery,) = sync(project, [run])
    assert (delivery.sent, delivery.remaining) == (0, 0)
    client = connect(project)
    entity = found(client, run)
    stored = points(client, entity)
    times = {record.step: round(record.time * 1000) for record in run.journal.of("metrics")}
    expected = [(step, 1 / step, times[step]) for step in range(1, 3000)]
    assert stored["train/loss"][:-1] == expected
    assert [(step, value) for step, value, _ in stored["train/loss"][-1:]] == [(3000, 1 / 3000)]
    assert [step for step, *_ in stored["knob/lr"]] == list(range(1, 3001))
    assert [value for _, value, _ in stored["final/test/acc"]] == [0.5]
    assert entity.info.status == "FINISHED"


def test_one_store_by_two_addresses(
    project: Project,
    client: Any,
    server: Server,
    new_run: NewRun,
    end: End,
    found: Found,
    points: Points,
) -> None:
    run = new_run()
    journal = JournalWriter(run.folder, 1, 0, {})
    for step in range(1, 11):
        journal.metrics(step, {"train/loss": 1 / step})
    end(run, journal, Status.DONE, 10)
    assert Mirror(project).deliver(run).sent == 11
    assert Mirror(project, server.uri).deliver(run).sent == 0
    assert len(points(client, found(client, run))["train/loss"]) == 10


def test_the_server_shows_points_and_artifacts(
    project: Project, server: Server, new_run: NewRun, end: End, found: Found
) -> None:
    by_file, by_server = new_run(recipe="by_file"), new_run(recipe="by_server")
    for run in (by_file, by_server):
        end(run, JournalWriter(run.folder, 1, 0, {}), Status.DONE, 0)
    Mirror(project).deliver(by_file)
    Mirror(project, server.uri).deliver(by_server)
    client = connect(project, server.uri)
    for run in (by_file, by_server):
        run_id = found(client, run).info.run_id
        address = f"{server.uri}/get-artifact?run_uuid={run_id}&path=resolved_plan.json"
        with urllib.request.urlopen(address, timeout=20) as answer:
            assert json.load(answer)["key"] == run.plan.key
