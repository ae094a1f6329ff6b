"""Checkpoints are written while training goes on, and hold what it was when they were begun."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event
from typing import Any

import pytest
import torch

from labctl.errors import EnvironmentProblem
from labctl.registry.card import Places
from labctl.store.journal import Journal
from labctl.store.run import Run
from labctl.train import checkpoint, saver
from labctl.train.assembly import Assembly
from labctl.train.training import Training


@pytest.fixture
def training(lab: Any) -> Iterator[Training]:
    (job, *_), (run, *_) = lab.jobs("tiny"), lab.runs("tiny")
    run.create(job.plan, {})
    assembly = Assembly(job.plan, lab.registry, Places(lab.project.data_roots))
    training = Training(run, assembly, torch.device("cpu"), {})
    yield training
    if not training.journal._file.closed:
        training.leave()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Event]:
    """Nothing is written until it is set."""
    ready, save = Event(), checkpoint.save

    def slow(*arguments: Any) -> None:
        assert ready.wait(60)
        save(*arguments)

    monkeypatch.setattr(saver.checkpoint, "save", slow)
    yield ready
    ready.set()


def saved(run: Run) -> list[int]:
    return [record.step for record in Journal.read(run.folder).of("checkpoint")]


def test_training_goes_on_and_a_checkpoint_holds_what_was(training: Training, disk: Event) -> None:
    training.advance(3)
    was = {name: value.clone() for name, value in training.rig.model.state_dict().items()}
    training.saver.every_seconds = 0
    assert training.saver.is_due
    training.begin_checkpoint()
    training.advance(4)
    assert training.step == 7 and saved(training.run) == []
    assert not training.run.checkpoint_path.exists() and not training.saver.is_due
    disk.set()
    training.saver.wait()
    assert saved(training.run) == [3] and training.saver.is_due
    state, _ = checkpoint.load(training.run.checkpoint_path)
    assert state is not None and state["step"] == 3
    assert list(state["model"]) == list(was)
    assert all(torch.equal(state["model"][name], value) for name, value in was.items())
    assert state["optimizer"]["state"][0]["step"] == 3
    assert any(
        not torch.equal(now, was[name]) for name, now in training.rig.model.state_dict().items()
    )


def test_what_was_written_is_journalled_at_the_next_steps(training: Training) -> None:
    training.advance(1)
    training.begin_checkpoint()
    assert training.saver._writing is not None
    training.saver._writing[1].result()
    training.advance(1)
    assert saved(training.run) == [1] and not training.saver.is_busy


def test_a_second_checkpoint_waits_for_the_first(training: Training, disk: Event) -> None:
    training.advance(1)
    training.begin_checkpoint()
    training.advance(1)
    disk.set()
    training.checkpoint()
    assert saved(training.run) == [1, 2]
    state, _ = checkpoint.load(training.run.checkpoint_path)
    assert state is not None and state["step"] == 2


def test_a_disk_that_is_full_stops_training_and_keeps_the_end_writable(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> None:
        raise EnvironmentProblem("cannot write checkpoint.pt: No space left on device")

    monkeypatch.setattr(saver.checkpoint, "save", full)
    training.advance(1)
    training.begin_checkpoint()
    assert training.saver._writing is not None
    training.saver._writing[1].exception()
    with pytest.raises(EnvironmentProblem, match="No space left"):
        training.advance(1)
    training.begin_checkpoint()
    training.end("FAILED")
    (warning,) = Journal.read(training.run.folder).of("warning")
    assert "no checkpoint: cannot write" in warning.fields["message"]
    assert saved(training.run) == []


def test_who_leaves_without_a_word_leaves_whatever_the_disk_says(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> None:
        raise RuntimeError("unexpected position in the file")

    monkeypatch.setattr(saver.checkpoint, "save", broken)
    training.begin_checkpoint()
    training.leave()
    (warning,) = Journal.read(training.run.folder).of("warning")
    assert "unexpected position" in warning.fields["message"]


def test_a_checkpoint_shares_no_memory_with_training(training: Training) -> None:
    training.advance(1)
    state = training._state()
    moments = training.rig.optimizer.state_dict()["state"]
    live = [*training.rig.model.state_dict().values(), moments[0]["exp_avg"]]
    held = [*state["model"].values(), state["optimizer"]["state"][0]["exp_avg"]]
    for ours, theirs in zip(held, live, strict=True):
        assert torch.equal(ours, theirs) and ours.data_ptr() != theirs.data_ptr()
    assert vars(state["model"]) == vars(training.rig.model.state_dict())
