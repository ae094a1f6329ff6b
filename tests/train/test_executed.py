"""FLOPs of a whole training, against the ledgers of runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from labctl.errors import EnvironmentProblem
from labctl.recipe.recipe import load
from labctl.registry.card import Places
from labctl.train import executed
from labctl.train.assembly import Assembly
from labctl.train.cost import ledger

pytestmark = pytest.mark.slow

CONTROL = """
extends: tiny.yaml
budget: {match: executed_flops, of: tiny}
schedules: {token_drop: 0}
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "labctl" / "flops"


def train_flops(lab: Any, name: str, *overrides: str) -> tuple[int, int]:
    """By the ledger that a run would have; with its steps."""
    (job, *_) = lab.jobs(name, *overrides)
    assembly = Assembly(job.plan, lab.registry, Places(lab.project.data_roots))
    return ledger(assembly)["train_flops"], job.plan.work.steps


def test_a_control_with_every_token_executes_what_the_curriculum_does(lab: Any) -> None:
    lab.write("control", CONTROL)
    (curriculum, whole), (control, fewer) = (train_flops(lab, n) for n in ("tiny", "control"))
    assert 0.85 * whole < fewer < whole
    assert abs(control - curriculum) <= control / fewer / 2


def test_a_curriculum_trains_longer_for_what_every_token_costs(lab: Any) -> None:
    """Ends and steps of the curriculum move with the budget, if they are parts of it."""
    lab.write("dense", "extends: tiny.yaml\nschedules: {token_drop: 0}\n")
    lab.write(
        "longer",
        "extends: tiny.yaml\nbudget: {match: executed_flops, of: dense}\n"
        "schedules: {lr: {warmup: 10%}, token_drop: {start: 20%, end: 80%}}\n",
    )
    (dense, steps), (longer, more) = (train_flops(lab, name) for name in ("dense", "longer"))
    assert more > steps
    assert abs(longer - dense) <= dense / steps


def test_what_was_counted_is_read_without_torch(lab: Any, cache: Path) -> None:
    lab.write("control", CONTROL)
    (job, *_) = lab.jobs("control")
    code = (
        "import sys; from labctl.cli.main import main\n"
        "sys.argv = ['labctl', 'plan', 'control']\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "print('torch' in sys.modules)"
    )

    def planned() -> str:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=lab.root, capture_output=True, text=True, check=True
        )
        assert f"{job.plan.work.steps:,} steps" in done.stdout
        assert "matches the executed_flops of tiny" in done.stdout
        return done.stdout.split()[-1]

    assert planned() == "False"
    for path in cache.iterdir():
        path.write_text("{")
    assert planned() == "True"
    assert planned() == "False"


def test_counts_are_of_the_step_and_not_of_its_schedule(lab: Any, cache: Path) -> None:
    def total(*overrides: str) -> float:
        recipe = load(lab.project, lab.registry, "tiny", None, overrides)
        return executed.executed_flops(recipe, lab.project, lab.registry)

    dense = "schedules.token_drop=0"
    assert total("budget=7ep", dense) == pytest.approx(total("budget=6ep", dense) * 7 / 6)
    assert len(list(cache.iterdir())) == 1
    assert total("batch_size=64", dense) > 0
    assert len(list(cache.iterdir())) == 2


def test_a_count_that_lacks_something_is_not_matched(lab: Any, cache: Path) -> None:
    lab.write("control", CONTROL)
    lab.jobs("control")
    for path in cache.iterdir():
        known = json.loads(path.read_text())
        lacking = {name: {**count, "uncounted": ["mine::scan"]} for name, count in known.items()}
        path.write_text(json.dumps(lacking))
    with pytest.raises(EnvironmentProblem, match=r"tiny cannot be counted whole: .*mine::scan"):
        lab.jobs("control")
