"""Code of measurements is in no key: edited, it is measured again, and nothing is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labctl.errors import PluginError
from labctl.execute.provenance import Provenance
from labctl.registry.registry import Registry
from labctl.reports.result import result_of
from labctl.store.atomic import write_json
from labctl.store.lock import FileLock
from labctl.store.run import Run
from labctl.store.status import Status

WAVES = """\
from labctl.api import Config, MeasurementCard, Schedule, ScheduleCard

class Wave(Schedule):
    height: float = 1e-3

    def at(self, step: float) -> float:
        return self.height * {factor}

class HeightConfig(Config):
    unit: float = 1.0

def _height(config, context):
    from .measurements.height import height
    return height(context)

def _girth(config, context):
    from .measurements.height import girth
    return girth(context)

cards = (
    ScheduleCard(name="wave", config=Wave),
    MeasurementCard(name="height", config=HeightConfig, run=_height),
    MeasurementCard(name="girth", config=HeightConfig, run=_girth),
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

    def measure_height(self, m: float | str) -> None:
        lines = (
            f"def height(context): return {{'m': {m}, 'seed': context.seed}}",
            f"def girth(context): return {{'m': 7 * {m}}}",
        )
        self._write("waves/measurements/height.py", "\n".join(lines) + "\n")

    def measure_length(self, m: float) -> None:
        self._write("ruler/__init__.py", RULER.format(m=m))

    def job(self) -> Any:
        return self.lab.jobs("tiny", *ASKED)[0]

    def run(self, *, fails: bool = False) -> tuple[Run, str]:
        code, output = self.lab.labctl("run", "tiny", *ASKED, "--no-track")
        assert bool(code) is fails, output
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
    plans = (first, second, third)
    codes = [{part.name: part.code + part.plugin_code for part in one.measures} for one in plans]
    assert all(code for one in codes for code in one.values())
    assert codes[0]["height"] != codes[1]["height"] == codes[2]["height"]
    assert codes[0]["length"] == codes[1]["length"] != codes[2]["length"]
    bench.train_by(2.0)
    assert plan().key != first.key and plan().measures == third.measures


def test_code_of_measurements_is_the_same_whether_its_plugin_trains(bench: Bench) -> None:
    trains = {part.name: part for part in bench.job().plan.measures}
    without = ("budget=2ep", *ASKED[2:3], *ASKED[4:])
    beside = {part.name: part for part in bench.lab.jobs("tiny", *without)[0].plan.measures}
    assert trains["height"].code == beside["height"].code
    assert beside["height"].plugin_code and not trains["height"].plugin_code
    assert trains["length"] == beside["length"] and not trains["length"].code


def test_code_of_a_run_that_is_being_trained_stays(bench: Bench) -> None:
    job = bench.job()
    (run,) = bench.lab.runs("tiny", *ASKED)
    Provenance(bench.lab.registry).store(run, job.plan, job.recipe)
    stored = run.source_path / "waves/measurements/height.py"
    before = stored.read_text()
    bench.measure_height(2.0)
    with FileLock(run.lock_path):
        Provenance(bench.lab.registry).store(run, bench.job().plan, job.recipe)
        assert stored.read_text() == before
    Provenance(bench.lab.registry).store(run, bench.job().plan, job.recipe)
    assert stored.read_text() != before


def test_code_that_was_edited_since_it_was_planned_is_not_taken_for_that(bench: Bench) -> None:
    job, registry = bench.job(), bench.lab.registry
    (run,) = bench.lab.runs("tiny", *ASKED)
    bench.train_by(2.0)
    with pytest.raises(PluginError, match="'waves' was edited while this command"):
        Provenance(registry).store(run, job.plan, job.recipe)
    assert not (run.source_path / "waves").exists()


def test_runs_of_one_command_have_the_code_of_the_first(bench: Bench) -> None:
    """However long the others wait."""
    seeds = ("seeds=[1, 2]", *ASKED[1:])
    jobs, runs = bench.lab.jobs("tiny", *seeds), bench.lab.runs("tiny", *seeds)
    provenance = Provenance(bench.lab.registry)
    for job, run in zip(jobs, runs, strict=True):
        provenance.store(run, job.plan, job.recipe)
        bench.train_by(2.0)
    texts = {(run.source_path / "waves/__init__.py").read_text() for run in runs}
    assert len(texts) == 1 and "self.height * 1.0" in texts.pop()


def test_what_was_measured_before_code_counted_is_known_by_its_config(bench: Bench) -> None:
    plan = bench.job().plan
    (run,) = bench.lab.runs("tiny", *ASKED)
    for part in plan.measures:
        folder = run.folder / "measurements" / part.name
        write_json(folder / "asked.json", part.config)
        write_json(folder / "values.json", {"m": 1.0})
    assert run.unmeasured(plan) == []
    other = bench.lab.jobs("tiny", *ASKED, "measure.height.unit=2")[0].plan
    assert [part.name for part in run.unmeasured(other)] == ["height"]


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
    assert code == 0
    assert "height is taken again: code of waves that measures it has changed" in output
    assert "height/m  2" in output
    bench.train_by(2.0)
    bench.measure_height(3.0)
    code, output = bench.lab.labctl("measure", "tiny", "height", "--no-track")
    assert code == 0 and "height/m  2" in output, "by the code that it was trained with"


@pytest.mark.slow
def test_a_measurement_that_fails_leaves_no_number_of_before(bench: Bench) -> None:
    run, _ = bench.run()
    bench.measure_height("1 / 0")
    bench.run(fails=True)
    again = Run(run.folder)
    assert again.status is Status.DONE and "height/m" not in result_of(again).metrics
    assert result_of(again).metrics["length/m"] == 10.0
    code, output = bench.lab.labctl("why", "tiny/seed=1")
    assert code == 0 and "height was not taken" in output
    bench.measure_height(3.0)
    again, _ = bench.run()
    assert result_of(again).metrics["height/m"] == 3.0


@pytest.mark.slow
def test_what_one_copy_of_code_measures_is_measured_together(bench: Bench) -> None:
    """To take one again renews the copy; the other would have been taken by code that is gone."""
    run, _ = bench.run()
    for asked in (("girth",), ("height",)):
        code, output = bench.lab.labctl("measure", "tiny", *asked, "--no-track")
        assert code == 0, output
    bench.measure_height(2.0)
    code, output = bench.lab.labctl("measure", "tiny", "height", "--no-track")
    assert code == 0 and "girth is taken again" in output
    again = Run(run.folder)
    assert (again.measured("height")["m"], again.measured("girth")["m"]) == (2.0, 14.0)
