"""`labctl bench`: what it times, where it looks, and that it leaves no trace."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from labctl.data.decisions import Decisions
from labctl.errors import EnvironmentProblem, RunError, UsageError
from labctl.execute import timing
from labctl.execute.attempt import Workbench
from labctl.execute.benching import Asked, Benching, case_of, places, seeds_of, usable
from labctl.execute.stop import Stop
from labctl.execute.timing import Timing
from labctl.measure.speed import Shares
from labctl.plans.derive import plans
from labctl.project import Project
from labctl.recipe.recipe import Recipe, load
from labctl.registry.registry import Registry
from labctl.store.run import Run
from labctl.train.supply import Supply
from labctl.train.training import Training


def recipe_of(lab: Any, *overrides: str) -> Recipe:
    return load(lab.project, lab.registry, "tiny", None, overrides)


def test_an_unknown_engine_is_named_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="did you mean 'eager'"):
        usable(["eagre"], "cpu", print)


def test_engines_that_the_device_lacks_are_left_out_and_said_so() -> None:
    told: list[str] = []
    assert usable(["graphed", "eager", "compiled"], "cpu", told.append) == ["eager", "compiled"]
    assert told == ["graphed needs CUDA; this is cpu: it is left out"]
    assert usable(["graphed", "eager"], "cuda", told.append) == ["graphed", "eager"]
    with pytest.raises(EnvironmentProblem, match="graphed needs CUDA"):
        usable(["graphed"], "cpu", told.append)


def test_places_are_times_of_the_recipe(lab: Any) -> None:
    recipe = recipe_of(lab)
    plan = plans(recipe)[0]
    steps, epoch = plan.work.steps, plan.work.steps_per_epoch
    found = places(recipe, plan, ["0%", "50%", "2ep", "100%"])
    assert [step for _, step in found] == [0, steps // 2, 2 * epoch, steps - 1]
    for wrong in ("50", "7ep", "nowhere"):
        with pytest.raises(UsageError, match=f"--at {wrong}"):
            places(recipe, plan, [wrong])


def test_rungs_are_all_values_that_structural_knobs_take(lab: Any) -> None:
    recipe = recipe_of(lab)
    plan = plans(recipe)[0]
    found = [plan.work.structural_at(step) for _, step in places(recipe, plan, ["rungs"])]
    assert found == [phase.structural for phase in plan.work.phases()]
    assert len(found) > 2


def test_a_stretch_is_one_rung_without_end(lab: Any) -> None:
    plan = plans(recipe_of(lab))[0]
    last = plan.work.steps - 1
    made = case_of(plan, Asked("eager", 1, "100%", last), seed=5)
    (phase,) = made.work.phases()
    assert phase.structural == plan.work.structural_at(last) != plan.work.structural_at(0)
    assert not any(made.work.is_evaluated(step) for step in range(1, 10 * last))
    assert (made.work.seed, made.runtime.engine) == (5, "eager")
    assert not made.work.numerics.compiled
    assert case_of(plan, Asked("compiled", 1, "0%", 0), seed=5).work.numerics.compiled


def test_seeds_are_the_recipes_own_and_then_others(lab: Any) -> None:
    assert seeds_of(recipe_of(lab, "seeds=[7,3]"), 1) == [7]
    assert seeds_of(recipe_of(lab, "seeds=[7,3]"), 4) == [7, 3, 8, 9]


def shares_of(lab: Any, folder: Path, together: int = 1) -> Shares:
    """Where the time of `tiny` goes, timed in this process."""
    recipe = recipe_of(lab)
    plan = plans(recipe)[0]
    runs = [Run(folder / f"seed={seed}") for seed in seeds_of(recipe, together)]
    for run, seed in zip(runs, seeds_of(recipe, together), strict=True):
        run.create(case_of(plan, Asked("eager", together, "0%", 0), seed), {})
    bench = Workbench(lab.project.data_roots, Stop(), lab.registry, {}, runs=together)
    timed = Timing(runs, bench, plan, 0, steps=10)
    timed.first_step()
    timed.warm_up()
    shares: Shares = timed.measured()["shares"]
    timed.let_go()
    return shares


def slowed(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, seconds: float) -> None:
    """Let a function wait before it does what it did."""
    import time

    original = getattr(owner, name)

    def slow(*arguments: Any, **named: Any) -> Any:
        time.sleep(seconds)
        return original(*arguments, **named)

    wrapped = staticmethod(slow) if isinstance(vars(owner)[name], classmethod) else slow
    monkeypatch.setattr(owner, name, wrapped)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("owner", "name", "share"),
    [
        (Decisions, "drawn", "data"),
        (Training, "evaluate", "evaluation"),
        (Training, "_state", "tracking"),
    ],
)
def test_what_is_slow_shows_in_its_share(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, share: str
) -> None:
    before = shares_of(lab, tmp_path / "before")
    assert sum(before.model_dump().values()) == pytest.approx(1)
    assert min(before.model_dump().values()) >= 0
    slowed(monkeypatch, owner, name, 1.0)
    after = shares_of(lab, tmp_path / "after").model_dump()
    assert sum(after.values()) == pytest.approx(1)
    assert after[share] > 0.25 > getattr(before, share)


@pytest.mark.slow
def test_seeds_that_take_turns_share_the_time(lab: Any, tmp_path: Path) -> None:
    shares = shares_of(lab, tmp_path / "two", together=2)
    assert sum(shares.model_dump().values()) == pytest.approx(1)
    assert shares.step > shares.data


def test_windows_hold_whole_supplies_of_batches(lab: Any, tmp_path: Path) -> None:
    plan = plans(recipe_of(lab))[0]
    run = Run(tmp_path / "seed=0")
    run.create(case_of(plan, Asked("eager", 1, "0%", 0), 0), {})
    bench = Workbench(lab.project.data_roots, Stop(), lab.registry, {})
    timed = Timing([run], bench, plan, 0, steps=100)
    epoch = plan.work.steps_per_epoch
    assert timed.per_window == epoch  # 20 asked for; an epoch's batches are made at once
    assert timed._per_window(epoch // timing.STRETCH - 1) == epoch // timing.STRETCH - 1
    timed.let_go()


@pytest.mark.slow
def test_windows_begin_amid_a_supply_of_batches(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plans(recipe_of(lab))[0]
    run = Run(tmp_path / "seed=0")
    run.create(case_of(plan, Asked("eager", 1, "0%", 0), 0), {})
    bench = Workbench(lab.project.data_roots, Stop(), lab.registry, {})
    timed = Timing([run], bench, plan, 0, steps=100)
    timed.first_step()
    timed.warm_up()
    made, original = [], Supply._some

    def noted(supply: Supply, step: int) -> Any:
        made.append(step)
        return original(supply, step)

    monkeypatch.setattr(Supply, "_some", noted)
    began = timed.trainings[0].step
    timed.measured()
    timed.let_go()
    epoch = plan.work.steps_per_epoch
    assert [step % epoch for step in made] == [0] * len(made)
    assert began % epoch == epoch // 2
    assert made[0] == began + epoch - epoch // 2


@pytest.mark.slow
def test_a_bench_leaves_no_run_and_no_folder(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    recipe = recipe_of(lab, "model.depth=1")
    before = sorted(lab.root.rglob("*"))
    told: list[str] = []
    *before_last, speed = Benching(lab.project, lab.registry, recipe, told.append).speeds(
        engines=["graphed", "eager"], together=[1, 2], at=["0%", "100%"], steps=5
    )
    assert sorted(lab.root.rglob("*")) == before
    assert list(scratch.iterdir()) == []
    assert [one.cases for one in before_last] == [speed.cases[:count] for count in (1, 2, 3)]
    assert [(c.engine, c.together, c.at) for c in speed.cases] == [
        ("eager", 1, "0%"),
        ("eager", 2, "0%"),
        ("eager", 1, "100%"),
        ("eager", 2, "100%"),
    ]
    assert speed.key == plans(recipe)[0].key
    assert speed.cases[2].structural["token_drop"] > 0 == speed.cases[0].structural["token_drop"]
    assert speed.cases[2].step_flops < speed.cases[0].step_flops
    assert speed.efficiency(speed.cases[0]) is None and speed.efficiency(speed.cases[2])
    for case in speed.cases:
        assert case.launches.as_written == case.launches.as_carried_out
        assert case.launches.unit == "operators" and case.start_seconds > 0
    assert told[0].startswith("graphed needs CUDA") and len(told) == 5


@pytest.mark.slow
def test_a_recipe_that_fails_is_said_with_its_reason(lab: Any) -> None:
    recipe = recipe_of(lab, "schedules.lr.peak=1e30")
    with pytest.raises(RunError, match="eager, one seed, at 0%: DIVERGED: "):
        list(
            Benching(lab.project, lab.registry, recipe, print).speeds(
                engines=["eager"], together=[1], at=["0%"], steps=5
            )
        )


@pytest.mark.slow
def test_the_verb_prints_a_table_keeps_a_file_and_shows_it_again(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    arguments = ("bench", "tiny", "model.depth=1", "--steps", "5", "--out", "speed.json")
    code, output = lab.labctl(*arguments)
    assert code == 0, output
    assert "examples/s" in output and "of matmul" in output and "1.00" in output
    code, shown = lab.labctl("bench", "--show", "speed.json")
    assert code == 0 and shown.strip() in output
    code, text = lab.labctl("bench", "--show", "speed.json", "--json")
    kept = json.loads((lab.root / "speed.json").read_text())
    assert json.loads(text) == {k: v for k, v in kept.items() if k != "labctl_bench"}
    assert kept["point"] == {"model.depth": 1}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("bench",), "0 recipes named"),
        (("bench", "tiny", "tiny"), "2 recipes named"),
        (("bench", "tiny", "--together", "0"), "--together 1,3"),
        (("bench", "tiny", "--engines", "fast"), "no engine 'fast'"),
        (("bench", "--show", "missing.json"), "missing.json: cannot be read"),
        (("bench", "tiny", "--show", "x.json"), "--show times nothing"),
    ],
)
def test_a_mistake_is_one_message(lab: Any, arguments: tuple[str, ...], said: str) -> None:
    code, output = lab.labctl(*arguments)
    assert code in (2, 3) and said in output and "Traceback" not in output


@pytest.mark.slow
def test_text_is_counted_in_tokens(tmp_path: Path) -> None:
    source = Path(__file__).parents[1] / "plugins" / "marginalia"
    shutil.copytree(source, tmp_path / "plugins" / "marginalia")
    project = Project(tmp_path)
    registry = Registry(project.plugins)
    recipe = load(project, registry, str(source / "marginalia.yaml"), None, ("batch_size=4",))
    (speed,) = Benching(project, registry, recipe, print).speeds(
        engines=[], together=[1], at=["0%"], steps=5
    )
    (context,) = recipe.spec.shape
    assert (speed.unit, speed.per_step) == ("tokens", 4 * context)
    (case,) = speed.cases
    assert case.engine == "auto" and case.carried_out == "eager"
    assert speed.rate(case).median == pytest.approx(4 * context / case.step_seconds.median)
