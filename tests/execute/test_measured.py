"""Time estimates from steps that were timed before, against numbers worked out by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from labctl.execute.estimate import cost_of
from labctl.execute.measured import Measured, estimates, measured
from labctl.plans.plan import Plan, form_of

DENSE = Measured(
    "x seed=0", "a GPU", 1, form_of({"drop": 0}), 100, steps=10, seconds=10.0,
    numerics="fp32", engine="auto",
)  # fmt: skip
HALF = replace(DENSE, form=form_of({"drop": 0.5}), step_flops=50, seconds=8.0)
PHASES = [
    {"start": 0, "end": 100, "structural": {"drop": 0}, "step_flops": 100},
    {"start": 100, "end": 200, "structural": {"drop": 0.5}, "step_flops": 50},
]


@pytest.fixture
def plan(lab: Any) -> Plan:
    made: Plan = lab.jobs("tiny")[0].plan
    return made


def test_measured_phases_take_what_they_took(plan: Plan) -> None:
    (found,) = estimates([DENSE, HALF, DENSE], plan, PHASES)
    assert found["seconds"] == pytest.approx(100 * 1.0 + 100 * 0.8)
    assert (found["device"], found["together"]) == ("a GPU", 1)
    assert "scaled" not in found["basis"] and "alone" in found["basis"]


def test_other_phases_are_scaled_by_flops(plan: Plan) -> None:
    (found,) = estimates([DENSE], plan, PHASES)
    assert found["seconds"] == pytest.approx(100 * 1.0 + 100 * 0.5)
    assert "1 of 2 phases scaled by FLOPs" in found["basis"]
    (found,) = estimates([replace(DENSE, step_flops=0)], plan, PHASES)
    assert found["seconds"] == pytest.approx(200)  # nothing to scale by


def test_the_closest_phase_is_scaled(plan: Plan) -> None:
    quarter = [{"start": 0, "end": 10, "structural": {"drop": 0.75}, "step_flops": 25}]
    (found,) = estimates([DENSE, HALF], plan, quarter)
    assert found["seconds"] == pytest.approx(10 * 0.8 / 2)


def test_a_phase_of_the_same_flops_under_another_name_is_not_scaled(plan: Plan) -> None:
    """Where one recipe turns a knob and another leaves it at its default."""
    (found,) = estimates([replace(DENSE, form=form_of({}))], plan, PHASES[:1])
    assert found["seconds"] == pytest.approx(100) and "scaled" not in found["basis"]


def test_numbers_together_and_devices_are_not_mixed(plan: Plan) -> None:
    three = replace(DENSE, together=3, seconds=4.0)
    other = replace(DENSE, device="b GPU", seconds=20.0)
    found = estimates([DENSE, three, other], plan, PHASES[:1])
    assert [(e["device"], e["together"], e["seconds"]) for e in found] == [
        ("a GPU", 1, pytest.approx(100)),
        ("a GPU", 3, pytest.approx(40)),
        ("b GPU", 1, pytest.approx(200)),
    ]
    assert "3 seeds together" in found[1]["basis"]


@pytest.mark.parametrize(
    ("field", "other", "said"),
    [("numerics", "bf16", "numerics bf16, not fp32"), ("engine", "eager", "engine eager, not")],
)
def test_steps_like_the_plans_are_preferred_and_others_said(
    plan: Plan, field: str, other: str, said: str
) -> None:
    unlike = replace(DENSE, seconds=30.0, **{field: other})
    (found,) = estimates([unlike, DENSE], plan, PHASES[:1])
    assert found["seconds"] == pytest.approx(100) and said not in found["basis"]
    (found,) = estimates([unlike], plan, PHASES[:1])
    assert found["seconds"] == pytest.approx(300) and said in found["basis"]


def test_nothing_measured_is_no_estimate(plan: Plan) -> None:
    assert estimates([], plan, PHASES) == []


def test_a_published_bench_of_the_same_key_counts(lab: Any, plan: Plan) -> None:
    case = {
        "engine": "auto", "carried_out": "eager", "together": 2, "at": "0%", "at_step": 0,
        "structural": {"token_drop": 0}, "steps": 20, "step_flops": 100,
        "step_seconds": {"median": 0.5, "low": 0.4, "high": 0.6},
        "launches": {"unit": "operators", "as_written": 1, "as_carried_out": 1},
        "shares": {"data": 0.1, "step": 0.9, "evaluation": 0, "tracking": 0},
        "start_seconds": 1, "compile_seconds": 0, "capture_seconds": 0,
    }  # fmt: skip
    speed = {
        "labctl_bench": 1, "recipe": "tiny", "key": plan.key, "precision": "fp32",
        "batch_size": 32, "unit": "examples", "per_step": 32, "environment": {"device_name": "z"},
        "matmul": {"flops_per_second": 1e9, "size": 64, "dtype": "float32"},
        "cases": [case, {**case, "engine": "compiled"}],
    }  # fmt: skip
    folder = lab.project.benches
    folder.mkdir(parents=True)
    (folder / "speed.json").write_text(json.dumps(speed))
    (folder / "other.json").write_text(json.dumps({**speed, "key": "another"}))
    found = list(measured(lab.project, plan))
    assert [m.source for m in found] == ["speed.json"] * 2
    (estimate,) = estimates(found, plan, [{**PHASES[0], "structural": {"token_drop": 0}}])
    assert estimate["seconds"] == pytest.approx(50) and estimate["together"] == 2
    assert "compiled" not in estimate["basis"]


@pytest.mark.slow
def test_a_run_estimates_its_own_recipe(lab: Any) -> None:
    (run, _) = lab.train_here("tiny")
    plan = lab.jobs("tiny")[0].plan
    steps = list(measured(lab.project, plan))
    assert {m.form for m in steps} <= {form_of(p.structural) for p in plan.work.phases()}
    windows = [r for r in run.journal.of("metrics") if "seconds" in r.fields]
    assert 0 < len(steps) < 2 * len(windows)
    (found,) = cost_of(lab.project, lab.registry, plan)["estimates"]
    taken = sum(r.fields["seconds"] for r in windows)
    assert taken / 2 < found["seconds"] < taken * 2
    assert found["together"] == 1 and run.plan.name in found["basis"]
    # Another learner takes other steps.
    other = plan.model_copy(
        update={"work": plan.work.model_copy(update={"batch_size": plan.work.batch_size + 1})}
    )
    assert list(measured(lab.project, other)) == []
