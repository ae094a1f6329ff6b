"""A sweep as its author writes it, in `recipes/sweeps/NAME.yaml`."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from labctl.recipe.claim import Sourced
from labctl.recipe.seeds import Seeds
from labctl.recipe.times import Interval
from labctl.registry.config import Config

from .bisection import BoundaryConfig
from .search_config import SearchConfig


class BoundaryBlock(BoundaryConfig):
    """Where runs stop being stable, and how long they are watched while that is searched."""

    budget: Interval | None = None
    """Of the runs of the search, shorter than the recipe's; the values between which each end was
    found are then tried again at full length."""

    def of_integers(self) -> BoundaryBlock:
        """The same of a field that takes whole numbers only.

        Raises:
            ValidationError: an end is none.
        """
        return BoundaryBlock(**{**self.model_dump(), "integer": True})


class ThresholdClaim(Sourced):
    """That training is stable from a value on, and not below it."""

    stable_from: float


OneValue = str | float | bool | None | list[Any]
"""Of a field: also nothing, or a list."""


class SweepConfig(Config):
    """The fields of the file."""

    title: str = ""
    recipe: str
    """What is swept: a recipe by name."""
    axes: dict[str, str | float | list[OneValue]] = {}
    """Values by field or knob: `{beta: 0.20:0.25:0.01}`, or a list of values."""
    combine: Literal["grid", "zip"] = "grid"
    """Of several axes: every combination, or the first values together, the second, ..."""
    step: float | None = Field(default=None, gt=0)
    """For ranges `a:b` that give none."""
    seeds: Seeds | None = None
    """The recipe's own if not given."""
    boundary: BoundaryBlock | None = None
    """Where runs stop being stable: `labctl sweep NAME --boundary`."""
    search: SearchConfig | None = None
    """The best values of some fields: `labctl sweep NAME --search`."""
    claims: dict[str, ThresholdClaim] = {}
    """What somebody says of the whole sweep, by name; its table judges them."""
    columns: list[dict[str, Any]] = []
    """Of its table, as in recipes/tables/; accuracy and stability if not given."""

    @model_validator(mode="after")
    def _check_what(self) -> Self:
        if not self.axes and self.search is None:
            raise ValueError("varies nothing; give it axes, such as {beta: 0.2:0.25:0.01}")
        if self.claims and len(self.axes) != 1:
            raise ValueError("a claimed threshold is of one field; give the sweep one axis")
        return self


def faults_of(error: ValidationError) -> str:
    """What pydantic says, in a line."""
    return "; ".join(fault["msg"].removeprefix("Value error, ") for fault in error.errors())
