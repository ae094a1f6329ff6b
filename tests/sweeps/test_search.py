"""Searches driven by a loop that writes run folders by hand: nothing is trained, every figure is
known beforehand."""

from __future__ import annotations

import json
import logging
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from labctl.errors import EnvironmentProblem, RecipeError, RunError, UsageError
from labctl.execute.job import Job, Outcome
from labctl.plans.plan import Plan
from labctl.recipe.recipe import Recipe
from labctl.store.atomic import write_json
from labctl.store.journal import Journal, JournalWriter
from labctl.store.run import Run, run_of
from labctl.store.status import Status
from labctl.sweeps.findings import read_findings
from labctl.sweeps.history import study_path
from labctl.sweeps.search import Search
from labctl.sweeps.search_config import SearchConfig

RECIPE = """\
title: a recipe to be searched
data: {name: tiny, val: 20}
model: {architecture: toy, width: 8, heads: 2, rate: 0.5}
batch_size: 10
budget: 10ep
optimizer: {kind: adamw}
schedules:
  lr: {kind: cosine, peak: 1e-3, warmup: 10%}
seeds: [0]
"""
RATE = {"model.rate": {"low": 0.0, "high": 1.0}}
TWO = {**RATE, "schedules.lr.peak": {"low": 1e-4, "high": 1e-1, "log": True}}
ACC = {"metric": "val/acc", "goal": "maximize"}
EVALUATIONS = 10
"""Of each run: after every tenth of its budget."""


class Killed(Exception):
    """As kill -9 would: nothing more is said to anybody."""


def config(space: Mapping[str, Any] = TWO, **given: Any) -> SearchConfig:
    asked = {"trials": 8, "sampler": "random", "objectives": [ACC], "space": space, **given}
    return SearchConfig.model_validate_json(json.dumps(asked))


def quality(plan: Plan) -> float:
    """Accuracy at the end: best at rate 0.3 and peak 0.01; every seed its own."""
    rate = plan.work.architecture.config["rate"]
    peak = plan.work.schedules["lr"]["peak"]
    return 0.9 - (rate - 0.3) ** 2 - 0.02 * math.log10(peak / 0.01) ** 2 + 0.01 * plan.work.seed


@dataclass
class Training:
    """A run that is being trained: an evaluation at each turn."""

    job: Job
    run: Run
    journal: JournalWriter
    evaluations: int


@dataclass
class Bench:
    """Stands in for a supervisor: `workers` runs at once, an evaluation of each in a turn."""

    toys: Any
    workers: int = 1
    ends: Callable[[Plan], str] = lambda plan: "DONE"
    """In which status a run would end."""
    curve: Callable[[Plan, float], float] = lambda plan, progress: quality(plan) * progress
    flops: Callable[[Plan], float] = lambda plan: 1e9
    codes: dict[str, int] = field(default_factory=dict)
    """Exit codes by status."""
    name: str = "hunt"
    trained: list[Run] = field(default_factory=list)
    """Every attempt that was begun."""

    def __post_init__(self) -> None:
        self.toys.write("toy", RECIPE)

    def at(self, point: Mapping[str, str]) -> Recipe:
        settings = (f"{name}={value}" for name, value in point.items())
        return self.toys.load("toy", *settings)

    def search(self, config: SearchConfig, **given: Any) -> Search:
        return Search(self.toys.project, self.name, config, self.at, **given)

    def go(self, config: SearchConfig, *, most_turns: int = 10**6, **given: Any) -> Search:
        """Search to the end, or until everything is killed after so many turns."""
        with self.search(config, **given) as search:
            self.carry_out(search, most_turns)
        return search

    def carry_out(self, search: Search, most_turns: int = 10**6) -> None:
        active: list[Training] = []
        try:
            self.loop(search, active, most_turns)
        finally:
            for training in active:
                training.journal.close()

    def loop(self, search: Search, active: list[Training], left: int) -> None:
        known: set[str] = set()
        waiting: list[Job] = []

        def admit(jobs: Any) -> None:
            for job in jobs:
                if job.plan.key in known:
                    continue
                known.add(job.plan.key)
                run = run_of(self.toys.project, job.plan)
                if run.status.is_final:
                    search.ended(Outcome(run, run.status, was_skipped=True))
                else:
                    waiting.append(job)

        while not waiting and (more := search.more(1)):
            admit(more)
        while waiting or active:
            for training in list(active):
                if self.turn(training):
                    active.remove(training)
                    search.ended(Outcome(training.run, training.run.status))
            for training in list(active):
                if search.verdict(training.run):
                    self.end(training, "STOPPED")
                    active.remove(training)
                    search.ended(Outcome(training.run, Status.STOPPED))
            while (room := self.workers - len(active) - len(waiting)) > 0:
                if not (more := search.more(room)):
                    break
                admit(more)
            while waiting and len(active) < self.workers:
                active.append(self.begin(waiting.pop(0)))
            if left == 0:
                raise Killed
            left -= 1

    def begin(self, job: Job) -> Training:
        run = run_of(self.toys.project, job.plan)
        run.create(job.plan, {})
        run.end_path.unlink(missing_ok=True)
        run.stop_path.unlink(missing_ok=True)
        before = Journal.read(run.folder)
        done = round(EVALUATIONS * max((r.step for r in before.records), default=0) / 80)
        self.trained.append(run)
        journal = JournalWriter(run.folder, before.attempts + 1, done * 8, {})
        return Training(job, run, journal, done)

    def turn(self, training: Training) -> bool:
        """An evaluation; whether it was the last."""
        plan = training.job.plan
        assert plan.work.steps == 80
        training.evaluations += 1
        progress = training.evaluations / EVALUATIONS
        value = self.curve(plan, progress)
        training.journal.metrics(training.evaluations * 8, {"val/acc": value, "train/loss": 1.0})
        if training.evaluations < EVALUATIONS:
            return False
        self.end(training, self.ends(plan))
        return True

    def end(self, training: Training, status: str) -> None:
        step = training.evaluations * 8
        training.journal.record("end", step, status=status, message="")
        training.journal.close()
        flops = {"train_flops": self.flops(training.job.plan)}
        write_json(training.run.folder / "ledger.json", flops)
        end = {"status": status, "step": step, "message": "", "code": self.codes.get(status, 0)}
        write_json(training.run.end_path, end)


@pytest.fixture
def bench(toys: Any, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(os, "fsync", lambda file: None)  # no machine dies here
    return Bench(toys)


def told(search: Search, state: str = "COMPLETE") -> list[Any]:
    return [trial for trial in search.study.trials if trial.state.name == state]


def points(search: Search) -> list[dict[str, Any]]:
    return [dict(trial.params) for trial in search.study.trials if "keys" in trial.user_attrs]


def runs_of(bench: Bench, trial: Any) -> list[Run]:
    return [Run(bench.toys.project.runs / folder) for folder in trial.user_attrs["folders"]]


@pytest.mark.parametrize(
    "sampler",
    ["random", "tpe", "cmaes", pytest.param("gp", marks=pytest.mark.slow)],
)
def test_every_sampler_trains_the_points_it_proposes(bench: Bench, sampler: str) -> None:
    if sampler == "cmaes":
        pytest.importorskip("cmaes")
    bench.workers = 2
    search = bench.go(config(trials=14, sampler=sampler))
    assert len(told(search)) == 14 and len(bench.trained) == 14
    for trial in told(search):
        (run,) = runs_of(bench, trial)
        assert run.plan.work.architecture.config["rate"] == trial.params["model.rate"]
        assert run.plan.work.schedules["lr"]["peak"] == trial.params["schedules.lr.peak"]
        assert trial.values == [pytest.approx(quality(run.plan), abs=1e-15)]
    best = max((run.plan for run in bench.trained), key=quality)
    (found,) = search.findings.best
    assert found.keys == (best.key,) and found.runs == (best.name,)
    assert search.findings.states == {"complete": 14}


@pytest.mark.slow
def test_samplers_that_learn_find_better_points_than_chance(bench: Bench) -> None:
    means = {}
    for sampler in ("random", "tpe"):
        bench.name, bench.workers = sampler, 1
        search = bench.go(config(trials=40, sampler=sampler))
        means[sampler] = statistics.fmean(trial.value for trial in told(search)[-15:])
    assert means["tpe"] > means["random"] + 0.02


def test_a_trial_is_the_mean_over_its_seeds(bench: Bench) -> None:
    bench.toys.write("toy", RECIPE.replace("seeds: [0]", "seeds: [0, 1, 5]"))
    search = bench.go(config(trials=3))
    assert len(bench.trained) == 9
    for trial in told(search):
        runs = runs_of(bench, trial)
        assert [run.plan.work.seed for run in runs] == [0, 1, 5]
        assert trial.value == pytest.approx(statistics.fmean(quality(run.plan) for run in runs))
    assert len(search.findings.best[0].runs) == 3
    assert "n=3 seeds" in search.findings.sentences()[0]


def test_a_trial_is_told_when_its_last_seed_has_ended(bench: Bench) -> None:
    bench.toys.write("toy", RECIPE.replace("seeds: [0]", "seeds: [0, 1]"))
    with pytest.raises(Killed), bench.search(config(trials=1)) as search:
        bench.carry_out(search, most_turns=EVALUATIONS + 1)
    assert bench.trained[0].status is Status.DONE
    assert not told(search) and len(told(search, "RUNNING")) == 1


@pytest.mark.parametrize("status", ["DIVERGED", "HALTED", "FAILED"])
def test_what_gives_no_value_has_failed(bench: Bench, status: str) -> None:
    bench.toys.write("toy", RECIPE.replace("seeds: [0]", "seeds: [0, 1]"))
    bench.ends = lambda plan: (
        status if plan.work.seed and plan.work.architecture.config["rate"] > 0.5 else "DONE"
    )
    search = bench.go(config(trials=8))
    high = [trial for trial in search.study.trials if trial.params["model.rate"] > 0.5]
    assert 0 < len(high) < 8
    assert {t.number for t in told(search, "FAIL")} == {t.number for t in high}
    assert search.findings.states == {"complete": 8 - len(high), "failed": len(high)}
    assert all(f"seed=1 {status}" in why for why in search.findings.failures.values())
    *complete, last = search.findings.trials
    assert last.state == "failed" and last.values == {} and len(last.runs) == 2
    best_first = [trial.values["val/acc"] for trial in complete if trial.state == "complete"]
    assert len(best_first) == 8 - len(high) and best_first == sorted(best_first, reverse=True)


def test_failed_points_are_tried_again_when_asked(bench: Bench) -> None:
    bench.ends = lambda plan: "FAILED" if plan.work.architecture.config["rate"] > 0.5 else "DONE"
    first = bench.go(config(trials=8))
    failed = len(told(first, "FAIL"))
    count = len(bench.trained)
    assert count == 8 and failed > 0
    bench.ends = lambda plan: "DONE"
    assert len(told(bench.go(config(trials=8)), "FAIL")) == failed
    assert len(bench.trained) == count
    search = bench.go(config(trials=8), retry_failed=True)
    assert len(bench.trained) == count + failed
    assert search.findings.states == {"complete": 8}
    assert len({str(sorted(trial.params.items())) for trial in told(search)}) == 8
    bench.go(config(trials=8), retry_failed=True)
    assert len(bench.trained) == count + failed


def test_a_machine_that_lacks_something_says_nothing_about_a_point(bench: Bench) -> None:
    bench.ends, bench.codes = (lambda plan: "FAILED"), {"FAILED": EnvironmentProblem.exit_code}
    search = bench.go(config(trials=3))
    assert search.findings.states == {"unfinished": 3}
    asked = points(search)
    bench.ends = lambda plan: "DONE"
    search = bench.go(config(trials=3))
    assert search.findings.states == {"complete": 3} and points(search) == asked


def test_a_run_without_the_metric_fails_with_words(bench: Bench) -> None:
    asked = config(trials=2, objectives=[{"metric": "val/mass", "goal": "minimize"}])
    search = bench.go(asked)
    assert set(search.findings.failures.values()) == {"no finite val/mass was recorded"}
    assert search.findings.sentences()[0] == "no trial has given a value yet"


def test_points_that_the_recipe_refuses_are_failures(bench: Bench) -> None:
    space = {**RATE, "model.width": {"low": 8, "high": 9, "integer": True}}
    search = bench.go(config(space, trials=10))
    odd = [trial for trial in search.study.trials if trial.params["model.width"] == 9]
    assert 0 < len(odd) < 10 and search.findings.states["failed"] == len(odd)
    assert all("does not divide" in why for why in search.findings.failures.values())
    assert len(bench.trained) == 10 - len(odd)


def test_a_space_that_the_recipe_refuses_whole_is_an_error(bench: Bench) -> None:
    with pytest.raises(RecipeError, match="nonsense"):
        bench.go(config({"model.nonsense": {"low": 0, "high": 1}}, trials=50))
    assert not bench.trained


def test_a_point_that_is_proposed_twice_is_trained_once(bench: Bench) -> None:
    space = {"model.mode": {"choices": ["plain", "gated"]}}
    bench.workers = 3
    search = bench.go(config(space, trials=12))
    assert len(bench.trained) == 2 and len(told(search)) == 12
    for trial in told(search):
        (run,) = runs_of(bench, trial)
        assert trial.value == pytest.approx(quality(run.plan))
    assert len(search.findings.best) == 2, "both modes are equally good here"


def test_a_search_that_is_done_does_nothing_and_can_be_extended(bench: Bench) -> None:
    first = points(bench.go(config(trials=4)))
    assert points(bench.go(config(trials=4))) == first and len(bench.trained) == 4
    longer = points(bench.go(config(trials=7)))
    assert longer[:4] == first and len(longer) == 7 and len(bench.trained) == 7
    assert len({str(point) for point in longer}) == 7
    bench.name = "at_once"
    assert points(bench.go(config(trials=7))) == longer


@pytest.mark.parametrize(
    ("sampler", "cuts"),
    [
        ("random", 4),
        pytest.param("random", 29, marks=pytest.mark.slow),
        pytest.param("tpe", 29, marks=pytest.mark.slow),
    ],
)
def test_killed_anywhere_in_its_log_a_search_ends_as_if_it_was_not(
    bench: Bench, sampler: str, cuts: int
) -> None:
    """The log is cut at any byte, as a kill in the middle of a line would leave it."""
    asked = config(trials=14, sampler=sampler)
    whole = bench.go(asked)
    expected = [(trial.params, trial.value) for trial in told(whole)]
    path = study_path(bench.toys.project, bench.name)
    log = path.read_bytes()
    for cut in [*range(0, len(log), len(log) // cuts), len(log) - 1]:
        path.write_bytes(log[:cut])
        Path(f"{path}.lock").symlink_to(path)  # held by whoever was killed
        search = bench.go(asked)
        assert [(trial.params, trial.value) for trial in told(search)] == expected, cut
        assert len(told(search, "RUNNING")) == 0
        assert len(bench.trained) == 14


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_killed_many_times_a_search_loses_and_doubles_nothing(
    bench: Bench, sampler: str, workers: int
) -> None:
    bench.workers = workers
    asked = config(trials=9, sampler=sampler)
    for turns in (0, 3, 10, 14, 7) if workers == 1 else (0, 3, 7, 5, 2):
        with pytest.raises(Killed):
            bench.go(asked, most_turns=turns)
    search = bench.go(asked)
    assert len(told(search)) == len(search.study.trials) == 9
    assert len({run.folder for run in bench.trained}) == 9
    bench.name = "whole"
    if sampler == "random" or workers == 1:
        assert points(bench.go(asked)) == points(search)


def test_interrupted_runs_go_on_and_are_told_then(bench: Bench) -> None:
    with pytest.raises(Killed):
        bench.go(config(trials=2), most_turns=4)
    (run,) = bench.trained
    write_json(run.end_path, {"status": "STOPPED", "step": 32, "message": "SIGINT"})
    with bench.search(config(trials=2)) as search:
        (job,) = search.more(1)
        assert job.plan.key == run.plan.key
        search.ended(Outcome(run, Status.STOPPED))
        assert len(told(search, "RUNNING")) == 1, "Ctrl-C is no pruning"
    search = bench.go(config(trials=2))
    assert len(told(search)) == 2
    assert {1, 2} == {run.journal.attempts for run in bench.trained}


def test_two_searches_of_one_sweep_are_refused(bench: Bench) -> None:
    path = study_path(bench.toys.project, bench.name).with_suffix(".lock")
    code = (
        "import sys, time; from pathlib import Path; from labctl.store.lock import FileLock\n"
        f"assert FileLock(Path({str(path)!r})).acquire(); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match="hunt is being searched by another labctl"):
            bench.go(config())
        other.kill()
    assert len(told(bench.go(config()))) == 8
    with bench.search(config()), pytest.raises(UsageError, match="another labctl"):
        bench.go(config())


def test_a_log_that_is_damaged_is_said(bench: Bench) -> None:
    bench.go(config(trials=2))
    path = study_path(bench.toys.project, bench.name)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], b"rubbish\n", *lines[3:]]))
    with pytest.raises(RunError, match="cannot be read"):
        bench.go(config(trials=2))


def test_a_recipe_that_means_other_work_begins_a_new_study(bench: Bench) -> None:
    first = points(bench.go(config(trials=3)))
    bench.toys.write("toy", RECIPE.replace("batch_size: 10", "batch_size: 10\nema: {decay: 0.9}"))
    second = bench.go(config(trials=5))
    assert len(told(second)) == 5 and len(bench.trained) == 8
    assert points(second)[:3] == first, "the same proposals, other work"
    bench.toys.write("toy", RECIPE.replace("title: a", "title: quite a"))
    third = bench.go(config(trials=4))
    assert points(third)[:3] == first and len(bench.trained) == 9


def test_a_recipe_that_is_edited_meanwhile_ends_the_search(bench: Bench) -> None:
    def edit(plan: Plan) -> str:
        bench.toys.write("toy", RECIPE.replace("batch_size: 10", "batch_size: 20"))
        return "DONE"

    bench.ends = edit
    search = bench.go(config(trials=4))
    assert len(told(search)) == 1 and search.findings.is_outdated
    assert any("edited meanwhile" in said for said in search.findings.sentences())


def test_another_space_begins_with_the_points_that_lie_in_it(bench: Bench) -> None:
    narrow = bench.go(config({"model.rate": {"low": 0.0, "high": 0.5}}, trials=5))
    wide = bench.go(config(RATE, trials=8))
    assert points(wide)[:5] == points(narrow) and len(told(wide)) == 8
    assert len(bench.trained) == 8
    upper = bench.go(config({"model.rate": {"low": 0.25, "high": 1.0}}, trials=1))
    inside = [point for point in points(wide) if point["model.rate"] >= 0.25]
    assert sorted(p["model.rate"] for p in points(upper)) == sorted(p["model.rate"] for p in inside)
    assert len(bench.trained) == 8 and len(inside) > 1


def test_several_objectives_give_a_front(bench: Bench) -> None:
    bench.flops = lambda plan: 1e9 * (1 + plan.work.architecture.config["rate"])
    both = [ACC, {"metric": "flops", "goal": "minimize"}]
    search = bench.go(config(trials=16, sampler="tpe", objectives=both))
    plans = [run.plan for run in bench.trained]
    front = {
        plan.key
        for plan in plans
        if not any(
            quality(other) >= quality(plan)
            and bench.flops(other) <= bench.flops(plan)
            and other.key != plan.key
            for other in plans
        )
    }
    found = search.findings.best
    assert {key for best in found for key in best.keys} == front and 1 < len(front) < 16
    for best in found:
        (run,) = [run for run in bench.trained if run.plan.key == best.keys[0]]
        assert best.values == {
            "val/acc": pytest.approx(quality(run.plan)),
            "flops": bench.flops(run.plan),
        }


def test_the_median_rule_gives_up_what_falls_behind(bench: Bench) -> None:
    """Against the rule itself: after `startup` trials, one is given up at the first evaluation past
    the warm-up where its best so far is below the median of the finished ones there."""
    pruner = {"kind": "median", "warm_up": "30%", "startup": 3}
    search = bench.go(config(RATE, trials=14, pruner=pruner))
    finished: list[Plan] = []
    for trial in search.study.trials:
        (run,) = runs_of(bench, trial)
        stop = None
        for evaluation in range(3, EVALUATIONS):
            progress = evaluation / EVALUATIONS
            others = [quality(plan) * progress for plan in finished]
            if len(others) >= 3 and quality(run.plan) * progress < statistics.median(others):
                stop = evaluation
                break
        if stop is None:
            assert trial.state.name == "COMPLETE", trial.number
            finished.append(run.plan)
            assert trial.intermediate_values.keys() == set(range(100, 1001, 100))
        else:
            assert trial.state.name == "PRUNED", trial.number
            assert run.status is Status.STOPPED and run.journal.curves["val/acc"].keys() == set(
                range(8, 8 * stop + 1, 8)
            )
    states = search.findings.states
    assert sum(states.values()) == 14 and states["given up"] >= 2
    given_up = [trial for trial in search.findings.trials if trial.state == "given up"]
    assert len(given_up) == states["given up"] and not any(trial.values for trial in given_up)
    pruned = told(search, "PRUNED")[0]
    assert pruned.user_attrs["pruned"].startswith("given up after 30%: val/acc 0.")
    assert bench.go(config(RATE, trials=14, pruner=pruner)).findings.states == states
    assert len(bench.trained) == 14, "what was given up is not begun again"


def test_pruning_can_look_at_a_metric_that_falls(bench: Bench) -> None:
    """The curve is a loss; trials whose loss is high are given up, though accuracy is maximised."""
    bench.curve = lambda plan, progress: 1 - quality(plan)
    pruner = {"kind": "median", "metric": "val/acc", "goal": "minimize", "startup": 2}
    loss = {"metric": "flops", "goal": "maximize"}
    bench.flops = quality
    search = bench.go(config(RATE, trials=12, objectives=[loss], pruner=pruner))
    pruned = [quality(runs_of(bench, trial)[0].plan) for trial in told(search, "PRUNED")]
    done = [trial.value for trial in told(search)]
    assert pruned and max(pruned) < max(done)
    assert all("is too high" in trial.user_attrs["pruned"] for trial in told(search, "PRUNED"))


def test_hyperband_gives_up_at_its_rungs(bench: Bench) -> None:
    """Rungs lie at the warm-up times powers of three; what is best so far goes on."""
    pruner = {"kind": "hyperband", "warm_up": "10%"}
    search = bench.go(config(RATE, trials=24, pruner=pruner))
    pruned = told(search, "PRUNED")
    assert len(pruned) >= 6 and len(told(search)) >= 3
    stops = {max(trial.intermediate_values) for trial in pruned}
    assert stops <= {100, 300, 900} and len(stops) > 1
    best = max((run.plan for run in bench.trained), key=quality)
    assert search.findings.best[0].keys == (best.key,)


def test_with_pruning_the_first_seed_goes_ahead(bench: Bench) -> None:
    bench.toys.write("toy", RECIPE.replace("seeds: [0]", "seeds: [3, 4]"))
    bench.workers = 2
    pruner = {"kind": "median", "startup": 2}
    search = bench.go(config(RATE, trials=10, pruner=pruner))
    states = search.findings.states
    assert states["given up"] > 0 and states["given up"] + states["complete"] == 10
    assert len(bench.trained) == 10 + states["complete"]
    for trial in told(search, "PRUNED"):
        assert [run.folder.exists() for run in runs_of(bench, trial)] == [True, False]
    for trial in told(search):
        values = [quality(run.plan) for run in runs_of(bench, trial)]
        assert trial.value == pytest.approx(statistics.fmean(values))


def test_a_trial_that_was_given_up_when_the_search_was_killed_stays_so(bench: Bench) -> None:
    pruner = {"kind": "median", "startup": 2}
    asked = config(RATE, trials=14, pruner=pruner)
    given_up: list[Run] = []

    class Watching(Search):
        def verdict(self, run: Run) -> str:
            if reason := super().verdict(run):
                given_up.append(run)
                raise Killed
            return reason

    search = Watching(bench.toys.project, bench.name, asked, bench.at)
    with pytest.raises(Killed), search:
        bench.carry_out(search)
    (run,) = given_up
    number = search.study.trials[-1].number
    assert search.study.trials[number].state.name == "RUNNING" and run.status is Status.LOST
    search = bench.go(asked)
    assert search.study.trials[number].state.name == "PRUNED"
    assert run.journal.attempts == 1


def test_a_point_that_was_given_up_is_given_up_again(bench: Bench) -> None:
    space = {"model.rate": {"choices": [0.3, 0.35, 0.9]}}
    search = bench.go(config(space, trials=16, pruner={"kind": "median", "startup": 2}))
    assert len(bench.trained) == 3
    by_rate: dict[str, set[str]] = {}
    for trial in search.study.trials:
        by_rate.setdefault(trial.params["model.rate"], set()).add(trial.state.name)
    assert all(len(states) == 1 for states in by_rate.values()), by_rate


def test_looking_at_a_run_reads_what_is_new_of_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = config(RATE, trials=3, pruner="median")
    with bench.search(asked) as search:
        (job,) = search.more(1)
        training = bench.begin(job)
        for _ in range(3):
            bench.turn(training)
        assert search.verdict(training.run) == ""
        path = study_path(bench.toys.project, bench.name)
        size = path.stat().st_size
        with monkeypatch.context() as patch:
            patch.setattr(Journal, "read", None)
            patch.setattr("labctl.execute.follower.record_of", None)
            for _ in range(50):
                assert search.verdict(training.run) == ""
        training.journal.close()
        assert path.stat().st_size == size
        (trial,) = search.study.trials
        assert trial.intermediate_values == {
            100 * turn: pytest.approx(quality(job.plan) * turn / 10) for turn in (1, 2, 3)
        }


def test_findings_can_be_read_while_others_search(bench: Bench) -> None:
    asked = config(trials=3)
    assert read_findings(bench.toys.project, bench.name, asked, bench.at) is None
    with bench.search(asked) as search:
        with pytest.raises(Killed):
            bench.carry_out(search, most_turns=EVALUATIONS + 2)
        found = read_findings(bench.toys.project, bench.name, asked, bench.at)
    assert found is not None and found.states == {"complete": 1, "unfinished": 1}
    assert found == search.findings
    first, warning, count = found.sentences()
    plan = bench.trained[0].plan
    assert first.startswith(f"val/acc {quality(plan):.6g} at model.rate=")
    assert "luck" in warning and count == "2 of 3 trials: 1 complete, 1 unfinished"


def test_optuna_keeps_quiet_and_its_logger_as_it_was(
    bench: Bench, capfd: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("optuna")
    before = logger.level
    bench.go(config(trials=2, pruner="hyperband"))
    assert capfd.readouterr() == ("", "") and logger.level == before


def test_nothing_heavy_is_imported_before_a_search_begins() -> None:
    code = (
        "import sys, labctl.sweeps.search_config, labctl.sweeps.findings, labctl.sweeps.search\n"
        "print([name for name in ('optuna', 'torch', 'mlflow', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
