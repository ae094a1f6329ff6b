"""What is read from a run's folder."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.reports.quantity import in_order, value_at, value_of
from labctl.reports.result import Curve, result_of
from labctl.store.journal import JournalWriter


def test_training_time_leaves_out_evaluation_and_is_of_the_whole_budget(lab: Any) -> None:
    lab.recipe("base")
    result = result_of(lab.run("base", 0, rate=0.25))
    assert value_of(result, "time") == pytest.approx(0.25 * lab.plan("base", 0).work.steps)


def test_a_window_across_a_restart_counts_once(lab: Any) -> None:
    lab.recipe("base")
    plan = lab.plan("base", 0)
    run = lab.run("base", 0, status="LOST")
    for path in (run.folder / "journal").iterdir():
        path.unlink()
    first = JournalWriter(run.folder, 1, 0, {"device": "cpu"})
    first.metrics(10, {"train/loss": 1.0}, seconds=10.0, steps=10)
    first.metrics(20, {"train/loss": 9.0}, seconds=999.0, steps=10)  # after the checkpoint: lost
    first.close()
    second = JournalWriter(run.folder, 2, 15, {"device": "cpu"})
    second.metrics(20, {"train/loss": 0.5}, seconds=30.0, steps=10)
    second.close()
    result = result_of(run)
    assert result.seconds_per_step == pytest.approx(2.0)
    assert value_of(result, "time") == pytest.approx(2.0 * plan.work.steps)
    assert result.metrics["train/loss"] == 0.5


def test_wall_time_is_that_of_the_attempts_without_the_pause_between(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr("labctl.store.journal.time.time", lambda: clock[0])
    lab.recipe("base")
    run = lab.run("base", 0, status="LOST")
    for path in (run.folder / "journal").iterdir():
        path.unlink()
    first = JournalWriter(run.folder, 1, 0, {})
    clock[0] = 1007.0
    first.record("checkpoint", 10)
    first.close()
    clock[0] = 5000.0
    second = JournalWriter(run.folder, 2, 10, {})
    clock[0] = 5011.0
    second.record("end", 20, status="DONE", message="")
    second.close()
    result = result_of(run)
    assert value_of(result, "wall") == 18.0
    assert result.ended == "1970-01-01"


def test_energy_is_all_that_was_drawn_for_what_counts(lab: Any) -> None:
    lab.recipe("base")
    run = lab.run("base", 0, status="LOST")
    assert value_of(result_of(run), "energy") is None
    for path in (run.folder / "journal").iterdir():
        path.unlink()
    first = JournalWriter(run.folder, 1, 0, {})
    first.metrics(10, {"train/loss": 1.0}, seconds=1.0, steps=10, joules=100.0)
    first.metrics(20, {"train/loss": 1.0}, seconds=1.0, steps=10, joules=999.0)  # lost
    first.close()
    second = JournalWriter(run.folder, 2, 10, {"workers": 2})  # each reads what both draw
    second.metrics(20, {"train/loss": 1.0}, seconds=1.0, steps=10, joules=80.0)
    second.record("end", 20, status="DONE", message="", joules=5.0)
    second.close()
    assert value_of(result_of(run), "energy") == 142.5
    third = JournalWriter(run.folder, 3, 20, {})
    third.metrics(30, {"train/loss": 1.0}, seconds=1.0, steps=10)  # on a device that tells nothing
    third.close()
    assert value_of(result_of(run), "energy") is None


def test_a_device_is_shared_by_runs_and_workers(lab: Any) -> None:
    lab.recipe("base")
    result = result_of(lab.run("base", 0, facts={"device": "cuda", "replicas": 3, "workers": 2}))
    result = result.model_copy(update={"wall_seconds": 60.0})
    assert value_of(result, "device_time") == 10.0
    (alone,) = result_of(lab.run("base", 1)).conditions
    mixed = result.model_copy(update={"conditions": (*result.conditions, alone)})
    assert value_of(mixed, "device_time") is None
    assert value_of(result_of(lab.run("base", 2, facts={"device": "cuda"})), "device_time") is None


def test_conditions_are_those_of_the_attempts_that_trained(lab: Any) -> None:
    lab.recipe("base")
    run = lab.run("base", 0)
    later = JournalWriter(run.folder, 2, 1_000_000, {"device": "cpu", "torch": "9.9"})
    later.metrics(1_000_000, {"speed/latency": 3.0})
    later.close()
    (conditions,) = result_of(run).conditions
    assert conditions.device_name == "NVIDIA H200"
    assert str(conditions) == "NVIDIA H200, 8 CPU threads, torch 2.11.0"


def test_gap_and_accuracies_are_in_percent(lab: Any) -> None:
    lab.recipe("base")
    result = result_of(lab.run("base", 0, acc=0.6823, train_acc=0.8823))
    assert value_of(result, "test/acc") == pytest.approx(68.23)
    assert value_of(result, "gap") == pytest.approx(20.0)
    assert value_of(result, "test/loss") == pytest.approx(0.3177)
    assert value_of(result, "no/such") is None


def test_mean_tokens_are_weighted_by_steps(lab: Any) -> None:
    lab.recipe("base")
    tokens = [(0, 30, 64.0), (30, 40, 44.0)]
    result = result_of(lab.run("base", 0, tokens=tokens))
    assert value_of(result, "tokens") == pytest.approx((30 * 64 + 10 * 44) / 40)
    assert value_of(result_of(lab.run("base", 1)), "tokens") is None


def test_training_curves_are_thinned_and_evaluations_whole(lab: Any) -> None:
    lab.recipe("base", budget="40ep", runtime="{log_every: 1step}")
    steps = lab.plan("base", 0).work.steps
    evaluations = {step: {"val/acc": step / 1e4} for step in range(2, steps, 2)}
    result = result_of(lab.run("base", 0, evaluations=evaluations))
    curve = result.training["train/loss"]
    assert len(curve.steps) == 200
    assert (curve.steps[0], curve.steps[-1]) == (1, steps)
    assert all(value == 2.0 / step for step, value in zip(curve.steps, curve.values, strict=True))
    assert result.evaluations["val/acc"].steps == tuple(evaluations)
    assert "train/clean/acc" in result.evaluations
    assert "val/acc" not in result.training


def test_a_short_curve_is_kept_as_it_is() -> None:
    assert Curve.of({3: 0.5, 1: 0.25}, 200) == Curve(steps=(1, 3), values=(0.25, 0.5))


def test_picking_by_validation_takes_the_first_best_evaluation(lab: Any) -> None:
    lab.recipe("base", runtime="{log_every: 1step}")
    evaluations = {
        4: {"val/acc": 0.3, "test/acc": 0.11},
        5: {"val/acc": 0.7, "test/acc": 0.22},
        6: {"val/acc": 0.7, "test/acc": 0.33},
        7: {"val/acc": float("nan"), "test/acc": 0.44},
    }
    result = result_of(lab.run("base", 0, acc=0.99, evaluations=evaluations))
    assert value_at(result, "test/acc", "max", "val/acc") == pytest.approx(22.0)
    assert value_at(result, "test/acc", "min", "val/acc") == pytest.approx(11.0)
    assert value_at(result, "test/acc", "max", "val/other") is None
    assert value_at(result, "train/clean/acc", "max", "val/acc") is None


def test_names_of_metrics_stand_as_people_count() -> None:
    names = ["1", "t/late", "t/t0/acc", "t/t2", "t/t2/acc", "t/t16/acc", "test/acc"]
    assert sorted(reversed(names), key=in_order) == names
