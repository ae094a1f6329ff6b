"""It is begun once, and only where it is of use and in nobody's way."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from labctl.execute import forerunner as forerunners
from labctl.execute.forerunner import Forerunner
from labctl.execute.rounds import work
from labctl.execute.stop import Stop
from labctl.store.run import Run


class Begun:
    """What would have been a process."""

    def __init__(self, command: list[str], **options: Any) -> None:
        self.command, self.options, self.is_killed = command, options, False

    def kill(self) -> None:
        self.is_killed = True

    def wait(self) -> None:
        assert self.is_killed


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[Begun]:
    """On a machine of eight cores whose device holds ten and has six free."""
    found: list[Begun] = []

    def popen(command: list[str], **options: Any) -> Begun:
        found.append(Begun(command, **options))
        return found[-1]

    monkeypatch.setattr(subprocess, "Popen", popen)
    monkeypatch.setattr(forerunners, "cores", lambda: 8)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (6, 10))
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 3)
    return found


class Stands:
    """A training as it stands: on a GPU, compiled, in the first of two phases."""

    def __init__(self, folder: Path, **other: Any) -> None:
        is_compiled, starts = other.get("is_compiled", True), other.get("starts", (0, 50))
        phases = [SimpleNamespace(start=start) for start in starts]
        self.run, self.step = Run(folder), other.get("step", 0)
        self.work: Any = SimpleNamespace(
            numerics=SimpleNamespace(compiled=is_compiled), phases=lambda: phases
        )
        self.device = torch.device(other.get("device", "cuda"))
        self.journal = self
        self.told: list[tuple[str, int]] = []

    def record(self, kind: str, step: int) -> None:
        self.told.append((kind, step))


def attended(forerunner: Forerunner, training: Stands, rounds: int = 5) -> None:
    for _ in range(rounds):
        forerunner.attend(training)  # type: ignore[arg-type]
        training.step += 1


@pytest.mark.parametrize("first", [0, 30])
def test_it_is_begun_after_two_steps_and_once(
    tmp_path: Path, begun: list[Begun], first: int
) -> None:
    """Of this worker, wherever a checkpoint let it begin."""
    forerunner, training = Forerunner([tmp_path / "data"], 1, 1), Stands(tmp_path, step=first)
    attended(forerunner, training, 2)
    assert not begun
    attended(forerunner, training)
    (process,) = begun
    assert training.told == [("compiling_ahead", first + 2)]
    order = json.loads(process.command[-1])
    assert order["run"] == str(tmp_path) and order["data_roots"] == [str(tmp_path / "data")]
    assert process.command[1:3] == ["-m", "labctl.execute.compiling"]
    scratch = Path(order["scratch"])
    assert scratch.is_dir()
    forerunner.end()
    assert process.is_killed and not scratch.exists()


@pytest.mark.parametrize(
    "other",
    [{"device": "cpu"}, {"is_compiled": False}, {"starts": (0,)}, {"step": 60}],
    ids=["cpu", "not compiled", "one phase", "the last phase"],
)
def test_it_is_not_begun_for_nothing(
    tmp_path: Path, begun: list[Begun], other: dict[str, Any]
) -> None:
    forerunner = Forerunner([], 1, 1)
    attended(forerunner, Stands(tmp_path, **other))
    forerunner.end()
    assert not begun


@pytest.mark.parametrize(("workers", "sharing", "held"), [(3, 1, 3), (2, 2, 3), (1, 1, 4)])
def test_it_takes_neither_cores_nor_memory_that_training_needs(
    tmp_path: Path,
    begun: list[Begun],
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
    sharing: int,
    held: int,
) -> None:
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: held)
    attended(Forerunner([], workers, sharing), Stands(tmp_path))
    assert not begun


def test_a_worker_that_cannot_begin_one_trains_on(
    tmp_path: Path, begun: list[Begun], capsys: pytest.CaptureFixture[str]
) -> None:
    forerunner, training = Forerunner([], 1, 1), Stands(tmp_path / "gone")
    attended(forerunner, training)
    forerunner.end()
    assert not begun and not training.told
    assert "nothing is compiled ahead" in capsys.readouterr().err


class Recording:
    """Stands in for one beside a worker."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def attend(self, training: Any) -> None:
        self.steps.append(training.step)


@pytest.mark.slow
def test_a_worker_shows_it_every_round_once_all_are_in_training(lab: Any) -> None:
    options = ("budget=8step", "schedules.lr=1e-3", "schedules.token_drop=0")
    runs, recording = lab.runs("tiny", *options), Recording()
    for run, job in zip(runs, lab.jobs("tiny", *options), strict=True):
        run.create(job.plan, {})
    roots = tuple(lab.project.data_roots)
    work(runs, roots, Stop(), lab.registry, forerunner=recording)  # type: ignore[arg-type]
    assert recording.steps == list(range(9))
