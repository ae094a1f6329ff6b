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


def training(folder: Path, **other: Any) -> Any:
    """On a GPU, compiled, after two steps of the first of two phases."""
    is_compiled, starts = other.pop("is_compiled", True), other.pop("starts", (0, 5))
    phases = [SimpleNamespace(start=start) for start in starts]
    work = SimpleNamespace(numerics=SimpleNamespace(compiled=is_compiled), phases=lambda: phases)
    facts = {"device": torch.device("cuda"), "step": 2, "seconds_per_step": 0.1, **other}
    return SimpleNamespace(run=Run(folder), work=work, **facts)


def test_it_is_begun_after_the_first_steps_and_once(tmp_path: Path, begun: list[Begun]) -> None:
    forerunner = Forerunner([tmp_path / "data"], workers=1)
    forerunner.attend(training(tmp_path, step=0, seconds_per_step=None))
    assert not begun
    for _ in range(2):
        forerunner.attend(training(tmp_path))
    (process,) = begun
    order = json.loads(process.command[-1])
    assert order["run"] == str(tmp_path) and order["data_roots"] == [str(tmp_path / "data")]
    assert process.command[1:3] == ["-m", "labctl.execute.compiling"]
    scratch = Path(order["scratch"])
    assert scratch.is_dir()
    forerunner.end()
    assert process.is_killed and not scratch.exists()


@pytest.mark.parametrize(
    "other",
    [
        {"device": torch.device("cpu")},
        {"is_compiled": False},
        {"starts": (0,)},
        {"step": 7},
    ],
    ids=["cpu", "not compiled", "one phase", "the last phase"],
)
def test_it_is_not_begun_for_nothing(
    tmp_path: Path, begun: list[Begun], other: dict[str, Any]
) -> None:
    forerunner = Forerunner([], workers=1)
    forerunner.attend(training(tmp_path, **other))
    forerunner.end()
    assert not begun


def test_it_takes_neither_cores_nor_memory_that_training_needs(
    tmp_path: Path, begun: list[Begun], monkeypatch: pytest.MonkeyPatch
) -> None:
    Forerunner([], workers=3).attend(training(tmp_path))
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 4)
    Forerunner([], workers=1).attend(training(tmp_path))
    assert not begun
