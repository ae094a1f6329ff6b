"""What a search may vary: for each field a range of numbers, or a list of choices."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Self

from pydantic import Discriminator, Field, Tag, model_validator

from labctl.registry.config import Config

from .values import written

Params = Mapping[str, float | int | str]
"""Values by field as the study keeps them: numbers, and choices as JSON."""


class Range(Config):
    """Numbers between two ends, both included."""

    low: float
    high: float
    log: bool = False
    """Drawn evenly on a logarithmic scale."""
    step: float | None = Field(default=None, gt=0)
    """Distance between neighbouring values, counted from `low`."""
    integer: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} should be less than high {self.high:g}")
        if self.log and self.step is not None:
            raise ValueError("a logarithmic range has no step; leave out `log` or `step`")
        if self.log and self.low < (1 if self.integer else 0):
            raise ValueError(f"low {self.low:g} is too small for a logarithmic scale")
        if self.log and self.low == 0:
            raise ValueError("a logarithmic range cannot begin at 0")
        parts = {"low": self.low, "high": self.high, "step": self.step or 1.0}
        for name, value in parts.items():
            if self.integer and value != int(value):
                raise ValueError(f"{name} {value:g} is no integer")
        if self.step is not None and self._span % Decimal(repr(self.step)):
            raise ValueError(
                f"steps of {self.step:g} from {self.low:g} do not reach {self.high:g}; "
                "choose `high` so that they do"
            )
        return self

    @property
    def _span(self) -> Decimal:
        return Decimal(repr(self.high)) - Decimal(repr(self.low))

    def holds(self, value: Any) -> bool:
        """Whether the search could propose `value`."""
        if not isinstance(value, float | int) or not self.low <= value <= self.high:
            return False
        return math.isclose(value, self._exact(value), rel_tol=1e-9, abs_tol=1e-12)

    def written(self, value: Any) -> str:
        """`value` as an override; without a step, reading it gives the same number bit for bit."""
        return written(self._exact(value))

    def _exact(self, value: float) -> Decimal:
        """The number that is meant: sums of binary steps are a little off, 0.30000000000000004."""
        step = self.step or (1.0 if self.integer else None)
        if step is None:
            return Decimal(repr(float(value)))
        low, width = Decimal(repr(self.low)), Decimal(repr(step))
        return low + width * round((Decimal(repr(value)) - low) / width)


class Choices(Config):
    """Values without an order."""

    choices: tuple[Any, ...]
    """Two or more."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        texts = self.texts
        if len(texts) < 2:
            raise ValueError(f"between {len(texts)} choices there is nothing to choose")
        if twice := next((text for text in texts if texts.count(text) > 1), None):
            raise ValueError(f"{twice} is there twice")
        return self

    @property
    def texts(self) -> tuple[str, ...]:
        """The choices as JSON, which is how the study keeps them and overrides write them."""
        return tuple(json.dumps(choice) for choice in self.choices)

    def holds(self, value: Any) -> bool:
        """Whether the search could propose `value`."""
        return value in self.texts

    def written(self, value: Any) -> str:
        """`value` as an override."""
        return str(value)


def _kind(value: Any) -> str:
    """Which of the two an author means, by the one word that only it has."""
    given = value if isinstance(value, Mapping) else getattr(value, "__dict__", {})
    return "listed" if "choices" in given else "ranged"


Part = Annotated[
    Annotated[Range, Tag("ranged")] | Annotated[Choices, Tag("listed")], Discriminator(_kind)
]
Space = Mapping[str, Part]


def point_of(space: Space, params: Params) -> dict[str, str]:
    """Parameters of a trial as values of overrides, by field."""
    return {field: space[field].written(value) for field, value in params.items()}


def holds(space: Space, params: Params) -> bool:
    """Whether `params` are a point of `space`."""
    return params.keys() == space.keys() and all(
        space[field].holds(value) for field, value in params.items()
    )
