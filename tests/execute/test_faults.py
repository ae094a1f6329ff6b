"""What a user meets when machine or files are at fault: one message, a next step, nothing lost."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from labctl.errors import EnvironmentProblem
from labctl.execute.inline import carry_out_inline
from labctl.execute.rounds import work
from labctl.execute.stop import Stop
from labctl.registry.registry import Registry
from labctl.store.atomic import write_atomic
from labctl.store.journal import segments
from labctl.store.run import Run
from labctl.store.status import Status
from labctl.train import checkpoint

pytestmark = pytest.mark.slow


class StopAt(Stop):
    """Asks a run to stop once it has done so many steps."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def asked(self, run: Run) -> bool:
        return (
            int(run.progress.get("step", 0)) >= self.step or run.journal.durable_step >= self.step
        )


def begun(lab: Any, *overrides: str, roots: tuple[Path, ...] = ()) -> Run:
    """A run that was stopped with two checkpoints behind it."""
    from labctl.execute.provenance import Provenance

    overrides = (
        "seeds=[1]",
        "evaluate.every=1ep",
        "runtime.checkpoint_seconds=0",
        *overrides,
    )
    job = lab.jobs("tiny", *overrides)[0]
    run: Run = lab.runs("tiny", *overrides)[0]
    Provenance(lab.registry).store(run, job.plan, job.recipe)
    work([run], roots, StopAt(20))
    assert run.status is Status.STOPPED
    return run


def go_on(run: Run, roots: tuple[Path, ...] = ()) -> None:
    work([run], roots, Stop())


@pytest.fixture
def quick(lab: Any) -> Any:
    """Runs of 48 steps: most examples are set aside for validation."""
    text = (lab.root / "recipes/tiny.yaml").read_text()
    lab.write("tiny", text.replace("name: digits", "name: digits, val: 1181"))
    return lab


def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    quick: Any, make_lab: Callable[[str], Any]
) -> None:
    run = begun(quick)
    data = bytearray(run.checkpoint_path.read_bytes())
    data[len(data) // 2] ^= 1
    run.checkpoint_path.write_bytes(bytes(data))
    go_on(run)
    assert run.status is Status.DONE
    warnings = [record.fields["message"] for record in run.journal.of("warning")]
    assert len(warnings) == 1 and "checksum" in warnings[0]
    other = make_lab("undamaged")
    other.write("tiny", (quick.root / "recipes/tiny.yaml").read_text())
    whole = other.train_here(
        "tiny", "seeds=[1]", "evaluate.every=1ep", "runtime.checkpoint_seconds=0"
    )[0]
    assert whole.journal.curves == run.journal.curves


@pytest.mark.parametrize("cut", [0, 10, -1])
def test_without_a_usable_checkpoint_the_run_says_how_to_begin_again(quick: Any, cut: int) -> None:
    run = begun(quick)
    for path in run.folder.glob("checkpoint.pt*"):
        path.write_bytes(path.read_bytes()[:cut])
    go_on(run)
    assert run.status is Status.FAILED
    assert "--restart" in (run.end or {})["message"]
    assert "truncated" in (run.end or {})["message"]


def test_a_run_does_not_go_on_with_other_data(lab: Any, tmp_path: Path) -> None:
    """It fails, and says so; with its own data back it ends."""
    path = tmp_path / "images.npz"
    chance = np.random.default_rng(0)
    arrays = {
        f"{split}_{part}": values
        for split, n in (("train", 256), ("test", 32))
        for part, values in (
            ("images", chance.integers(0, 255, (n, 8, 8), dtype=np.uint8)),
            ("labels", np.arange(n) % 2),
        )
    }
    np.savez(path, **arrays)
    overrides = (f"data={{name: npz, path: {path}, classes: 2}}", "budget=40step")
    run = begun(lab, *overrides, "schedules.token_drop.end=30step", roots=(tmp_path,))
    stands = run.journal.durable_step
    np.savez(path, **{**arrays, "train_labels": 1 - arrays["train_labels"]})
    go_on(run, (tmp_path,))
    assert run.status is Status.FAILED and run.end is not None
    assert run.end["message"].startswith("data set npz has changed: the run was planned with")
    assert run.journal.durable_step == stands
    np.savez(path, **arrays)
    go_on(run, (tmp_path,))
    assert run.status is Status.DONE and run.journal.durable_step == 40


def test_a_journal_cut_short_by_a_crash_is_no_damage(quick: Any) -> None:
    run = begun(quick)
    path = segments(run.folder)[0]
    whole = run.journal.curves
    path.write_bytes(path.read_bytes()[:-7])
    assert not run.journal.damage
    go_on(run)
    assert run.status is Status.DONE
    assert all(
        run.journal.curves[name][step] == value
        for name, curve in whole.items()
        for step, value in curve.items()
    )


def test_a_damaged_line_is_named_and_the_rest_is_read(quick: Any) -> None:
    run = begun(quick)
    path = segments(run.folder)[0]
    lines = path.read_bytes().split(b"\n")
    lines[3] = lines[3][:20]
    path.write_bytes(b"\n".join(lines))
    assert run.journal.damage == (f"{path.name}:4: not a record",)
    assert run.journal.curves


def test_a_full_disk_fails_the_run_with_a_way_out_and_keeps_what_is_there(quick: Any) -> None:
    run = begun(quick)
    before = run.checkpoint_path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
    try:
        go_on(run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert run.status is Status.FAILED
    end = run.end or {}
    assert end["code"] == EnvironmentProblem.exit_code
    assert "cannot write" in end["message"] and "labctl resume" in end["message"]
    assert not list(run.folder.glob("*.partial"))
    go_on(run)
    assert run.status is Status.DONE


def test_what_torch_makes_of_a_full_disk_is_told_as_the_disk_told_it(tmp_path: Path) -> None:
    """Its archive's writer has an assertion of its own in place of the error."""
    state = {"weights": torch.zeros(200_000)}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(EnvironmentProblem, match="File too large") as caught:
            checkpoint.save(tmp_path / "checkpoint.pt", state)
        with pytest.raises(EnvironmentProblem, match="File too large"):
            write_atomic(tmp_path / "w.pt", lambda file: checkpoint.write_state(file, state))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "free some space" in caught.value.hint


def test_a_begun_run_goes_on_to_log_as_often_as_it_did(quick: Any) -> None:
    """Else its curves could be held against those of no repetition."""
    from labctl.execute.provenance import Provenance

    run = begun(quick, "runtime.log_every=3step")
    (job,) = quick.jobs(
        "tiny", "seeds=[1]", "evaluate.every=1ep", "runtime.checkpoint_seconds=0",
        "runtime.log_every=5step",
    )  # fmt: skip
    assert job.plan.key == run.plan.key
    Provenance(quick.registry).store(run, job.plan, job.recipe)
    go_on(run)
    assert run.plan.runtime.log_every == 3
    steps = [step for step in run.journal.curves["train/loss"] if step < run.plan.work.steps]
    assert steps and all(step % 3 == 0 for step in steps)


def test_a_plan_cut_short_is_said_and_written_again(quick: Any) -> None:
    (run,) = quick.train_here("tiny", "seeds=[1]")
    plan = (run.folder / "plan.json").read_bytes()
    (run.folder / "plan.json").write_bytes(plan[:300])
    code, output = quick.labctl("status")
    assert code == 0 and "left out, for want of a readable plan: runs/tiny/" in output
    assert "labctl doctor says why" in output
    code, output = quick.labctl("run", "tiny", "seeds=[1]", "--no-track")
    assert code == 0 and "1 DONE before" in output
    assert (run.folder / "plan.json").read_bytes() == plan


def test_a_note_of_progress_that_makes_no_sense_is_none(quick: Any) -> None:
    (run,) = quick.train_here("tiny", "seeds=[1]")
    (run.folder / "progress.json").write_text('{"step": null}')
    code, output = quick.labctl("status")
    assert code == 0 and "48/48" in output


def test_divergence_is_an_answer_and_is_not_tried_again(quick: Any) -> None:
    overrides = (
        "seeds=[1]",
        "schedules.lr.peak=1e9",
        "schedules.lr.warmup=0ep",
        "optimizer.clip_norm=null",
    )
    first = carry_out_inline(quick.project, quick.registry, quick.jobs("tiny", *overrides))[0]
    assert first.status is Status.DIVERGED
    assert "finite" in first.message
    assert first.run.journal.attempts == 1
    second = carry_out_inline(quick.project, quick.registry, quick.jobs("tiny", *overrides))[0]
    assert second.was_skipped and second.run.journal.attempts == 1
    text = segments(first.run.folder)[0].read_text()
    assert all(json.loads(line) for line in text.splitlines())


def test_an_attempt_that_ends_before_it_trains_is_counted_and_supersedes_nothing(
    quick: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError("at step 1, on the meta device")

    run = begun(quick)
    (fresh,) = quick.runs("tiny", "seeds=[2]")
    curves, attempts, step = run.journal.curves, run.journal.attempts, run.journal.durable_step
    with monkeypatch.context() as patch:
        patch.setattr("labctl.execute.attempt.write_ledger", fail)
        go_on(run)
        quick.train_here("tiny", "seeds=[2]")
    assert fresh.status is Status.FAILED and fresh.journal.attempts == 1
    assert run.status is Status.FAILED and run.journal.attempts == attempts + 1
    assert run.end is not None and run.end["step"] == run.journal.durable_step == step
    assert run.journal.curves == curves
    assert "attempts 1" in quick.labctl("show", "tiny/seed=2")[1]
    go_on(run)
    assert run.status is Status.DONE and run.journal.attempts == attempts + 2
    assert all(curve.items() <= run.journal.curves[n].items() for n, curve in curves.items())


def test_a_measurement_asked_for_later_needs_no_training(quick: Any) -> None:
    run = quick.train_here("tiny", "seeds=[1]")[0]
    weights, attempts = run.weights_path.read_bytes(), run.journal.attempts
    curves = run.journal.curves
    again = quick.train_here("tiny", "seeds=[1]", "measure.attention_maps.images=16")[0]
    assert again.folder == run.folder and again.status is Status.DONE
    assert again.weights_path.read_bytes() == weights
    assert again.journal.attempts == attempts + 1
    assert (again.folder / "measurements/attention_maps/values.json").exists()
    added = again.journal.curves.keys() - curves.keys()
    assert added and all(name.startswith("attention_maps/") for name in added)
    assert all(again.journal.curves[name] == curve for name, curve in curves.items())


RESTS = """
title: rests within a few steps
data: {name: digits}
model: {architecture: energy_transformer, patch_size: 4, embed_dim: 16, num_heads: 2, hidden: 16}
learner: {kind: eqprop}
batch_size: 256
budget: 5step
optimizer: {kind: adamw}
loss: {cross_entropy: {}}
schedules: {lr: 1e-3, beta: 0.05}
evaluate: {every: 5step}
runtime: {device: cpu}
seeds: [0]
"""


def test_a_measurement_that_is_asked_something_else_is_taken_again(lab: Any) -> None:
    """What it found before gives way: no figure stands for a question that it was not asked."""
    lab.write("rests", RESTS)

    def asked(steps: str) -> Run:
        run: Run = lab.train_here("rests", f"measure.relaxation_depth.steps={steps}")[0]
        return run

    first = asked("[0, 1, 2]")
    names, attempts = first.journal.curves.keys(), first.journal.attempts
    assert asked("[0, 1, 2]").journal.attempts == attempts
    again = asked("[0, 2, 4]")
    assert again.folder == first.folder and again.status is Status.DONE
    assert again.journal.attempts == attempts + 1
    gone, new = names - again.journal.curves.keys(), again.journal.curves.keys() - names
    assert {name.rpartition("/")[0] for name in gone} == {"relaxation_depth/t1"}
    assert {name.rpartition("/")[0] for name in new} == {"relaxation_depth/t4"}
    assert again.asked("relaxation_depth").config["steps"] == [0, 2, 4]


def test_interleaved_runs_equal_the_same_two_alone(make_lab: Callable[[str], Any]) -> None:
    from labctl.execute.provenance import Provenance

    labs = [make_lab(name) for name in ("together", "alone")]
    for lab in labs:
        provenance = Provenance(lab.registry)
        for job, run in zip(
            lab.jobs("tiny", "budget=5ep"), lab.runs("tiny", "budget=5ep"), strict=True
        ):
            provenance.store(run, job.plan, job.recipe)
    together, alone = (lab.runs("tiny", "budget=5ep") for lab in labs)
    work(together, (), Stop())
    for run in alone:
        work([run], (), Stop())
    for one, other in zip(together, alone, strict=True):
        assert one.status is Status.DONE
        assert one.journal.curves == other.journal.curves
        assert one.weights_path.read_bytes() == other.weights_path.read_bytes()


class TestFromTheOutside:
    """The same through the command line."""

    def test_a_runs_folder_that_cannot_be_written(
        self, lab: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        blocked = lab.root / "blocked"
        blocked.write_text("a file, not a folder")
        monkeypatch.setenv("LABCTL_RUNS", str(blocked))
        code, output = lab.labctl("run", "tiny", "--no-track")
        assert code == 6, output
        assert "cannot write" in output and "LABCTL_RUNS" in output and "Traceback" not in output

    def test_missing_data_names_places_ways_and_a_preset(
        self, lab: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LABCTL_DATA", str(lab.root / "nowhere"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(lab.root / "cache"))
        code, output = lab.labctl("run", "ctd_gamma1.5")
        assert code == 6
        assert "nowhere/cifar-100-python" in output
        assert "labctl data fetch cifar100" in output and "--preset smoke" in output

    def test_many_hours_on_a_cpu_need_a_yes(self, lab: Any) -> None:
        code, output = lab.labctl(
            "run", "tiny", "budget=20000000step", "schedules.token_drop=0.1", "--no-track"
        )
        assert code == 6, output
        assert "--yes" in output and "on this CPU" in output
        assert not list(lab.project.runs.glob("tiny/*/seed=*")), "a refused command leaves no run"

    def test_a_plugin_that_raises_is_reported_as_its_own_failure(self, lab: Any) -> None:
        folder = lab.root / "plugins" / "broken"
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("x = 1\nraise RuntimeError('out of order')\n")
        lab.write("b", (lab.root / "recipes/tiny.yaml").read_text().replace("ctd_vit", "broken"))
        code, output = lab.labctl("validate", "b")
        assert code == 2
        assert (
            "plugins/broken/__init__.py:2" in output
            and "out of order" in output
            and "Traceback" not in output
        )
        assert lab.labctl("validate", "tiny")[0] == 0
        assert lab.labctl("doctor")[0] == 6


def test_restart_sets_an_unfinished_run_aside(quick: Any) -> None:
    run = begun(quick)
    code, output = quick.labctl(
        "run",
        "tiny",
        "seeds=[1]",
        "evaluate.every=1ep",
        "runtime.checkpoint_seconds=0",
        "--no-track",
        "--restart",
    )
    assert code == 0, output
    assert run.status is Status.DONE and run.journal.attempts == 1
    aside = list(run.folder.parent.glob("seed=1.aside-*"))
    assert len(aside) == 1 and segments(aside[0])


def test_code_edited_while_runs_wait_changes_nothing(quick: Any, tmp_path: Path) -> None:
    run = begun(quick)
    snapshot = run.source_path / "ctd_vit"
    assert (snapshot / "model.py").exists()
    assert (
        Registry(run.source_path, is_quiet=True).load("ctd_vit").digest
        == run.plan.work.digests["ctd_vit"]
    )
