"""Moments at which a run could be lost, doubled or misreported, each brought about on purpose."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from labctl.errors import EnvironmentProblem
from labctl.execute.attempt import Attempt, Workbench
from labctl.execute.crew import threads_of
from labctl.execute.display import Lines, Watched
from labctl.execute.inline import carry_out_inline
from labctl.execute.options import Options
from labctl.execute.provenance import Provenance, repository
from labctl.execute.rounds import work
from labctl.execute.signals import Heard, Interrupted
from labctl.execute.stop import Stop
from labctl.execute.supervisor import Supervisor
from labctl.store import run as store_run
from labctl.store.journal import JournalWriter, segments
from labctl.store.run import Run
from labctl.store.status import Status
from labctl.train import checkpoint
from labctl.train.average import Average

MAPS = "measure.attention_maps.images=16"


@pytest.fixture
def quick(lab: Any) -> Any:
    """Runs of 48 steps: most examples are set aside for validation."""
    text = (lab.root / "recipes/tiny.yaml").read_text()
    lab.write("tiny", text.replace("name: digits", "name: digits, val: 1181"))
    return lab


def prepared(lab: Any, *overrides: str) -> Run:
    job = lab.jobs("tiny", *overrides)[0]
    run: Run = lab.runs("tiny", *overrides)[0]
    Provenance(lab.registry).store(run, job.plan, job.recipe)
    return run


def supervisor(lab: Any, **options: Any) -> Supervisor:
    silent = Lines(Console(quiet=True))
    return Supervisor(lab.project, lab.registry, silent, Options(track=False, **options))


@pytest.mark.slow
def test_a_diverged_run_is_not_tried_again_for_its_measurements(quick: Any) -> None:
    overrides = (
        "seeds=[1]", "schedules.lr.peak=1e9", "schedules.lr.warmup=0ep",
        "optimizer.clip_norm=null", MAPS,
    )  # fmt: skip
    for _ in range(2):
        jobs = quick.jobs("tiny", *overrides)
        outcome = carry_out_inline(quick.project, quick.registry, jobs)[0]
        assert outcome.status is Status.DIVERGED
    assert outcome.was_skipped and outcome.run.journal.attempts == 1
    assert not Attempt(outcome.run, Workbench((), Stop(), quick.registry, {})).claim()


@pytest.mark.slow
def test_a_finished_run_stays_done_whatever_a_later_measurement_does(quick: Any) -> None:
    run = quick.train_here("tiny", "seeds=[1]")[0]
    step, weights = (run.end or {})["step"], run.weights_path.read_bytes()
    in_the_way = run.folder / "measurements"
    in_the_way.write_text("a file, not a folder")
    jobs = quick.jobs("tiny", "seeds=[1]", MAPS)
    outcome = carry_out_inline(quick.project, quick.registry, jobs)[0]
    assert outcome.status is Status.FAILED and "cannot write" in outcome.message
    assert run.status is Status.DONE and (run.end or {})["step"] == step

    stop = Stop()
    stop.reason = "SIGTERM"
    work([run], (), stop)
    assert run.status is Status.DONE and not run.checkpoint_path.exists()

    in_the_way.unlink()
    outcome = carry_out_inline(quick.project, quick.registry, jobs)[0]
    assert outcome.status is Status.DONE and not outcome.message
    assert run.weights_path.read_bytes() == weights


@pytest.mark.slow
def test_results_of_an_attempt_that_is_superseded_are_made_anew(quick: Any) -> None:
    overrides = ("seeds=[1]", "runtime.checkpoint_seconds=0", MAPS)
    expected = quick.train_here("tiny", *overrides)[0]
    values = (expected.folder / "measurements/attention_maps/values.json").read_text()
    curves = expected.journal.curves
    expected.discard()
    run = prepared(quick, *overrides)

    class Soon(Stop):
        def asked(self, run: Run) -> bool:
            return run.journal.durable_step >= 20

    work([run], (), Soon())
    stale = run.folder / "measurements/attention_maps/values.json"
    stale.parent.mkdir(parents=True)
    stale.write_text("{}")
    run.weights_path.write_bytes(b"of another attempt")
    work([run], (), Stop())
    assert run.status is Status.DONE
    assert run.journal.curves == curves and stale.read_text() == values


def fake_worker(code: str) -> Any:
    def spawn(self: Supervisor, runs: Sequence[Run], slot: Any) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", code]
        process = subprocess.Popen(command, pass_fds=[slot.lock.descriptor])
        slot.lock.release()
        return process

    return spawn


def test_fail_fast_reports_the_runs_that_never_began(
    quick: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Supervisor, "_spawn", fake_worker("raise SystemExit(1)"))
    outcomes = supervisor(quick, jobs=1, fail_fast=True).carry_out(quick.jobs())
    assert [outcome.status for outcome in outcomes] == [Status.LOST, Status.PENDING]
    assert "not begun" in outcomes[1].message


@pytest.mark.slow
def test_work_of_one_key_is_done_for_each_name_and_device(quick: Any) -> None:
    quick.write("same", (quick.root / "recipes/tiny.yaml").read_text())
    first, last = (quick.jobs("tiny", f"seeds=[{seed}]")[0] for seed in (1, 2))
    (same,) = quick.jobs("same", "seeds=[1]", "runtime.device=auto")
    assert same.plan.key == first.plan.key
    outcomes = supervisor(quick).carry_out([first, same, last, same])
    assert [outcome.run.plan.name for outcome in outcomes] == [
        job.plan.name for job in (first, same, last)
    ]
    assert {outcome.status for outcome in outcomes} == {Status.DONE}


def test_a_signal_while_a_worker_is_started_reaches_that_worker(
    quick: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = fake_worker("import time; time.sleep(60)")
    started = []

    def spawn(self: Supervisor, runs: Sequence[Run], slot: Any) -> subprocess.Popen[bytes]:
        started.append(start(self, runs, slot))
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        return started[-1]

    monkeypatch.setattr(Supervisor, "_spawn", spawn)
    began = time.monotonic()
    carrying = supervisor(quick, jobs=2)
    with pytest.raises(Interrupted):
        carrying.carry_out(quick.jobs())
    assert time.monotonic() - began < 20
    assert [process.returncode for process in started] == [-signal.SIGTERM]
    assert {o.status for o in carrying.outcomes.values()} == {Status.PENDING}


def test_a_signal_that_was_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Heard(lambda number, frame: None):
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_stop_file_stops_its_own_run_only(tmp_path: Path) -> None:
    one, other = Run(tmp_path / "one"), Run(tmp_path / "other")
    one.request_stop()
    stop = Stop()
    assert stop.asked(one)
    assert not stop.asked(other)


def test_a_damaged_checkpoint_never_pushes_the_whole_one_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, {"step": 1})
    checkpoint.save(path, {"step": 2})
    path.write_bytes(path.read_bytes()[:-3])

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(EnvironmentProblem):
        patched.setattr(torch, "save", full)
        checkpoint.save(path, {"step": 2})
    state, _ = checkpoint.load(path)
    assert state == {"step": 1}


def test_what_a_killed_worker_was_writing_is_cleared_away(quick: Any) -> None:
    run = prepared(quick, "seeds=[1]")
    for name in (
        "checkpoint.pt.99.partial",
        "checkpoint.pt.new.99.partial",
        "weights.pt.9.partial",
    ):
        (run.folder / name).write_bytes(b"half")
    assert Attempt(run, Workbench((), Stop(), quick.registry, {})).claim()
    assert not list(run.folder.glob("*.partial"))


def test_threads_of_a_first_attempt_that_never_began_are_those_of_the_next(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal/0001.jsonl").touch()
    JournalWriter(tmp_path, 2, 0, {"device": "cpu", "threads": 3}).close()
    JournalWriter(tmp_path, 3, 0, {"device": "cpu", "threads": 5}).close()
    assert threads_of(Run(tmp_path)) == 3


@pytest.mark.slow
def test_a_missing_segment_does_not_stop_the_next_attempt(quick: Any) -> None:
    run = prepared(quick, "seeds=[1]")
    (run.folder / "journal").mkdir()
    (run.folder / "journal/0002.jsonl").touch()
    work([run], (), Stop())
    assert run.status is Status.DONE
    assert [path.name for path in segments(run.folder)] == ["0002.jsonl", "0003.jsonl"]


def test_progress_of_an_earlier_attempt_is_not_shown(quick: Any) -> None:
    run = prepared(quick, "seeds=[1]")
    progress = {"step": 40, "time": time.time() - 60, "seconds_per_step": 1e6}
    (run.folder / "progress.json").write_text(json.dumps(progress))
    watched = Watched(run)
    watched.refresh()
    assert watched.step == 0 and watched.seconds_per_step is None
    (run.folder / "progress.json").write_text(json.dumps({**progress, "time": time.time() + 1}))
    watched.refresh()
    assert watched.step == 40


def test_a_run_taken_between_two_looks_is_running(
    quick: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = prepared(quick, "seeds=[1]")
    looks = iter([False, True])
    monkeypatch.setattr(store_run, "is_held", lambda path: next(looks))
    assert run.status is Status.RUNNING


def test_a_snapshot_that_was_interrupted_is_not_taken_for_whole(
    quick: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from labctl.execute import provenance

    def interrupted(source: Path, target: Path, **options: Any) -> None:
        target.mkdir(parents=True)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(provenance.shutil, "copytree", interrupted)
        prepared(quick, "seeds=[1]")
    run = prepared(quick, "seeds=[1]")
    assert (run.source_path / "ctd_vit/model.py").exists()
    assert [path.name for path in run.source_path.iterdir()] == ["ctd_vit"]
    assert not list(run.folder.glob("source.*"))


def test_a_repository_with_an_editors_lock_and_without_a_commit(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".#model.py").symlink_to("someone@somewhere.123")
    (tmp_path / "new.py").write_text("x = 1\n")
    facts, patch = repository(tmp_path / "recipe.yaml")
    assert facts["commit"] == "" and facts["is_dirty"] and "+x = 1" in patch


class Indexed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.norm = nn.BatchNorm1d(3)
        self.register_buffer("index", torch.arange(5000))
        self.register_buffer("mask", torch.tensor([True, False]))


def test_the_average_is_torchs_but_leaves_whole_numbers_whole() -> None:
    torch.manual_seed(0)
    model = Indexed()
    ours = Average(model, 0.9)
    theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    for _ in range(50):
        model.norm(torch.randn(8, 3))
        with torch.no_grad():
            model.layer.weight += torch.randn(3, 3)
        ours.update_parameters(model)
        theirs.update_parameters(model)
    expected = theirs.state_dict()
    for name, value in ours.state_dict().items():
        if value.is_floating_point():
            assert torch.equal(value, expected[name]), name
    assert ours.state_dict().keys() == expected.keys()
    assert int(ours.n_averaged) == int(theirs.n_averaged) == 50
    assert torch.equal(ours.module.index, torch.arange(5000))
    assert torch.equal(ours.module.mask, model.mask)
    assert int(ours.module.norm.num_batches_tracked) == 50
