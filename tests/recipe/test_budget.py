"""Budgets that match what another recipe costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.errors import PluginError
from labctl.recipe.budget import nearest_steps
from labctl.recipe.recipe import load

MATCHED = """
extends: toy.yaml
model: {width: 6, heads: 2}
budget: {match: weights, of: toy}
"""


@given(
    price=st.floats(1e-3, 1e3), target=st.integers(1, 10**6), guess=st.integers(1, 10**6)
)  # fmt: skip
def test_steps_of_one_price_come_within_half_a_step(price: float, target: int, guess: int) -> None:
    goal = target * price * 1.25
    steps = nearest_steps(goal, lambda steps: steps * price, guess)
    assert abs(steps - 1.25 * target) <= 0.5 + 1e-9 * target


@given(st.integers(20, 10**5), st.integers(1, 10**5))
def test_a_price_that_falls_at_a_part_of_the_budget_is_followed(target: int, guess: int) -> None:
    """Three a step to half of the budget, then one: two on average, to a step's rounding."""

    def cost_of(steps: int) -> float:
        return 3.0 * round(steps / 2) + (steps - round(steps / 2))

    steps = nearest_steps(float(target), cost_of, guess)
    assert abs(cost_of(steps) - target) <= 3


def test_it_gives_up_on_a_cost_that_is_not_proportional() -> None:
    """A warm-up of a fixed cost that is more than the target: the least that can be had."""
    assert nearest_steps(50.0, lambda steps: 100.0 + steps, 1000) == 1


def test_steps_that_cost_nothing_match_nothing() -> None:
    with pytest.raises(ValueError, match="7 steps cost nothing"):
        nearest_steps(5.0, lambda steps: 0.0, 7)


def test_a_narrower_model_trains_longer_at_the_same_cost(toys: Any) -> None:
    toys.write("x", MATCHED)
    (toy, *_), (plan, *_) = toys.plans("toy"), toys.plans("x")
    assert plan.work.steps == round(toy.work.steps * 8 / 6) != toy.work.steps
    lr, reference = plan.work.schedules["lr"], toy.work.schedules["lr"]
    share = float(reference["warmup"].removesuffix("step")) / toy.work.steps
    assert float(lr["warmup"].removesuffix("step")) == pytest.approx(share * plan.work.steps)


def test_the_key_is_that_of_the_length_itself(toys: Any) -> None:
    toys.write("x", MATCHED)
    (plan, *_) = toys.plans("x")
    (same, *_) = toys.plans("x", f"budget={plan.work.steps}step")
    assert plan.key == same.key


def test_the_budget_reads_as_it_is_written(toys: Any) -> None:
    toys.write("x", MATCHED)
    recipe = load(toys.project, toys.registry, "x")
    assert str(recipe.document.budget) == recipe.claims_budget == "the weights of toy"


def test_a_preset_matches_the_same_preset_of_the_other(toys: Any) -> None:
    toys.write("toy", toys.text + "presets: {short: {budget: 3ep}}\n")
    again = "budget: {match: weights, of: toy}"  # or that of toy's preset would take its place
    toys.write("x", MATCHED + f"presets: {{short: {{{again}}}, own: {{seeds: [5]}}}}\n")
    toys.write("y", MATCHED.replace("of: toy", "of: toy@short"))
    (whole, *_), (short, *_) = toys.plans("toy"), toys.plans("toy", preset="short")
    expected = [round(4 / 3 * plan.work.steps) for plan in (short, whole, short)]
    found = [toys.plans("x", preset="short"), toys.plans("x", preset="own"), toys.plans("y")]
    assert [plans[0].work.steps for plans in found] == expected


def test_overrides_are_of_the_recipe_and_not_of_the_other(toys: Any) -> None:
    toys.write("x", MATCHED)
    (toy, *_), (plan, *_) = toys.plans("toy"), toys.plans("x", "model.width=4")
    assert plan.work.steps == 2 * toy.work.steps


@pytest.mark.parametrize(
    ("budget", "problem"),
    [
        ("{match: weights, of: toi}", "x.yaml:3:26: budget.of: no recipe 'toi'\n  did you mean"),
        ("{match: weight, of: toy}", "x.yaml:3:10: unknown cost 'weight'\n  did you mean"),
        ("{match: weights}", "x.yaml:3:1: budget.of is missing\n  The other recipe"),
        ("{match: weights, to: toy}", "x.yaml:3:26: unknown field 'budget.to'\n  did you"),
        ("{match: weights, of: toy@short}", "budget.of: toy@short: recipes/toy.yaml: no preset"),
        ("{match: weights, of: x}", "in a circle: x -> x\n  give one of them a length"),
        ("{match: weights, of: y}", "in a circle: x -> y -> x\n  give one of them a length"),
        ("{match: weights, of: bad}", "budget.of: bad: recipes/bad.yaml:2:1: batch_size should be"),
    ],
)  # fmt: skip
def test_what_cannot_be_matched(toys: Any, budget: str, problem: str) -> None:
    toys.write("y", "extends: toy.yaml\nbudget: {match: weights, of: x}\n")
    toys.write("bad", "extends: toy.yaml\nbatch_size:   -3\n")
    problems = toys.problems_of(f"extends: toy.yaml\n\nbudget: {budget}\n")
    assert any(problem in one for one in problems), problems


def test_a_cost_of_a_plugin_that_fails_is_that_plugin_s_fault(toys: Any) -> None:
    toys.write("x", MATCHED.replace("weights", "faulty"))
    with pytest.raises(PluginError, match=r"total.. of cost 'faulty' failed: .*no price") as caught:
        toys.plans("x")
    assert Path(caught.value.where.rsplit(":", 1)[0]).parent.name == "toy"


def test_a_cost_of_nothing_has_no_match(toys: Any) -> None:
    toys.write("x", MATCHED.replace("weights", "nothing"))
    (problem,) = toys.problems(name="x")
    assert "x.yaml:4:1: budget: the nothing of toy has no match: 100 steps cost nothing" in problem
