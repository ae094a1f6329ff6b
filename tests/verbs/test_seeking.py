"""Boundaries and searches by function; what they train is tested with the commands."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import labctl
from labctl.errors import PartialError, RunError, UsageError
from labctl.execute.job import Outcome, outcome_of
from labctl.store.atomic import write_json
from labctl.store.run import Run, run_of
from labctl.store.status import Status
from labctl.sweeps.findings import Findings, SearchTrial
from labctl.verbs import seeking
from labctl.verbs.outcomes import Outcomes
from labctl.verbs.seeking import Sought

SWEEP = """\
title: a sweep of the tests
recipe: tiny
axes: {peak: 1e-3:3e-3}
step: 1e-3
columns: [{kind: metric, metric: test/acc}]
"""


@pytest.fixture
def swept(lab: Any) -> Any:
    (lab.root / "recipes/sweeps").mkdir()
    lab.write("sweeps/peak", SWEEP)
    return lab


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda root: labctl.boundary("peak", project=root), "between which values of"),
        (lambda root: labctl.boundary("peak", values="1:x", project=root), "1:x is no range"),
        (lambda root: labctl.boundary("peek", project=root), "no sweep 'peek'"),
        (lambda root: labctl.search("peak", project=root), "does not say what to search"),
        (lambda root: labctl.search("peak", retry="tired", project=root), "no way for a run"),
    ],
)
def test_faults_are_said_in_words(swept: Any, ask: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ask(swept.root)


def test_an_override_of_what_is_searched_is_refused(swept: Any) -> None:
    search = (
        "search: {trials: 3, objectives: [{metric: test/acc, goal: maximize}],"
        " allow_test_selection: true, space: {peak: {low: 1e-4, high: 1e-2}}}\n"
    )
    swept.write("sweeps/peak", SWEEP + search)
    with pytest.raises(UsageError, match="would count at no point"):
        labctl.search("peak", "schedules.lr.peak=1", project=swept.root)


@pytest.mark.parametrize("end", ["halted", "diverged", "stopped"])
def test_a_search_tries_again_only_what_failed(swept: Any, end: str) -> None:
    with pytest.raises(UsageError, match=f"--retry {end}: a search tries again") as caught:
        labctl.search("peak", retry=["failed", end], project=swept.root)
    assert "--retry failed" in caught.value.hint


def test_a_boundary_asks_for_both_ends_first_and_ends_with_a_run_that_failed(
    swept: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def carry_out(project: Any, registry: Any, work: Any, how: Any) -> list[Outcome]:
        asked.append([job.plan.name for job in work])
        folder = Path(project.runs, "x")
        runs = [Run(folder / str(place)) for place in range(len(work))]
        for run, job in zip(runs, work, strict=True):
            run.create(job.plan, {})
        ends = [Status.FAILED] + [Status.DONE] * (len(work) - 1)
        return [Outcome(run, end) for run, end in zip(runs, ends, strict=True)]

    monkeypatch.setattr(seeking, "carry_out", carry_out)
    with pytest.raises(PartialError, match=r"1 of .* runs are not done") as caught:
        labctl.boundary("peak", values="1e-4:1", seeds=1, track=False, project=swept.root)
    assert caught.value.hint == "labctl why RUN; the same command goes on"
    (first,) = asked
    assert any("peak=0.0001 " in name for name in first)
    assert any("peak=1 " in name for name in first)


def test_a_boundary_that_a_failed_run_ends_ends_so_again(
    swept: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def carry_out(project: Any, registry: Any, work: Any, how: Any) -> list[Outcome]:
        asked.append(len(work))
        runs = [run_of(project, job.plan) for job in work]
        for place, (run, job) in enumerate(zip(runs, work, strict=True)):
            run.create(job.plan, {})
            status = "FAILED" if place == 0 else "DONE"
            end = {"status": status, "step": 1, "message": "", "code": 0, "time": 1.0}
            write_json(run.end_path, end)
        return [outcome_of(run, job.plan) for run, job in zip(runs, work, strict=True)]

    monkeypatch.setattr(seeking, "carry_out", carry_out)
    for _ in range(2):
        with pytest.raises(PartialError, match="1 of 8 runs are not done"):
            labctl.boundary("peak", values="1e-4:1", seeds=1, track=False, project=swept.root)
    assert asked == [8, 1], "what had answered was not trained again"


def test_a_search_some_of_whose_runs_were_given_up_is_answered(lab: Any) -> None:
    (run, _) = lab.runs("tiny")
    run.create(lab.jobs("tiny")[0].plan, {})
    outcomes = Outcomes((Outcome(run, Status.STOPPED),), frozenset({Status.DONE, Status.STOPPED}))
    found = Sought(Findings(3, {"given up": 1}), outcomes)
    assert found.require() is found
    assert repr(found) == "no trial has given a value yet\n1 of 3 trials: 1 given up"
    assert found.plain()["wanted"] == 3 and "1 given up" in found._repr_html_()


def test_a_search_all_of_whose_trials_failed_has_answered_nothing() -> None:
    failures = {0: "depth should be a whole number, not 1.9"}
    with pytest.raises(RunError, match="every trial of the search has failed"):
        Sought(Findings(3, {"failed": 3}, failures=failures), Outcomes(())).require()
    assert Sought(
        Findings(3, {"failed": 2, "complete": 1}, failures=failures), Outcomes(())
    ).require()


def test_trials_are_listed_under_names_that_only_they_have() -> None:
    point = {"schedules.lr.peak": "0.0012345678", "schedules.beta.peak": "2", "model.kind": '"a"'}
    trial = SearchTrial(7, "complete", point, {"val/acc": 0.912345}, ("r",), ("f",), ("k",))
    found = Sought(Findings(1, {"complete": 1}, (trial,), (trial,)), Outcomes(()))
    printed = StringIO()
    Console(file=printed, width=120).print(found)
    lines = [line.split() for line in printed.getvalue().splitlines()]
    assert ["trial", "lr.peak", "beta.peak", "kind", "val/acc", "seeds", "state"] in lines
    assert ["7", "0.001235", "2", '"a"', "0.9123", "1", "complete"] in lines
    many = Sought(Findings(30, {"complete": 30}, (), (trial,) * 30), Outcomes(()))
    assert "and 10 more: --json" in many._repr_html_()
