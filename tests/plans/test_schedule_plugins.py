"""Schedules of plugins: their code decides results as a model's does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labctl.errors import RecipeError
from labctl.execute.inline import carry_out_inline
from labctl.execute.provenance import Provenance
from labctl.registry.registry import Registry
from labctl.store.status import Status

WAVE = """\
from math import {function} as wave
from labctl.api import Schedule, ScheduleCard

class Wave(Schedule):
    height: float = 1e-3

    def at(self, step: float) -> float:
        return {at}

cards = (ScheduleCard(name="wave", config=Wave),)
"""
OVERRIDES = ("seeds=[1]", "budget=1ep", "schedules.token_drop=null", "schedules.lr={kind: wave}")


@pytest.fixture
def waves(lab: Any) -> Any:
    """Write the plugin anew, and give the plan of a recipe that uses it."""
    folder: Path = lab.root / "plugins" / "waves"
    folder.mkdir(parents=True)

    def write(at: str, function: str = "sin") -> Any:
        (folder / "__init__.py").write_text(WAVE.format(at=at, function=function))
        lab.registry = Registry(lab.project.plugins)
        return lab.jobs("tiny", *OVERRIDES)[0]

    return write


def test_the_code_of_a_schedule_is_part_of_the_key(waves: Any) -> None:
    first = waves("self.height * (1.5 + wave(step))")
    again = waves("self.height * (1.5 + wave(step))  # as before")
    other = waves("self.height * (1.5 + wave(step))", "cos")
    assert first.plan.key == again.plan.key != other.plan.key
    assert "waves" in first.plan.work.digests


@pytest.mark.slow
def test_a_worker_has_the_schedule_that_the_run_was_planned_with(lab: Any, waves: Any) -> None:
    job = waves("self.height * (1.5 + wave(step))")
    (run,) = lab.runs("tiny", *OVERRIDES)
    Provenance(lab.registry).store(run, job.plan, job.recipe)
    assert (run.source_path / "waves" / "__init__.py").exists()
    code, output = lab.labctl("run", "tiny", *OVERRIDES, "--no-track")
    assert code == 0, output
    assert run.status is Status.DONE
    assert carry_out_inline(lab.project, lab.registry, [job])[0].was_skipped


@pytest.mark.parametrize(
    ("at", "said"),
    [
        ("0.5 - step", r"schedules.lr: -\S+ is below 0 \(at step "),
        ("float('nan')", "schedules.lr: nan at step 0, where a number is wanted"),
        ("None", "schedules.lr: None at step 0, where a number is wanted"),
        ("'warm'", r"schedules.lr: 'warm' is not a number \(at step 0\)"),
        ("1 / step", "at.. of schedules.lr failed: ZeroDivisionError"),
    ],
)
def test_a_schedule_that_goes_astray_is_said_before_training(
    waves: Any, at: str, said: str
) -> None:
    with pytest.raises(RecipeError, match=said):
        waves(at)
