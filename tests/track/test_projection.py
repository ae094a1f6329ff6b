"""What MLflow is to show of a run, without MLflow."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from labctl.store.journal import Journal, JournalWriter
from labctl.store.lock import FileLock
from labctl.store.run import Run
from labctl.store.status import Status
from labctl.track.projection import Projection


def project_of(run: Run) -> Projection:
    projection = Projection.of(run)
    assert projection is not None
    return projection


def test_a_run_that_recorded_nothing_is_not_shown(new_run: Callable[..., Run]) -> None:
    assert Projection.of(new_run()) is None


def test_params_are_the_flattened_work(new_run: Callable[..., Run]) -> None:
    run = new_run(seed=3)
    JournalWriter(run.folder, 1, 0, {}).close()
    params = project_of(run).params()
    assert params["model.architecture"] == "toy"
    assert params["model.depth"] == "2"
    assert params["model.wide"] == "true"
    assert params["model.note"] == "null"
    assert params["loss.cross_entropy.smoothing"] == "0.1"
    assert params["ladders.token_drop"] == '[{"step": 0, "value": 1}, {"step": 50, "value": 2}]'
    assert params["learner.kind"] == "backprop"
    assert params["optimizer.clip_norm"] == "null"
    assert params["seed"] == "3"


def test_points_keep_step_and_time(new_run: Callable[..., Run]) -> None:
    run = new_run()
    journal = JournalWriter(run.folder, 1, 0, {})
    for step in (10, 20):
        journal.metrics(step, {"train/loss": 1 / step})
    journal.close()
    projection = project_of(run)
    times = [round(record.time * 1000) for record in projection.journal.of("metrics")]
    assert projection.points() == [
        ("train/loss", 0.1, times[0], 10),
        ("train/loss", 0.05, times[1], 20),
    ]


def test_of_two_values_at_one_step_the_later_counts(new_run: Callable[..., Run]) -> None:
    run = new_run()
    journal = JournalWriter(run.folder, 1, 0, {})
    journal.metrics(10, {"test/acc": 0.25})
    journal.metrics(10, {"test/acc": 0.75})
    journal.close()
    assert [(point.step, point.value) for point in project_of(run).points()] == [(10, 0.75)]


def test_what_is_not_finite_is_named_and_not_sent(
    new_run: Callable[..., Run], end: Callable[..., None]
) -> None:
    run = new_run()
    journal = JournalWriter(run.folder, 1, 0, {})
    journal.metrics(10, {"train/loss": 1.0, "train/norm": math.inf})
    journal.metrics(20, {"train/loss": math.nan, "train/norm": math.nan})
    end(run, journal, Status.DIVERGED, 20, "loss stopped being finite")
    projection = project_of(run)
    values = {(point.name, point.step): point.value for point in projection.points()}
    assert values == {("train/loss", 10): 1.0, ("diverged", 20): 1.0}
    state = projection.state()
    assert state["labctl.not_finite"] == "train/loss at step 20, train/norm at step 10"
    assert state["labctl.message"] == "loss stopped being finite"


def test_final_values_are_those_of_the_last_evaluation(
    new_run: Callable[..., Run], end: Callable[..., None]
) -> None:
    run = new_run()
    journal = JournalWriter(run.folder, 1, 0, {})
    journal.metrics(50, {"val/acc": 0.9, "test/acc": 0.9, "train/loss": 1.0})
    journal.metrics(100, {"val/acc": 0.8, "test/acc": 0.7, "train/loss": 0.5})
    assert not [p for p in project_of(run).points() if p.name.startswith("final/")]
    end(run, journal, Status.DONE, 100)
    last = project_of(run).points()
    final = {p.name: (p.value, p.step) for p in last if p.name.startswith(("final/", "diverged"))}
    assert final == {
        "final/val/acc": (0.8, 100),
        "final/test/acc": (0.7, 100),
        "diverged": (0.0, 100),
    }


@pytest.mark.parametrize(
    "status, durable",
    [
        (Status.RUNNING, 10),
        (Status.LOST, 10),
        (Status.STOPPED, math.inf),
        (Status.FAILED, math.inf),
    ],
)
def test_only_an_ended_run_is_durable_beyond_its_checkpoint(
    new_run: Callable[..., Run], end: Callable[..., None], status: Status, durable: float
) -> None:
    run = new_run()
    lock = FileLock(run.lock_path)
    journal = JournalWriter(run.folder, 1, 0, {})
    journal.record("checkpoint", 10)
    journal.metrics(20, {"train/loss": 1.0})
    if status is Status.RUNNING:
        assert lock.acquire()
    if status in (Status.STOPPED, Status.FAILED):
        end(run, journal, status, 20)
    else:
        journal.close()
    projection = project_of(run)
    lock.release()
    assert (projection.status, projection.durable_step) == (status, durable)


def test_a_new_attempt_that_begins_while_we_look_is_seen(
    new_run: Callable[..., Run], end: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run()
    first = JournalWriter(run.folder, 1, 0, {})
    first.record("checkpoint", 10)
    end(run, first, Status.STOPPED, 10)

    def resumed(run: Run) -> Journal:
        run.end_path.unlink()
        second = JournalWriter(run.folder, 2, 10, {})
        second.metrics(20, {"train/loss": 1.0})
        second.close()
        return Journal.read(run.folder)

    monkeypatch.setattr(Run, "journal", property(resumed))
    projection = project_of(run)
    assert (projection.status, projection.durable_step) == (Status.RUNNING, 10)


def test_no_artifact_could_be_taken_for_a_run(
    new_run: Callable[..., Run], end: Callable[..., None]
) -> None:
    run = new_run()
    figure = run.folder / "measurements" / "speed" / "curve.png"
    figure.parent.mkdir(parents=True)
    figure.write_bytes(b"png")
    journal = JournalWriter(run.folder, 1, 0, {})
    assert {name for name, _ in project_of(run).files()} == {
        "resolved_plan.json",
        "provenance.json",
    }
    end(run, journal, Status.DONE, 100)
    names = {name for name, _ in project_of(run).files()}
    assert names == {"resolved_plan.json", "provenance.json", "measurements/speed/curve.png"}


def test_no_password_of_a_remote_is_shown(new_run: Callable[..., Run]) -> None:
    run = new_run()
    JournalWriter(run.folder, 1, 0, {}).close()
    tags = project_of(run).tags()
    assert tags["mlflow.source.git.repoURL"] == "https://example.org/x.git"
    assert tags["mlflow.source.git.commit"] == "c0ffee"
    assert tags["mlflow.source.git.dirty"] == "true"
    assert tags["mlflow.note.content"] == "A toy"
    assert tags["labctl.label"] == "toy@smoke"
