"""Runs delivered to an SQLite store: everything once, nothing twice, whatever happens between."""

from __future__ import annotations

import json
import math
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from mlflow import MlflowClient

from labctl.errors import EnvironmentProblem, RunError
from labctl.project import Project
from labctl.store.journal import JournalWriter
from labctl.store.lock import FileLock
from labctl.store.run import Run, all_runs
from labctl.store.status import Status
from labctl.track import mark as marks
from labctl.track.mirror import DELETED, Mirror, sync
from labctl.track.store import Refused, tracking_uri

NewRun = Callable[..., Run]
End = Callable[..., None]
Found = Callable[..., Any]
Points = Callable[..., dict[str, list[tuple[int, float, int]]]]


def journalled(run: Run) -> dict[str, list[tuple[int, float, int]]]:
    """What MLflow must show of the finite values that the journal kept, worked out on its own."""
    shown: dict[str, dict[int, tuple[float, int]]] = {}
    for record in run.journal.of("metrics"):
        for name, value in record.values.items():
            if math.isfinite(value):
                shown.setdefault(name, {})[record.step] = (value, round(record.time * 1000))
    return {name: [(step, *curve[step]) for step in sorted(curve)] for name, curve in shown.items()}


def without_ends(points: dict[str, Any]) -> dict[str, Any]:
    return {
        name: curve
        for name, curve in points.items()
        if name.split("/")[0] not in ("final", "diverged")
    }


def train(journal: JournalWriter, start: int, stop: int) -> None:
    """Steps `start` + 10, ..., `stop`."""
    for step in range(start + 10, stop + 10, 10):
        journal.metrics(step, {"train/loss": 1 / step, "knob/lr": 0.1})
        if step % 50 == 0:
            journal.metrics(step, {"test/acc": step / 100})


@pytest.mark.slow
def test_a_whole_run(
    project: Project, client: Any, new_run: NewRun, end: End, found: Found, points: Points
) -> None:
    run = new_run(seed=7)
    journal = JournalWriter(run.folder, 1, 0, {"device": "cpu"})
    train(journal, 0, 100)
    end(run, journal, Status.DONE, 100)
    delivery = Mirror(project).deliver(run)
    # 10 losses, 10 rates, 2 accuracies, the final one and `diverged`
    assert (delivery.sent, delivery.remaining, delivery.note) == (24, 0, "")

    entity = found(client, run)
    stored = points(client, entity)
    assert without_ends(stored) == journalled(run)
    assert stored["final/test/acc"] == [stored["test/acc"][-1]]
    assert stored["diverged"] == [(100, 0.0, 1_800_000_000_500)]
    assert entity.info.status == "FINISHED"
    assert entity.info.start_time == round(run.journal.records[0].time * 1000)
    assert entity.info.end_time == 1_800_000_000_500
    assert entity.info.run_name == "toy@smoke seed=7"
    tags = entity.data.tags
    assert tags["labctl.key"] == run.plan.key
    assert tags["labctl.status"] == "DONE"
    assert tags["labctl.seed"] == "7"
    assert tags["mlflow.source.name"] == "/home/me/recipes/toy.yaml"
    assert entity.data.params["optimizer.momentum"] == "0.9"


def test_seeds_stand_under_one_parent_which_counts_them(
    project: Project, client: Any, new_run: NewRun, end: End, found: Found
) -> None:
    runs = [new_run(seed=seed) for seed in range(3)]
    journals = [JournalWriter(run.folder, 1, 0, {}) for run in runs]
    other = new_run(seed=0, preset=None)
    end(other, JournalWriter(other.folder, 1, 0, {}), Status.FAILED, 0, "broken")
    for journal, acc in zip(journals, (0.75, 0.125, 0.25), strict=True):
        journal.metrics(0, {"test/acc": acc})
    end(runs[0], journals[0], Status.DONE, 0)
    end(runs[1], journals[1], Status.DIVERGED, 0)
    with FileLock(runs[2].lock_path):
        # each by a process of its own, so nothing but the store tells them of one another
        for run in (*runs, other):
            Mirror(project).deliver(run)
    parents = {found_run.data.tags["mlflow.parentRunId"] for found_run in children(client, runs[0])}
    assert len(parents) == 1
    parent = client.get_run(parents.pop())
    assert parent.data.tags["labctl.group"] == runs[0].plan.group
    assert parent.info.status == "RUNNING"
    counts = {status: int(parent.data.tags[f"labctl.runs.{status}"]) for status in Status}
    assert {status: count for status, count in counts.items() if count} == {
        Status.DONE: 1,
        Status.DIVERGED: 1,
        Status.RUNNING: 1,
    }
    assert parent.data.metrics == {"mean/test/acc": 0.75}
    foreign = {"mlflow.parentRunId": parent.info.run_id}  # somebody's own, under our parent
    client.create_run(parent.info.experiment_id, tags=foreign)
    end(runs[2], journals[2], Status.DONE, 0)
    sync(project, runs)
    parent = client.get_run(parent.info.run_id)
    assert (parent.info.status, parent.data.tags["labctl.runs.DONE"]) == ("FAILED", "2")
    assert parent.data.tags["labctl.runs.RUNNING"] == "0"
    means = {"mean/test/acc": 0.5, "sd/test/acc": pytest.approx(0.125**0.5)}
    assert parent.data.metrics == means, "of the seeds that are done"


def children(client: Any, run: Run) -> list[Any]:
    experiment = client.get_experiment_by_name(f"labctl/{run.plan.recipe}")
    query = f"tags.`labctl.label` = '{run.plan.label}' and tags.`labctl.kind` = 'run'"
    return list(client.search_runs([experiment.experiment_id], query))


@pytest.mark.parametrize(
    "status, shown",
    [
        (Status.DONE, "FINISHED"),
        (Status.FAILED, "FAILED"),
        (Status.DIVERGED, "FAILED"),
        (Status.STOPPED, "KILLED"),
    ],
)
def test_how_a_run_ended(
    project: Project,
    client: Any,
    new_run: NewRun,
    end: End,
    found: Found,
    status: Status,
    shown: str,
) -> None:
    run = new_run()
    end(run, JournalWriter(run.folder, 1, 0, {}), status, 0, "because")
    Mirror(project).deliver(run)
    entity = found(client, run)
    assert entity.info.status == shown
    assert entity.data.tags["labctl.status"] == status
    assert entity.data.tags["labctl.message"] == "because"


def test_what_can_be_superseded_waits(
    project: Project, client: Any, new_run: NewRun, end: End, found: Found, points: Points
) -> None:
    run = new_run()
    mirror = Mirror(project)
    assert mirror.deliver(run).sent == 0  # not begun
    with FileLock(run.lock_path):
        journal = JournalWriter(run.folder, 1, 0, {})
        train(journal, 0, 30)
        delivery = mirror.deliver(run)
        assert (delivery.sent, delivery.remaining) == (0, 6)
        journal.record("checkpoint", 30)
        train(journal, 30, 40)
        delivery = mirror.deliver(run)
        assert (delivery.sent, delivery.remaining) == (6, 2)
        assert mirror.deliver(run) == type(delivery)(run.folder, 0, 2)
        assert found(client, run).info.status == "RUNNING"
    journal.close()
    # the worker died: what followed the checkpoint stays behind
    delivery = mirror.deliver(run)
    assert (delivery.sent, delivery.remaining) == (0, 2)
    entity = found(client, run)
    assert entity.info.status == "KILLED"
    assert entity.info.end_time == round(run.journal.records[-1].time * 1000)
    assert max(step for step, *_ in points(client, entity)["train/loss"]) == 30


def test_a_resumed_run_goes_on_where_its_checkpoint_was(
    project: Project, client: Any, new_run: NewRun, end: End, found: Found, points: Points
) -> None:
    run = new_run()
    mirror = Mirror(project)
    journal = JournalWriter(run.folder, 1, 0, {})
    train(journal, 0, 50)
    journal.record("checkpoint", 50)
    train(journal, 50, 70)  # superseded by the second attempt
    journal.close()
    mirror.deliver(run)
    journal = JournalWriter(run.folder, 2, 50, {})
    train(journal, 50, 80)
    end(run, journal, Status.STOPPED, 80)
    mirror.deliver(run)
    assert found(client, run).info.status == "KILLED"
    run.end_path.unlink()
    with FileLock(run.lock_path):
        journal = JournalWriter(run.folder, 3, 80, {})
        mirror.deliver(run)
        assert found(client, run).info.status == "RUNNING"
        train(journal, 80, 100)
    end(run, journal, Status.DONE, 100)
    mirror.deliver(run)
    entity = found(client, run)
    assert without_ends(points(client, entity)) == journalled(run)
    assert entity.data.tags["labctl.attempts"] == "3"


@pytest.mark.parametrize("is_mark_lost", [False, True])
def test_a_fall_back_behind_what_was_delivered_sends_nothing_twice(
    project: Project,
    client: Any,
    new_run: NewRun,
    end: End,
    found: Found,
    points: Points,
    is_mark_lost: bool,
) -> None:
    run = new_run()
    journal = JournalWriter(run.folder, 1, 0, {})
    train(journal, 0, 60)
    journal.record("checkpoint", 60)
    end(run, journal, Status.FAILED, 60)
    Mirror(project).deliver(run)
    first = journalled(run)["train/loss"]
    run.end_path.unlink()
    if is_mark_lost:
        (run.folder / marks.NAME).unlink()
    # the checkpoint turned out to be damaged: from the beginning again
    journal = JournalWriter(run.folder, 2, 0, {})
    train(journal, 0, 100)
    end(run, journal, Status.DONE, 100)
    delivery = Mirror(project).deliver(run)
    assert delivery.sent == 4 + 4 + 1 + 2
    curve = points(client, found(client, run))["train/loss"]
    assert [step for step, *_ in curve] == list(range(10, 110, 10))
    assert curve == first + journalled(run)["train/loss"][6:]


def test_without_its_mark_a_run_is_found_by_its_tags(
    project: Project, client: Any, new_run: NewRun, end: End, found: Found, points: Points
) -> None:
    run = new_run()
    journal = JournalWriter(run.folder, 1, 0, {})
    train(journal, 0, 100)
    end(run, journal, Status.DONE, 100)
    Mirror(project).deliver(run)
    before = points(client, found(client, run))
    (run.folder / marks.NAME).unlink()
    assert Mirror(project).deliver(run).sent == 0
    assert points(client, found(client, run)) == before


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 99, "stores": {}}'])
def test_a_damaged_mark_is_none(
    project: Project, client: Any, new_run: NewRun, end: End, found: Found, text: str
) -> None:
    run = new_run()
    end(run, JournalWriter(run.folder, 1, 0, {}), Status.DONE, 0)
    (run.folder / marks.NAME).write_text(text)
    assert Mirror(project).deliver(run).sent == 1
    assert marks.load(run.folder, tracking_uri(project)) is not None


def test_a_crash_between_sending_and_noting(
    project: Project,
    client: Any,
    new_run: NewRun,
    end: End,
    found: Found,
    points: Points,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("labctl.track.mirror.METRICS_PER_CALL", 5)
    run = new_run()
    journal = JournalWriter(run.folder, 1, 0, {})
    train(journal, 0, 100)
    end(run, journal, Status.DONE, 100)
    save = marks.save
    saved: list[int] = []

    def save_twice(folder: Path, store: str, mark: marks.Mark) -> None:
        if len(saved) == 3:
            raise KeyboardInterrupt
        saved.append(len(mark.through))
        save(folder, store, mark)

    monkeypatch.setattr(marks, "save", save_twice)
    with pytest.raises(KeyboardInterrupt):
        Mirror(project).deliver(run)
    stored = sum(map(len, points(client, found(client, run)).values()))
    monkeypatch.setattr(marks, "save", save)
    noted = marks.load(run.folder, tracking_uri(project))
    assert noted and not noted.is_settled
    assert stored == 15  # three batches arrived, two were noted
    assert Mirror(project).deliver(run).sent == 24 - 15
    assert without_ends(points(client, found(client, run))) == journalled(run)


def test_what_arrived_unnoted_is_not_sent_again_after_a_fall_back(
    project: Project,
    client: Any,
    new_run: NewRun,
    end: End,
    found: Found,
    points: Points,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = new_run()
    journal = JournalWriter(run.folder, 1, 0, {})
    train(journal, 0, 30)
    journal.record("checkpoint", 30)
    Mirror(project).deliver(run)
    train(journal, 30, 60)
    end(run, journal, Status.FAILED, 60)
    log_batch = MlflowClient.log_batch

    def dying(*arguments: Any, **named: Any) -> None:
        log_batch(*arguments, **named)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", dying)
        with pytest.raises(KeyboardInterrupt):
            Mirror(project).deliver(run)
    run.end_path.unlink()
    journal = JournalWriter(run.folder, 2, 30, {})
    train(journal, 30, 100)
    end(run, journal, Status.DONE, 100)
    Mirror(project).deliver(run)
    curve = points(client, found(client, run))["train/loss"]
    assert [step for step, *_ in curve] == list(range(10, 110, 10))


@pytest.mark.slow
def test_one_delivery_at_a_time(
    project: Project,
    client: Any,
    new_run: NewRun,
    end: End,
    found: Found,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = new_run()
    end(run, JournalWriter(run.folder, 1, 0, {}), Status.DONE, 0)
    create_run = MlflowClient.create_run

    def slow(*arguments: Any, **named: Any) -> Any:
        time.sleep(0.5)
        return create_run(*arguments, **named)

    monkeypatch.setattr(MlflowClient, "create_run", slow)
    mirrors = [Mirror(project) for _ in range(3)]
    with ThreadPoolExecutor() as pool:
        sent = [it.sent for it in pool.map(lambda mirror: mirror.deliver(run), mirrors)]
    assert sorted(sent) == [0, 0, 1]
    parent = found(client, run).data.tags["mlflow.parentRunId"]
    everything = client.search_runs([client.get_run(parent).info.experiment_id])
    assert len(everything) == 2


def test_a_delivery_that_takes_too_long_is_not_waited_for(
    project: Project, new_run: NewRun, end: End, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labctl.track.mirror.LOCK_SECONDS", 0.1)
    run = new_run()
    end(run, JournalWriter(run.folder, 1, 0, {}), Status.DONE, 0)
    with (
        FileLock(project.runs / ".mlflow-feed.lock"),
        pytest.raises(EnvironmentProblem, match="another process"),
    ):
        Mirror(project).deliver(run)


def test_a_replay_of_the_same_points_stores_them_once(
    project: Project, client: Any, new_run: NewRun, end: End, found: Found, points: Points
) -> None:
    """What the design leans on if the store cannot be asked: MLflow itself takes a point once."""
    run = new_run()
    journal = JournalWriter(run.folder, 1, 0, {})
    train(journal, 0, 100)
    end(run, journal, Status.DONE, 100)
    Mirror(project).deliver(run)
    before = points(client, found(client, run))
    mark = marks.load(run.folder, tracking_uri(project))
    assert mark
    mark.through.clear()
    marks.save(run.folder, tracking_uri(project), mark)
    assert Mirror(project).deliver(run).sent == 24
    assert points(client, found(client, run)) == before


def test_each_store_has_its_own_mark(
    project: Project, client: Any, fresh_store: Path, new_run: NewRun, end: End, tmp_path: Path
) -> None:
    run = new_run()
    end(run, JournalWriter(run.folder, 1, 0, {}), Status.DONE, 0)
    second = tmp_path / "second.db"
    second.write_bytes(fresh_store.read_bytes())
    assert Mirror(project).deliver(run).sent == 1
    assert Mirror(project, f"sqlite:///{second}").deliver(run).sent == 1
    assert Mirror(project).deliver(run).sent == 0
    stores = json.loads((run.folder / marks.NAME).read_text())["stores"]
    assert set(stores) == {tracking_uri(project), f"sqlite:///{second}"}


def test_a_store_that_was_replaced_is_filled_again(
    project: Project, client: Any, fresh_store: Path, new_run: NewRun, end: End, points: Points
) -> None:
    run = new_run()
    journal = JournalWriter(run.folder, 1, 0, {})
    train(journal, 0, 100)
    end(run, journal, Status.DONE, 100)
    Mirror(project).deliver(run)
    with sqlite3.connect(project.runs / "mlflow.db") as file:
        for table in ("metrics", "latest_metrics", "params", "tags", "runs", "experiments"):
            file.execute(f"DELETE FROM {table}")
    file.close()
    assert Mirror(project).deliver(run).sent == 24


def test_a_run_begun_anew_is_another_run(
    project: Project, client: Any, new_run: NewRun, end: End
) -> None:
    """As one that was discarded, or that somebody else carries out against the same server."""
    for _ in range(2):
        run = new_run()
        end(run, JournalWriter(run.folder, 1, 0, {}), Status.DONE, 0)
        assert Mirror(project).deliver(run).sent == 1
        run.discard()
    assert len(children(client, run)) == 2
    assert len({entity.data.tags["mlflow.parentRunId"] for entity in children(client, run)}) == 1


def test_what_was_set_aside_has_ended_and_is_not_counted(
    project: Project, client: Any, new_run: NewRun, end: End
) -> None:
    """Its worker died after its last delivery, so that it stood there as RUNNING."""
    run = new_run()
    with FileLock(run.lock_path):
        journal = JournalWriter(run.folder, 1, 0, {})
        Mirror(project).deliver(run)
    journal.close()
    (before,) = children(client, run)
    assert before.info.status == "RUNNING"
    run.folder.rename(run.folder.with_name(f"{run.folder.name}.aside-20260101-000000"))
    anew = new_run()
    end(anew, JournalWriter(anew.folder, 1, 0, {}), Status.DONE, 0)
    for _ in range(2):
        sync(project, [anew])
        found = {entity.info.run_id: entity for entity in children(client, anew)}
        old = found.pop(before.info.run_id)
        assert (old.info.status, old.data.tags["labctl.status"]) == ("KILLED", "SET ASIDE")
        (new,) = found.values()
        assert new.info.status == "FINISHED"
        parent = client.get_run(new.data.tags["mlflow.parentRunId"])
        assert parent.info.status == "FINISHED" and parent.data.tags["labctl.runs"] == "1"
        assert parent.info.end_time == new.info.end_time


def test_what_was_deleted_in_mlflow_stays_so(
    project: Project, client: Any, new_run: NewRun, end: End, found: Found
) -> None:
    run, mirror = new_run(), Mirror(project)
    with FileLock(run.lock_path):
        journal = JournalWriter(run.folder, 1, 0, {})
        mirror.deliver(run)
        run_id = found(client, run).info.run_id
        client.delete_run(run_id)
        train(journal, 0, 10)
        journal.record("checkpoint", 10)
        with pytest.raises(Refused, match="deleted"):
            mirror.deliver(run)
        assert mirror.deliver(run).note == DELETED
    end(run, journal, Status.DONE, 10)
    assert [delivery.note for delivery in sync(project, [run])] == [DELETED]
    client.restore_run(run_id)
    assert [delivery.sent for delivery in sync(project, [run])] == [3]


def test_a_deleted_experiment_is_named(
    project: Project, client: Any, new_run: NewRun, end: End
) -> None:
    run = new_run()
    end(run, JournalWriter(run.folder, 1, 0, {}), Status.DONE, 0)
    Mirror(project).deliver(run)
    experiment = client.get_experiment_by_name("labctl/toy").experiment_id
    client.delete_experiment(experiment)
    (delivery,) = sync(project, [run])
    assert "'labctl/toy' was deleted" in delivery.note
    assert f"mlflow experiments restore --experiment-id {experiment}" in delivery.note


@pytest.mark.slow
def test_a_deleted_parent_is_replaced(
    project: Project, client: Any, new_run: NewRun, end: End, found: Found
) -> None:
    run = new_run()
    end(run, JournalWriter(run.folder, 1, 0, {}), Status.DONE, 0)
    Mirror(project).deliver(run)
    first = found(client, run).data.tags["mlflow.parentRunId"]
    client.delete_run(first)
    second = new_run(seed=1)
    end(second, JournalWriter(second.folder, 1, 0, {}), Status.DONE, 0)
    sync(project, [run, second])
    parents = {found(client, it).data.tags["mlflow.parentRunId"] for it in (run, second)}
    assert len(parents) == 1
    assert first not in parents


def test_artifacts_are_kept_and_are_no_runs(
    project: Project, client: Any, new_run: NewRun, end: End, found: Found
) -> None:
    run = new_run()
    (run.folder / "code.patch").write_text("--- a\n+++ b\n")
    figure = run.folder / "measurements" / "speed" / "figures" / "curve.png"
    figure.parent.mkdir(parents=True)
    figure.write_bytes(b"png")
    end(run, JournalWriter(run.folder, 1, 0, {}), Status.DONE, 0)
    Mirror(project).deliver(run)
    entity = found(client, run)
    root = project.runs / "artifacts" / "toy" / entity.info.run_id / "artifacts"
    kept = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    assert kept == {
        "resolved_plan.json",
        "provenance.json",
        "code.patch",
        "measurements/speed/figures/curve.png",
    }
    plan = (run.folder / "plan.json").read_text()
    assert (root / "resolved_plan.json").read_text() == plan
    assert [run.folder for run in all_runs(project)] == [run.folder]


def test_a_file_that_changed_is_sent_again_and_no_other(
    project: Project, client: Any, new_run: NewRun, end: End, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    log_artifact = MlflowClient.log_artifact

    def noted(self: Any, run_id: str, path: str, folder: str | None = None) -> None:
        sent.append(Path(path).name)
        log_artifact(self, run_id, path, folder)

    monkeypatch.setattr(MlflowClient, "log_artifact", noted)
    run = new_run()
    end(run, JournalWriter(run.folder, 1, 0, {}), Status.STOPPED, 0)
    Mirror(project).deliver(run)
    assert sent == ["resolved_plan.json", "provenance.json"]
    (run.folder / "ledger.json").write_text("{}")
    Mirror(project).deliver(run)
    assert sent == ["resolved_plan.json", "provenance.json", "ledger.json"]


@pytest.mark.slow
def test_long_values_and_many_points(
    project: Project, client: Any, new_run: NewRun, end: End, found: Found, points: Points
) -> None:
    run = new_run()
    config = {f"part_{number}": number for number in range(250)} | {"text": "x" * 9000}
    architecture = run.plan.work.architecture.model_copy(update={"config": config})
    work = run.plan.work.model_copy(update={"architecture": architecture})
    plan = run.plan.model_copy(update={"work": work, "key": "feed" * 4})
    run = Run(run.folder)
    (run.folder / "plan.json").write_text(plan.model_dump_json(by_alias=True))
    journal = JournalWriter(run.folder, 1, 0, {})
    for step in range(1, 1201):
        journal.metrics(step, {"train/loss": 1 / step, "acc@1": 0.5})
    end(run, journal, Status.FAILED, 1200)
    assert Mirror(project).deliver(run).sent == 2400
    entity = found(client, run)
    assert entity.data.params["model.part_249"] == "249"
    assert entity.data.params["model.text"] == "x" * 6000
    stored = points(client, entity)
    assert stored.pop("train/loss") == journalled(run)["train/loss"]
    ((name, curve),) = stored.items()
    assert name.startswith("acc_1-")
    assert curve == journalled(run)["acc@1"]


def test_not_a_number_reaches_no_store(
    project: Project, client: Any, new_run: NewRun, end: End, found: Found, points: Points
) -> None:
    run = new_run()
    journal = JournalWriter(run.folder, 1, 0, {})
    journal.metrics(10, {"train/loss": 1.0, "train/norm": math.inf})
    journal.metrics(20, {"train/loss": math.nan, "train/norm": -math.inf})
    end(run, journal, Status.DIVERGED, 20)
    Mirror(project).deliver(run)
    entity = found(client, run)
    values = {
        name: [value for _, value, _ in curve] for name, curve in points(client, entity).items()
    }
    assert values == {"train/loss": [1.0], "diverged": [1.0]}
    assert entity.data.tags["labctl.not_finite"] == "train/loss at step 20, train/norm at step 10"


def test_a_note_edited_in_mlflow_is_kept(
    project: Project, client: Any, new_run: NewRun, end: End, found: Found
) -> None:
    run = new_run()
    with FileLock(run.lock_path):
        journal = JournalWriter(run.folder, 1, 0, {})
        Mirror(project).deliver(run)
    assert found(client, run).data.tags["mlflow.note.content"] == "A toy"
    client.set_tag(found(client, run).info.run_id, "mlflow.note.content", "my best one")
    end(run, journal, Status.DONE, 0)
    Mirror(project).deliver(run)
    assert found(client, run).data.tags["mlflow.note.content"] == "my best one"


def test_a_store_of_a_newer_mlflow_touches_no_run(
    project: Project, client: Any, new_run: NewRun, end: End
) -> None:
    run = new_run()
    end(run, JournalWriter(run.folder, 1, 0, {}), Status.DONE, 0)
    with sqlite3.connect(project.runs / "mlflow.db") as file:
        file.execute("UPDATE alembic_version SET version_num = 'from_the_future'")
    file.close()
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    with pytest.raises(EnvironmentProblem, match="from_the_future"):
        sync(project, [run])
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before


def test_one_run_that_is_refused_keeps_no_other(
    project: Project, client: Any, new_run: NewRun, end: End
) -> None:
    first, second = new_run(), new_run(recipe="other")
    for run in (first, second):
        end(run, JournalWriter(run.folder, 1, 0, {}), Status.DONE, 0)
    client.delete_experiment(client.create_experiment("labctl/toy"))
    refused, taken = sync(project, [first, second])
    assert "deleted" in refused.note
    assert (taken.sent, taken.note) == (1, "")


def test_a_run_without_a_plan(project: Project, client: Any) -> None:
    folder = project.runs / "toy" / "seed=0"
    JournalWriter(folder, 1, 0, {}).close()
    with pytest.raises(RunError, match="no plan"):
        Mirror(project).deliver(Run(folder))


def test_an_address_where_no_mlflow_is(project: Project, new_run: NewRun, end: End) -> None:
    run = new_run()
    end(run, JournalWriter(run.folder, 1, 0, {}), Status.DONE, 0)
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(EnvironmentProblem, match="MLflow store http") as problem:
            sync(project, [run], f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
    assert type(problem.value) is EnvironmentProblem
    assert not (run.folder / marks.NAME).exists()
