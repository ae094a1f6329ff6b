"""Sweeps by function; what they train is tested with the commands."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import labctl
from labctl.store.atomic import write_json
from labctl.verbs import sweeping


def test_a_sweep_says_beforehand_that_no_seeds_join(
    lab: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.write("mg", "extends: tiny.yaml\nseeds: {min: 2, max: 4, until: ci_halfwidth <= 1}\n")
    monkeypatch.setattr(sweeping, "carry_out_anew", lambda *_: [])
    given: dict[str, Any] = {"values": "1,2", "recipe": "mg", "project": lab.root}
    labctl.sweep("model.depth", **given)
    assert "each point has the first 2 seeds" in capsys.readouterr().out
    labctl.sweep("model.depth", seeds=2, **given)
    assert "seeds" not in capsys.readouterr().out


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
