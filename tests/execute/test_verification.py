"""First steps trained again: equal bit for bit, or the first that is not, and what may be why."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labctl.errors import UsageError
from labctl.execute import beginning, verification
from labctl.execute.provenance import Provenance
from labctl.execute.rounds import work
from labctl.execute.stop import Stop
from labctl.execute.trace import LOSS
from labctl.execute.verification import EXPECTED, Finding, Verification, Verifier, recorded
from labctl.plans.plan import leaves
from labctl.reports.bundle import read_bundle, write_bundle
from labctl.reports.entry import entries, recorded_of
from labctl.store.atomic import write_json
from labctl.store.run import Run
from labctl.store.status import Status

pytestmark = pytest.mark.slow

SHORT = (
    "seeds=[1]",
    "budget=30step",
    "evaluate.every=30step",
    "schedules.lr.warmup=2step",
    "schedules.token_drop.start=4step",
    "schedules.token_drop.end=25step",
    "runtime.log_every=4step",
    "runtime.checkpoint_seconds=0",
)


@pytest.fixture
def trained(lab: Any) -> Run:
    run: Run = lab.train_here("tiny", *SHORT)[0]
    return run


@pytest.fixture
def orders(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    """Repetitions are trained in this process; the orders that they had."""
    seen: list[Mapping[str, Any]] = []

    def here(module: str, order: Mapping[str, Any], log: Path, environment: object) -> int:
        assert module == beginning.__name__
        seen.append(order)
        write_json(log.with_name("order.json"), dict(order))
        return beginning.main([str(log.with_name("order.json"))])

    monkeypatch.setattr(verification, "carried_out", here)
    return seen


def verified(lab: Any, run: Run, steps: int = 20, tolerance: float = 0.0) -> Verification:
    return Verifier(lab.project, lab.registry, steps, tolerance).verify(recorded(run))


def rewrite(run: Run, change: Callable[[dict[str, Any]], None]) -> None:
    """Tamper with the first segment of the journal."""
    path = run.folder / "journal/0001.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records:
        change(record)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_run_verified_right_after_training_is_equal_and_stays_as_it_is(
    lab: Any, trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    before = contents(lab.root)
    found = verified(lab, trained)
    assert (found.finding, found.first, found.message) == (Finding.EQUAL, None, "")
    assert found.steps == 20 and found.compared > 20
    assert not found.explanations and not found.asides
    assert contents(lab.root) == before
    assert not list(scratch.iterdir())


def test_a_run_that_was_killed_and_resumed_is_equal(lab: Any) -> None:
    options = ("seeds=[1]", "runtime.checkpoint_seconds=0", "runtime.log_every=4step")
    job, run = lab.jobs("tiny", *options)[0], lab.runs("tiny", *options)[0]
    Provenance(lab.registry).store(run, job.plan, job.recipe)
    order = {"runs": [str(run.folder)], "data_roots": [], "workers": 1, "of_machine": 1,
             "threads": 1, "cpu_threads": 1, "together": 1}  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "labctl.execute.worker", json.dumps(order)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    while run.journal.durable_step < 6:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    assert run.status is Status.LOST
    interrupted = verified(lab, run, 12)
    assert interrupted.finding is Finding.EQUAL and 4 <= interrupted.steps <= 12

    work([run], (), Stop())
    assert run.status is Status.DONE and run.journal.attempts == 2
    assert verified(lab, run).finding is Finding.EQUAL
    later = verified(lab, run, 64)
    assert later.finding is Finding.EQUAL and later.steps == 64


def test_it_is_trained_with_the_threads_of_the_first_attempt(
    lab: Any, trained: Run, orders: list[Mapping[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beginning.torch, "set_num_threads", lambda threads: None)
    rewrite(trained, lambda r: r.update({"threads": 3} if r["kind"] == "begin" else {}))
    assert verified(lab, trained, 3).finding is Finding.EQUAL
    assert orders[0]["threads"] == 3 and orders[0]["device"] == "cpu"


def test_a_changed_learning_rate_is_found_at_the_loss_after_its_first_update(
    lab: Any, trained: Run, orders: list[Mapping[str, Any]]
) -> None:
    path = trained.folder / "plan.json"
    text = path.read_text()
    assert text.count('"peak": 0.003') == 1
    path.write_text(text.replace('"peak": 0.003', '"peak": 0.0031'))
    changed = Run(trained.folder)
    found = verified(lab, changed)
    assert found.finding is Finding.DIFFERS and found.finding.exit_code == 4
    # The rate warms up from 0: the second update is the first that it changes.
    assert found.first is not None and (found.first.step, found.first.metric) == (3, LOSS)
    assert found.first.then == recorded(changed).trace[3, LOSS] != found.first.now
    assert 0 < found.first.relative < 1e-3
    assert any("plan.json was changed" in line for line in found.explanations)
    close = verified(lab, changed, tolerance=0.5)
    assert close.finding is Finding.CLOSE and close.finding.exit_code == 0


def test_changed_stored_code_is_found_at_the_first_step(
    lab: Any, trained: Run, orders: list[Mapping[str, Any]]
) -> None:
    model = trained.source_path / "ctd_vit" / "model.py"
    model.write_text(model.read_text().replace("0.02", "0.021"))
    found = verified(lab, trained)
    assert found.finding is Finding.DIFFERS
    assert found.first is not None and found.first.step == 1
    assert "the stored code of ctd_vit was changed since the run was planned" in found.explanations


def test_changes_that_first_steps_do_not_show_are_said(
    lab: Any, trained: Run, orders: list[Mapping[str, Any]]
) -> None:
    model = trained.source_path / "ctd_vit" / "model.py"
    model.write_text(model.read_text() + "\n\nLATER = 1\n")
    path = trained.folder / "plan.json"
    plan = json.loads(path.read_text())
    plan["work"]["ladders"]["token_drop"].append({"step": 28, "value": 0.25})
    path.write_text(json.dumps(plan))
    found = verified(lab, Run(trained.folder), 3)
    assert found.finding is Finding.EQUAL
    assert [line.partition(" was changed")[0] for line in found.explanations] == [
        "plan.json",
        "the stored code of ctd_vit",
    ]


def test_comments_in_stored_code_explain_nothing(
    lab: Any, trained: Run, orders: list[Mapping[str, Any]]
) -> None:
    model = trained.source_path / "ctd_vit" / "model.py"
    model.write_text(model.read_text() + "# a remark\n")
    rewrite(trained, lambda r: r.update({"losses": ["1.0"]} if r["kind"] == "first_losses" else {}))
    found = verified(lab, trained, 1)
    assert found.finding is Finding.DIFFERS and not found.explanations


@pytest.mark.parametrize(("step", "metric"), [(7, LOSS), (8, "train/loss")])
def test_a_tampered_journal_is_found_at_its_step(
    lab: Any, trained: Run, orders: list[Mapping[str, Any]], step: int, metric: str
) -> None:
    def change(record: dict[str, Any]) -> None:
        if record["kind"] == "first_losses" and metric == LOSS:
            record["losses"][step - 1] = "2.5"
        if record["kind"] == "metrics" and record["step"] == step and metric != LOSS:
            record["values"][metric] = 2.5

    rewrite(trained, change)
    found = verified(lab, trained)
    assert found.first is not None and found.differing == 1
    assert (found.first.step, found.first.metric, found.first.then) == (step, metric, "2.5")
    assert found.finding is Finding.DIFFERS
    assert verified(lab, trained, step - 1).finding is Finding.EQUAL


def test_other_hardware_is_compared_and_said(
    lab: Any, trained: Run, orders: list[Mapping[str, Any]]
) -> None:
    def change(record: dict[str, Any]) -> None:
        if record["kind"] == "begin":
            record.update(device="cuda", device_name="NVIDIA H200", torch="2.1.0", engine="graphed")
        if record["kind"] == "metrics" and "replicas" in record:
            record["replicas"] = 3
        if record["kind"] == "first_losses":
            record["losses"][1] = repr(float(record["losses"][1]) * (1 + 1e-5))

    rewrite(trained, change)
    found = verified(lab, trained)
    assert found.finding is Finding.DIFFERS
    assert found.first is not None and found.first.step == 2
    assert found.first.relative == pytest.approx(1e-5, rel=1e-3)
    told = "\n".join(found.explanations)
    assert "device was NVIDIA H200, is" in told and "torch was 2.1.0, is" in told
    assert "engine was graphed, is eager" in told and "with 2 others" in told
    assert EXPECTED in found.explanations
    assert orders[0]["threads"] == 0
    assert verified(lab, trained, tolerance=1e-3).finding is Finding.CLOSE


def test_a_bundle_entry_is_verified_with_todays_code(
    lab: Any, trained: Run, tmp_path: Path, orders: list[Mapping[str, Any]]
) -> None:
    write_bundle([trained], tmp_path / "x.json")
    bundle = read_bundle(tmp_path / "x.json")
    verifier = Verifier(lab.project, lab.registry)
    for name in ("tiny/seed=1", trained.plan.key, trained.plan.key[:6], trained.plan.name):
        (entry,) = entries(bundle, name)
    found = verifier.verify(recorded_of(entry, bundle.name))
    assert (found.finding, found.steps, found.asides) == (Finding.EQUAL, 20, ())

    digests = {**entry.work["digests"], "ctd_vit": "0" * 12}
    other = entry.model_copy(
        update={"plan": {**entry.plan, "work": {**entry.work, "digests": digests}}}
    )
    (aside,) = verifier.verify(recorded_of(other, bundle.name)).asides
    assert "code of ctd_vit is today's" in aside and "0" * 12 in aside
    with pytest.raises(UsageError, match="no run 'tiny/seed=2'") as caught:
        entries(bundle, "tiny/seed=2")
    assert "tiny/seed=1" in caught.value.hint


def test_data_that_are_gone_are_said_with_what_would_work(
    lab: Any, orders: list[Mapping[str, Any]], tmp_path: Path
) -> None:
    images = tmp_path / "images.npz"
    chance = np.random.default_rng(0)
    arrays = {
        f"{split}_{part}": values
        for split, n in (("train", 64), ("test", 8))
        for part, values in (
            ("images", chance.integers(0, 255, (n, 8, 8), dtype=np.uint8)),
            ("labels", np.arange(n) % 2),
        )
    }
    np.savez(images, **arrays)
    data = f"data={{name: npz, path: {images}, classes: 2}}"
    run = lab.train_here("tiny", *SHORT, data, "schedules.token_drop.end=28step")[0]
    assert run.status is Status.DONE, run.end
    assert verified(lab, run, 3).finding is Finding.EQUAL
    images.rename(tmp_path / "elsewhere.npz")
    found = verified(lab, run, 3)
    assert found.finding is Finding.IMPOSSIBLE and found.finding.exit_code == 6
    assert "data set npz is not here" in found.message and str(images) in found.message


def test_a_device_that_is_not_here_is_said(
    lab: Any, trained: Run, orders: list[Mapping[str, Any]]
) -> None:
    path = trained.folder / "plan.json"
    plan = json.loads(path.read_text())
    assert leaves(plan)["runtime.device"] == "cpu"
    plan["runtime"]["device"] = "mps"
    path.write_text(json.dumps(plan))
    rewrite(trained, lambda r: r.update({"device": "mps"} if r["kind"] == "begin" else {}))
    found = verified(lab, Run(trained.folder))
    assert found.finding is Finding.IMPOSSIBLE and "mps" in found.message


def test_stored_code_that_fails_is_no_difference(
    lab: Any, trained: Run, orders: list[Mapping[str, Any]]
) -> None:
    (trained.source_path / "ctd_vit" / "model.py").write_text("raise RuntimeError('worn out')\n")
    found = verified(lab, trained)
    assert found.finding is Finding.FAILED and found.finding.exit_code == 3
    assert "worn out" in found.message and found.first is None


def test_what_was_never_begun_or_told_nothing_is_refused(lab: Any, trained: Run) -> None:
    job = lab.jobs("tiny", "seeds=[7]")[0]
    waiting = lab.runs("tiny", "seeds=[7]")[0]
    Provenance(lab.registry).store(waiting, job.plan, job.recipe)
    with pytest.raises(UsageError, match="is PENDING"):
        recorded(waiting)
    rewrite(trained, lambda r: r.update({"kind": "note"} if r["kind"] == "first_losses" else {}))
    with pytest.raises(UsageError, match="no loss recorded within its first 3 steps") as caught:
        verified(lab, trained, 3)
    assert "--steps 4" in caught.value.hint


def test_a_plan_that_the_code_does_not_take_is_not_verified(
    lab: Any, trained: Run, orders: list[Mapping[str, Any]]
) -> None:
    path = trained.folder / "plan.json"
    plan = json.loads(path.read_text())
    plan["work"]["learner"]["config"]["wobble"] = 1
    path.write_text(json.dumps(plan))
    found = verified(lab, Run(trained.folder))
    assert found.finding is Finding.IMPOSSIBLE
    assert "wobble" in found.message and "of that time" in found.message
