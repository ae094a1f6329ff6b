"""The loops that labctl is compared with, on digits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
SMOKE = ("ctd_baseline", "--preset", "smoke", "--steps", "2", "--batch-size", "16")


def ran(script: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(FOLDER / script), *arguments],
        cwd=folder,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=240,
    )


def result(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("augment", ["batched", "per-sample"])
def test_the_plain_loop_trains_the_recipe(tmp_path: Path, augment: str) -> None:
    found = result(ran("plain_loop.py", tmp_path, *SMOKE, "--augment", augment))
    assert (found["recipe"], found["batch_size"]) == ("ctd_baseline@smoke", 16)
    assert (found["augment"], found["steps"]) == (augment, 2)
    seconds = found["step_seconds"]
    assert 0 < seconds["low"] <= seconds["median"] <= seconds["high"]
    assert found["examples_per_second"] == pytest.approx(16 / seconds["median"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_recipe_that_the_loops_cannot_train_is_refused(tmp_path: Path) -> None:
    done = ran("plain_loop.py", tmp_path, "eqprop_mnist", "--preset", "smoke")
    assert done.returncode == 2 and "these loops back-propagate" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_timm_loop_trains_the_recipe(tmp_path: Path) -> None:
    if find_spec("timm") is None:
        pytest.skip("timm is not installed")
    found = result(ran("timm_loop.py", tmp_path, *SMOKE, "--workers", "1"))
    assert (found["loop"], found["workers"], found["batch_size"]) == ("timm", 1, 16)


@pytest.mark.slow
def test_without_timm_its_loop_says_what_to_install(tmp_path: Path) -> None:
    if find_spec("timm") is not None:
        pytest.skip("timm is installed")
    done = ran("timm_loop.py", tmp_path, *SMOKE)
    assert done.returncode == 6 and "pip install timm" in done.stderr


@pytest.mark.slow
def test_all_loops_are_compared_by_turns(tmp_path: Path) -> None:
    done = ran("compare.py", tmp_path, *SMOKE, "--rounds", "2", "--out", "out.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    loops = found["loops"]
    names = {"plain, batched", "labctl auto"}
    if find_spec("timm") is not None:
        names.add("timm, 0 workers")
    else:
        assert "timm is left out" in done.stdout
    assert loops.keys() == names
    first = loops["plain, batched"]["median"]
    for loop in loops.values():
        rates = loop["examples_per_second"]
        assert len(rates) == 2 and loop["median"] == pytest.approx(sum(rates) / 2)
        assert loop["x"] == pytest.approx(loop["median"] / first)
    assert found["batch_size"] == 16
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]
    again = ran("compare.py", tmp_path, "--show", "out.json")
    assert again.returncode == 0 and again.stdout and done.stdout.endswith(again.stdout)


@pytest.mark.slow
def test_a_comparison_that_is_none_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("{}")
    done = ran("compare.py", tmp_path, "--show", "other.json")
    assert done.returncode == 2 and "other.json is not what --out writes" in done.stderr
