"""Sweeps by function; what they train is tested with the commands."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import labctl
from labctl.errors import RecipeError
from labctl.execute.job import Outcome, outcome_of
from labctl.reports.growing import Growth
from labctl.store.atomic import write_json
from labctl.store.run import run_of
from labctl.verbs import sweeping

GROWING = "extends: tiny.yaml\nseeds: {min: 2, max: 4, until: ci_halfwidth <= 1}\n"


def test_seeds_join_at_each_point_until_its_mean_is_known(
    lab: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.write("mg", GROWING)
    asked: list[list[tuple[int, int]]] = []
    wanted = {1: [(2, 3)], 4: [(2,), (3,)]}

    def carry_out(project: Any, registry: Any, work: Any, *_: Any) -> list[Outcome]:
        asked.append([(job.plan.point["model.depth"], job.plan.work.seed) for job in work])
        runs = [run_of(project, job.plan) for job in work]
        for run, job in zip(runs, work, strict=True):
            run.create(job.plan, {})
            write_json(run.end_path, {"status": "DONE", "step": 1, "code": 0, "time": 1.0})
        return [outcome_of(run, job.plan) for run, job in zip(runs, work, strict=True)]

    def growth(project: Any, registry: Any, recipe: Any) -> Growth:
        left = wanted[recipe.point["model.depth"]]
        return Growth(left.pop(0), "wider") if left else Growth((), "enough")

    monkeypatch.setattr(sweeping, "carry_out", carry_out)
    monkeypatch.setattr(sweeping, "carry_out_anew", carry_out)
    monkeypatch.setattr("labctl.reports.growing.growth", growth)
    given: dict[str, Any] = {"values": "1,4", "recipe": "mg", "project": lab.root}
    assert len(labctl.sweep("model.depth", **given)) == 8
    assert asked == [[(1, 0), (4, 0), (1, 1), (4, 1)], [(1, 2), (1, 3), (4, 2)], [(4, 3)]]
    said = capsys.readouterr().out
    assert "model.depth=1 wider\nmodel.depth=4 wider\nmodel.depth=1 enough\n" in said

    asked.clear()
    assert len(labctl.sweep("model.depth", **given)) == 8
    assert [len(work) for work in asked] == [8], "those that joined are seen to again"
    asked.clear()
    labctl.sweep("model.depth", seeds=1, **given)
    assert asked == [[(1, 0), (4, 0)]], "nothing is added to seeds that somebody chose"


def test_overrides_name_fields_as_axes_do(lab: Any) -> None:
    """By their ends, where that is one field; what a recipe calls by that name is meant first."""
    given = ("num_heads=4", "lr.peak=1e-2", "budget=7ep", "model.depth=2", "smoothing=0.2", "x=1")
    fixed = ["embed_dim", *given[:-1]]
    _, _, asked = sweeping.spoken(lab.root, fixed[0], fixed[1:], (), "tiny", None)
    assert asked.sweep.fixed == (
        "model.num_heads=4", "schedules.lr.peak=1e-2", "budget=7ep", "model.depth=2",
        "loss.cross_entropy.smoothing=0.2",
    )  # fmt: skip
    with pytest.raises(RecipeError, match="unknown field 'x'"):
        sweeping.spoken(lab.root, "embed_dim", given, (), "tiny", None)


@pytest.mark.parametrize("end", ["HALTED", "DIVERGED", "FAILED"])
def test_how_runs_of_an_earlier_call_ended_is_said_again(lab: Any, end: str) -> None:
    why = {"status": end, "step": 3, "message": "collapsed at step 3", "code": 0, "time": 1.0}
    for run, job in zip(lab.runs(), lab.jobs(), strict=True):
        run.create(job.plan, {})
        write_json(run.end_path, why)
    found = labctl.sweep("model.depth", recipe="tiny", values="2", track=False, project=lab.root)
    assert [(one["status"], one["skipped"]) for one in found.plain()] == [(end, True)] * 2
    assert {one["message"] for one in found.plain()} == {"collapsed at step 3"}


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([False, True], ["false,true"]),
        (False, ["false"]),
        ([None, 4], ["null,4"]),
        ([[1, 2], (3,)], ["[1, 2],[3]"]),
        ([0.1, "0.2:0.3/2", "beta=1,2"], ["0.1,0.2:0.3/2", "beta=1,2"]),
        (np.array([0.1, 0.25]), ["0.1,0.25"]),
        ([np.bool_(True), np.int64(3), np.float32(0.1)], ["true,3,0.1"]),
    ],
)
def test_values_are_written_as_a_recipe_writes_them(values: Any, texts: list[str]) -> None:
    assert sweeping.texts(values) == texts


def test_a_truth_value_can_be_swept(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.write("sgd", "extends: tiny.yaml\noptimizer: {kind: sgd}\n")
    seen: list[Any] = []
    monkeypatch.setattr(sweeping, "trained", lambda _, __, asked, *___: seen.append(asked.sweep))
    labctl.sweep("optimizer.nesterov", recipe="sgd", values=[False], project=lab.root)
    assert seen[0].points() == [{"optimizer.nesterov": "false"}]
