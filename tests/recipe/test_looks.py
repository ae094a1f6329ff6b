"""How often a run says how training goes."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.plans.derive import plans
from labctl.recipe.recipe import load


@pytest.mark.parametrize(
    ("overrides", "steps"),
    [
        (["budget=6ep"], 4),
        (["budget=50ep"], 4),
        (["budget=100ep"], 44 // 5),
        (["budget=250ep"], 44 // 2),
        (["budget=2000ep"], 44),
        (["budget=250ep", "runtime.log_every=3step"], 3),
    ],
)
def test_training_is_recorded_ten_times_an_epoch_and_some_five_hundred_times_in_all(
    lab: Any, overrides: list[str], steps: int
) -> None:
    # 1,437 examples in batches of 32: 44 steps an epoch.
    recipe = load(lab.project, lab.registry, "tiny", None, overrides)
    plan = plans(recipe)[0]
    assert plan.runtime.log_every == steps
