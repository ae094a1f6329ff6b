"""A key is the work and nothing but the work."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from labctl.plans.derive import plans
from labctl.plans.key import digest_of
from labctl.plans.plan import Plan, Rung, settings_of
from labctl.recipe.layers import point_of
from labctl.recipe.recipe import load


def keys(lab: Any, *overrides: str) -> list[str]:
    return [plan.key for plan in plans(load(lab.project, lab.registry, "tiny", None, overrides))]


@pytest.mark.parametrize(
    "override",
    ["title=another", "tags=[a, b]", "runtime.device=cpu", "runtime.checkpoint_seconds=7",
     "runtime.log_every=3step", "measure.attention_maps.images=4",
     "claims.kept={value: test/acc, at_least: 1}"],
)  # fmt: skip
def test_what_changes_no_result_changes_no_key(lab: Any, override: str) -> None:
    assert keys(lab, override) == keys(lab)


@pytest.mark.parametrize(
    "override",
    ["model.depth=3", "model.dropout=0.2", "data.val=100", "data.augment.crop=2", "batch_size=16",
     "budget=7ep", "optimizer.weight_decay=0.1", "optimizer.betas=[0.9, 0.95]",
     "optimizer.clip_norm=null", "optimizer.groups=[{match: [head.*], lr_scale: 0.5}]",
     "loss.cross_entropy.smoothing=0.0", "schedules.lr.peak=1e-3", "schedules.token_drop.power=2",
     "numerics.precision=fp64", "evaluate.every=1ep", "ema=null", "ema.decay=0.9"],
)  # fmt: skip
def test_what_may_change_a_result_changes_every_key(lab: Any, override: str) -> None:
    assert not set(keys(lab, override)) & set(keys(lab))


def test_how_often_training_is_logged_is_work_where_a_rule_heeds_it(lab: Any) -> None:
    """And without a word of it, the key is what it was before that was known."""
    heeding, logged = "stop={low: train/loss < 0.1}", "runtime.log_every=3step"
    assert keys(lab, heeding, logged) != keys(lab, heeding)
    assert keys(lab, heeding, logged) == keys(lab, heeding, logged, "runtime.checkpoint_seconds=7")
    assert keys(lab, "stop={low: test/loss < 0.1}", logged) == keys(
        lab, "stop={low: test/loss < 0.1}"
    )
    (plan, *_) = plans(load(lab.project, lab.registry, "tiny", None, (heeding,)))
    identity = plan.work.model_dump(mode="json", by_alias=True)
    assert "looks_every" not in identity and plan.key == digest_of(identity)


def test_the_same_moment_in_another_unit_is_the_same_work(lab: Any) -> None:
    # 1,437 examples in batches of 32: 44 steps an epoch, 264 in all.
    for same in (
        "schedules.lr.warmup=44step",
        "budget=264step",
        "schedules.token_drop.end=220step",
    ):
        assert keys(lab, same) == keys(lab), same


def test_seeds_share_a_group_and_nothing_else_does(lab: Any) -> None:
    both = plans(load(lab.project, lab.registry, "tiny"))
    assert len({plan.group for plan in both}) == 1 and len({plan.key for plan in both}) == 2
    other = plans(load(lab.project, lab.registry, "tiny", None, ("model.depth=3",)))
    assert other[0].group != both[0].group


def test_a_plan_comes_back_from_its_file_unchanged(lab: Any) -> None:
    for plan in plans(load(lab.project, lab.registry, "ctd_gamma1.5")):
        assert Plan.model_validate_json(plan.model_dump_json(by_alias=True)) == plan


def test_phases_cover_the_run_and_evaluation_falls_where_it_was_asked(lab: Any) -> None:
    overrides = ("evaluate.every=4ep", "evaluate.tail=2ep")
    work = plans(load(lab.project, lab.registry, "tiny", None, overrides))[0].work
    phases = list(work.phases())
    assert phases[0].start == 0 and phases[-1].end == work.steps == 264
    assert all(a.end == b.start for a, b in pairwise(phases))
    assert all(phase.start % work.steps_per_epoch == 0 for phase in phases)
    evaluated = [step for step in range(1, work.steps + 1) if work.is_evaluated(step)]
    assert evaluated == [176, 220, 264]


def test_a_ladder_of_many_rungs_is_climbed_rung_by_rung(lab: Any) -> None:
    work = lab.jobs()[0].plan.work
    rungs = tuple(Rung(step=3 * n, value=n) for n in range(2000))
    late = (Rung(step=10, value="late"),)
    work = work.model_copy(update={"ladders": {"a": rungs, "b": late}, "steps": 6000})
    assert work.structural_at(9) == {"a": 3}
    assert work.structural_at(10) == {"a": 3, "b": "late"}
    assert work.structural_at(10**6) == {"a": 1999, "b": "late"}
    phases = list(work.phases())
    assert len(phases) == 2001 and phases[-1].structural == {"a": 1999, "b": "late"}
    assert [(p.start, p.end) for p in phases[2:5]] == [(6, 9), (9, 10), (10, 12)]


def test_settings_read_back_as_the_values_of_the_point() -> None:
    point = {"a": 0.2, "b": "gather", "c": "1", "d": "true", "e": None, "f": [1, "x"], "g": True}
    assert point_of(settings_of(point)) == point
    assert settings_of({"b": "gather", "a": 0.2}) == ["b=gather", "a=0.2"]
