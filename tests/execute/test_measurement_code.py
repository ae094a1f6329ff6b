"""Code of measurements is in no key: edited, it is measured again, and nothing is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labctl.registry.registry import Registry
from labctl.store.run import Run
from labctl.store.status import Status

WAVES = """\
from labctl.api import Config, MeasurementCard, Schedule, ScheduleCard

class Wave(Schedule):
    height: float = 1e-3

    def at(self, step: float) -> float:
        return self.height * {factor}

class HeightConfig(Config):
    pass

def _height(config, context):
    from .measurements.height import height
    return height(context)

cards = (
    ScheduleCard(name="wave", config=Wave),
    MeasurementCard(name="height", config=HeightConfig, run=_height),
)
"""
RULER = """\
from labctl.api import Config, MeasurementCard

class LengthConfig(Config):
    pass

cards = (
    MeasurementCard(name="length", config=LengthConfig, run=lambda config, context: {{"m": {m}}}),
)
"""
ASKED = (
    "seeds=[1]",
    "budget=1ep",
    "schedules.token_drop=null",
    "schedules.lr={kind: wave}",
    "measure.height={}",
    "measure.length={}",
)


class Bench:
    """A project with a plugin that trains and measures, and one that only measures."""

    def __init__(self, lab: Any) -> None:
        self.lab = lab
        self.plugins: Path = lab.root / "plugins"
        self.train_by(1.0)
        self.measure_height(1.0)
        self.measure_length(10.0)

    def _write(self, name: str, text: str) -> None:
        path = self.plugins / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        self.lab.registry = Registry(self.lab.project.plugins)

    def train_by(self, factor: float) -> None:
        self._write("waves/__init__.py", WAVES.format(factor=factor))

    def measure_height(self, m: float) -> None:
        text = f"def height(context):\n    return {{'m': {m}, 'seed': context.seed}}\n"
        self._write("waves/measurements/height.py", text)

    def measure_length(self, m: float) -> None:
        self._write("ruler/__init__.py", RULER.format(m=m))

    def run(self) -> tuple[Run, str]:
        code, output = self.lab.labctl("run", "tiny", *ASKED, "--no-track")
        assert code == 0, output
        (run,) = self.lab.runs("tiny", *ASKED)
        return run, output


@pytest.fixture
def bench(lab: Any) -> Bench:
    return Bench(lab)


def test_code_of_measurements_is_in_the_plan_and_not_in_the_key(bench: Bench) -> None:
    def plan() -> Any:
        return bench.lab.jobs("tiny", *ASKED)[0].plan

    first = plan()
    bench.measure_height(2.0)
    second = plan()
    bench.measure_length(20.0)
    third = plan()
    assert first.key == second.key == third.key
    codes = [{part.name: part.code for part in one.measures} for one in (first, second, third)]
    assert all(code for one in codes for code in one.values())
    assert codes[0]["height"] != codes[1]["height"] == codes[2]["height"]
    assert codes[0]["length"] == codes[1]["length"] != codes[2]["length"]
    bench.train_by(2.0)
    assert plan().key != first.key and plan().measures == third.measures


@pytest.mark.slow
def test_an_edited_measurement_is_taken_again_and_nothing_is_trained(bench: Bench) -> None:
    run, _ = bench.run()
    losses = run.journal.curves["train/loss"]
    assert run.measured("height") == {"m": 1.0, "seed": 1.0}
    assert run.measured("length") == {"m": 10.0}
    bench.measure_height(2.0)
    (again,) = bench.lab.runs("tiny", *ASKED)
    (plan,) = (job.plan for job in bench.lab.jobs("tiny", *ASKED))
    assert [part.name for part in again.unmeasured(plan)] == ["height"]
    again, _ = bench.run()
    assert again.folder == run.folder and again.status is Status.DONE
    assert again.measured("height")["m"] == 2.0 and again.measured("length")["m"] == 10.0
    assert "2.0" in (run.source_path / "waves/measurements/height.py").read_text()
    bench.measure_length(20.0)
    again, _ = bench.run()
    assert again.measured("height")["m"] == 2.0 and again.measured("length")["m"] == 20.0
    again, output = bench.run()
    assert again.journal.attempts == 3 and again.journal.curves["train/loss"] == losses
    assert "1 DONE before" in output, "and what is measured is not measured again"


@pytest.mark.slow
def test_finished_runs_are_measured_by_todays_code_where_it_trains_alike(bench: Bench) -> None:
    bench.run()
    bench.measure_height(2.0)
    code, output = bench.lab.labctl("measure", "tiny", "height", "--no-track")
    assert code == 0 and "height is taken again: its code has changed" in output
    assert "height/m  2" in output
    bench.train_by(2.0)
    bench.measure_height(3.0)
    code, output = bench.lab.labctl("measure", "tiny", "height", "--no-track")
    assert code == 0 and "height/m  2" in output, "by the code that it was trained with"
