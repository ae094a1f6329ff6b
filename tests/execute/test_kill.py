"""Workers and supervisors are killed at random moments: nothing is lost, and no status is wrong."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from labctl.store.run import Run
from labctl.store.status import Status

pytestmark = pytest.mark.slow


def worker(lab: Any, run: Run) -> subprocess.Popen[bytes]:
    how = {"threads": 1, "cpu_threads": 1, "workers": 1, "of_machine": 1, "together": 1}
    order = {"runs": [str(run.folder)], "data_roots": [], **how}
    return subprocess.Popen(
        [sys.executable, "-m", "labctl.execute.worker", json.dumps(order)],
        cwd=lab.root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def has_begun_or_ended(run: Run, process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is not None or process.pid in worker_pids([run])


def assert_same(expected: Run, actual: Run) -> None:
    """Every metric of every step, and the weights, bit for bit."""
    assert actual.journal.curves == expected.journal.curves
    losses = [
        [r.fields["losses"] for r in run.journal.of("first_losses")] for run in (expected, actual)
    ]
    assert losses[0] == losses[1]
    before = torch.load(expected.weights_path, weights_only=True)
    after = torch.load(actual.weights_path, weights_only=True)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert (expected.folder / "predictions.npz").exists() and (
        actual.folder / "predictions.npz"
    ).exists()


def test_a_run_killed_twenty_times_equals_one_that_was_not(make_lab: Callable[[str], Any]) -> None:
    overrides = ("seeds=[7]", "budget=12ep")
    expected = make_lab("whole").train_here("tiny", *overrides)[0]
    lab = make_lab("killed")
    from labctl.execute.provenance import Provenance

    job = lab.jobs("tiny", *overrides)[0]
    run = lab.runs("tiny", *overrides)[0]
    Provenance(lab.registry).store(run, job.plan, job.recipe)
    chance = random.Random(20)
    killed = 0
    while killed < 20:
        process = worker(lab, run)
        if chance.random() < 0.7:  # else while it imports, or loads what it resumes from
            wait_until(partial(has_begun_or_ended, run, process))
        time.sleep(chance.uniform(0.0, 0.6))
        number = chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
        was_alive = process.poll() is None
        process.send_signal(number)
        process.wait(timeout=60)
        if not was_alive:
            break
        killed += 1
        status = run.status
        if run.weights_path.exists() and status is Status.DONE:
            break
        # Before its handlers stand, a signal ends the worker as SIGKILL does.
        allowed = (
            {Status.LOST, Status.PENDING}
            if number == signal.SIGKILL
            else {Status.STOPPED, Status.LOST, Status.PENDING}
        )
        assert status in allowed | ({Status.STOPPED} if killed > 1 else set()), (number, status)
        assert not run.journal.damage
    process = worker(lab, run)
    assert process.wait(timeout=240) == 0 or run.status is Status.DONE
    assert run.status is Status.DONE
    assert run.journal.attempts > 3
    assert_same(expected, run)
    assert not list(run.folder.glob("checkpoint.pt*"))


def worker_pids(runs: list[Run]) -> list[int]:
    pids = []
    for run in runs:
        if run.status is Status.RUNNING:
            begins = list(run.journal.of("begin"))
            if begins:
                pids.append(int(begins[-1].fields["pid"]))
    return pids


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_supervised_runs_survive_every_kind_of_end(make_lab: Callable[[str], Any]) -> None:
    expected = make_lab("whole").train_here()
    lab = make_lab("killed")
    runs = lab.runs()

    # A worker is killed under its supervisor: said, with the exit code for "some failed".
    process = lab.start("run", "tiny", "--no-track")
    wait_until(lambda: len(worker_pids(runs)) == 2)
    os.kill(worker_pids(runs)[0], signal.SIGKILL)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 5, output
    assert "SIGKILL" in output and "LOST" in output
    assert sorted(run.status for run in runs) == [Status.DONE, Status.LOST]

    # Ctrl-C reaches the supervisor: the worker writes a checkpoint, the run is resumable.
    process = lab.start("run", "tiny", "--no-track")
    wait_until(lambda: worker_pids(runs))
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "labctl resume" in output
    assert sorted(run.status for run in runs) == [Status.DONE, Status.STOPPED]

    # The supervisor is killed: the worker goes on by itself, and is followed, not doubled.
    process = lab.start("run", "tiny", "--no-track")
    wait_until(lambda: worker_pids(runs))
    process.kill()
    process.communicate()
    assert Status.RUNNING in [run.status for run in runs]
    code, output = lab.labctl("run", "tiny", "--no-track")
    assert code == 0, output
    assert [run.status for run in runs] == [Status.DONE, Status.DONE]
    for before, after in zip(expected, runs, strict=True):
        assert_same(before, after)

    code, output = lab.labctl("run", "tiny", "--no-track")
    assert code == 0 and "2 DONE before" in output


def test_stop_and_resume(make_lab: Callable[[str], Any]) -> None:
    lab = make_lab("stopped")
    runs = lab.runs("tiny", "seeds=[3]")
    process = lab.start("run", "tiny", "seeds=[3]", "--no-track")
    wait_until(lambda: worker_pids(runs))
    code, output = lab.labctl("stop", "tiny")
    assert code == 0 and "asked to stop" in output
    process.communicate(timeout=60)
    assert process.returncode == 3
    assert runs[0].status is Status.STOPPED
    step = (runs[0].end or {})["step"]
    code, output = lab.labctl("resume", "--no-track")
    assert code == 0, output
    begins = list(runs[0].journal.of("begin"))
    assert begins[-1].step == step
    whole = make_lab("whole")
    assert whole.labctl("run", "tiny", "seeds=[3]", "--no-track")[0] == 0
    assert_same(whole.runs("tiny", "seeds=[3]")[0], runs[0])


def test_what_waits_and_what_is_just_beginning_can_be_stopped(
    make_lab: Callable[[str], Any],
) -> None:
    lab = make_lab("waiting")
    seeds = "seeds=[3,4]"
    begins, waits = lab.runs("tiny", seeds)
    process = lab.start("run", "tiny", seeds, "--no-track", "--jobs", "1")
    wait_until(begins.log_path.exists)
    for run in (begins, waits):
        assert run.status is Status.PENDING, "no worker is so fast"
    code, output = lab.labctl("stop", "tiny")
    assert code == 0 and output.count("it will not begin") == 2, output
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 3, output
    assert "seed=4  asked to stop before it began" in output
    assert (begins.status, waits.status) == (Status.STOPPED, Status.PENDING)
    assert (begins.end or {})["step"] == 0

    assert lab.labctl("run", "tiny", seeds, "--no-track")[0] == 0
    assert [run.status for run in (begins, waits)] == [Status.DONE, Status.DONE]
    assert "is not running: DONE" in lab.labctl("stop", "tiny")[1]


def test_two_supervisors_do_nothing_twice(make_lab: Callable[[str], Any]) -> None:
    lab = make_lab("both")
    first = lab.start("run", "tiny", "--no-track")
    second = lab.start("run", "tiny", "--no-track")
    outputs = [process.communicate(timeout=240)[0] for process in (first, second)]
    assert first.returncode == 0 and second.returncode == 0, outputs
    for run in lab.runs():
        assert run.status is Status.DONE
        assert run.journal.attempts == 1
