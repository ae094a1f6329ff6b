"""Time estimates of a plan that was never timed, from a step that is."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from labctl.execute import estimate
from labctl.execute.hardware import device_facts
from labctl.train.assembly import Assembly
from labctl.train.learner import Backprop


def found(lab: Any, *overrides: str) -> dict[str, Any]:
    plan = lab.jobs("tiny", *overrides)[0].plan
    (estimated,) = estimate.cost_of(lab.project, lab.registry, plan)["estimates"]
    return dict(estimated)


def unpriced(assembly: Assembly) -> dict[str, Any]:
    """A ledger in which nothing costs FLOPs."""
    phases = [{**phase.model_dump(), "step_flops": 0} for phase in assembly.plan.work.phases()]
    return {"phases": phases, "train_flops": 0}


def test_a_slow_machine_is_asked_for_a_small_batch(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step of a whole batch may take minutes; the clock says that each takes ten seconds."""
    sizes, now = [], [0.0]

    def slow(self: Any, batch: Any, knobs: Any) -> None:
        sizes.append(len(batch.inputs))
        now[0] += 10.0

    monkeypatch.setattr(Backprop, "step", slow)
    monkeypatch.setattr(estimate.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(estimate, "ledger", unpriced)
    said = found(lab)
    work = lab.jobs("tiny")[0].plan.work
    assert sizes == [2, 2]
    assert said["seconds"] == pytest.approx(10 * work.batch_size / 2 * work.steps)
    assert said["basis"] == "a step of 2 examples, 10 s, scaled by examples and FLOPs"


def test_a_machine_that_timed_nothing_is_asked_beside_those_that_did(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = {"device": "another", "seconds": 1.0}
    monkeypatch.setattr(estimate, "estimates", lambda *_: [dict(timed)])
    plan = lab.jobs("tiny")[0].plan
    found = estimate.cost_of(lab.project, lab.registry, plan)["estimates"]
    here = device_facts(torch.device("cpu"))["device_name"]
    assert [one["device"] for one in found] == ["another", here]
    timed["device"] = here
    assert len(estimate.cost_of(lab.project, lab.registry, plan)["estimates"]) == 1
    if not torch.cuda.is_available():
        timed["device"] = "a GPU"
        cuda = lab.jobs("tiny", "runtime.device=cuda")[0].plan
        assert len(estimate.cost_of(lab.project, lab.registry, cuda)["estimates"]) == 1


@pytest.mark.slow
def test_a_fast_machine_is_asked_for_a_whole_batch(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "ENOUGH", 1e9)
    work = lab.jobs("tiny")[0].plan.work
    assert f"a step of {work.batch_size} examples, " in found(lab)["basis"]
    assert found(lab)["basis"].endswith(" s, scaled by FLOPs")
