"""How long to train: a length of its own, or as long as costs what another recipe costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from labctl.registry.config import Config

from .times import Time, lacks_unit

ROUNDS = 20
"""Lengths that are tried, at most, before the best of them is taken."""


class Match(Config):
    """As many steps as cost what another recipe's training costs."""

    match: str
    """What both are to cost the same of, such as `executed_flops`: `labctl ls costs`."""
    of: str = Field(min_length=1)
    """The other recipe, with this one's preset if it has that; or `NAME@PRESET`."""

    def __str__(self) -> str:
        return f"the {self.match} of {self.of}"


def _with_unit(budget: Any) -> Any:
    if lacks_unit(budget):
        raise ValueError(f"{budget} needs a unit: {budget}ep or {budget}step")
    return budget


def _absolute(budget: Time) -> Time:
    if budget.unit not in ("ep", "step", "tok") or budget.value <= 0:
        raise ValueError(f"a budget is a positive number of ep, step or tok, not {budget}")
    return budget


# In brackets, so that no tag of a union is taken for the field of that name in an error's place.
def _kind(value: Any) -> str:
    return "<match>" if isinstance(value, dict | Match) else "<length>"


Budget = Annotated[
    Annotated[Time, BeforeValidator(_with_unit), AfterValidator(_absolute), Tag("<length>")]
    | Annotated[Match, Tag("<match>")],
    Discriminator(_kind),
]


def nearest_steps(target: float, cost_of: Callable[[int], float], guess: int) -> int:
    """The number of steps that costs about `target`.

    `cost_of(steps)` should grow about in proportion to the steps, as it does where a curriculum is
    written in parts of the budget; it is asked a few times.

    Raises:
        ValueError: a step costs nothing.
    """
    tried: dict[int, float] = {}
    steps = guess
    while steps not in tried and len(tried) < ROUNDS:
        tried[steps] = cost_of(steps)
        if tried[steps] <= 0:
            raise ValueError(f"{steps} steps cost nothing")
        steps = max(1, round(steps * target / tried[steps]))
    return min(tried, key=lambda steps: abs(tried[steps] - target))
