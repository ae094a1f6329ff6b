"""Which seeds a recipe is trained with: a list, or as many as a mean needs to be known well."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from labctl.registry.config import Config

from .times import VALUE

MOST_SEEDS = 1000
_UNTIL = re.compile(rf"ci_halfwidth(?:\((?P<metric>\S+)\))?\s*<=\s*(?P<most>{VALUE})")


def listed_seeds(seeds: Sequence[int]) -> str:
    """`seed 3`, `seeds 3, 4`."""
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _counted(seeds: Any) -> Any:
    if isinstance(seeds, list):
        return tuple(seeds)
    if isinstance(seeds, bool) or not isinstance(seeds, int):
        return seeds
    if not 0 < seeds <= MOST_SEEDS:
        raise ValueError(f"{seeds} means {seeds} runs, of seeds 0, 1, ...; for one seed: [{seeds}]")
    return tuple(range(seeds))


def _distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if not 0 < len(seeds) <= MOST_SEEDS:
        raise ValueError(f"{len(seeds)} seeds; from 1 to {MOST_SEEDS} can be given")
    if twice := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
        raise ValueError(f"seed {twice[0]} is given twice")
    if min(seeds) < 0:
        raise ValueError(f"seed {min(seeds)} is negative")
    return seeds


Seeds = Annotated[
    tuple[int, ...],
    BeforeValidator(_counted, json_schema_input_type=int | list[int]),
    AfterValidator(_distinct),
]


def _most(until: str) -> float:
    found = _UNTIL.fullmatch(until.strip())
    assert found is not None, "checked when it was read"
    return float(found["most"].replace("_", ""))


class Growing(Config):
    """Seeds 0, 1, ... until the interval of a mean is narrow enough. What the mean is, or what a
    test says of it, plays no part: to stop on that would make chance findings likely."""

    min: int = Field(default=3, ge=2)
    """Seeds to begin with."""
    max: int = Field(le=MOST_SEEDS)
    """Seeds at which to stop in any case."""
    until: str
    """`ci_halfwidth <= 0.3`: half the 95 % interval of the mean of test/acc, in points;
    `ci_halfwidth(train/loss) <= 0.01` of another metric, in its unit."""

    @field_validator("until")
    @classmethod
    def _check_until(cls, until: str) -> str:
        if not _UNTIL.fullmatch(until.strip()) or not _most(until):
            raise ValueError(
                f"{until!r} should be ci_halfwidth <= 0.3, or ci_halfwidth(METRIC) <= 0.3"
            )
        return until.strip()

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.max <= self.min:
            raise ValueError(f"max {self.max} should be more than min {self.min}")
        return self

    @property
    def metric(self) -> str:
        """The metric whose mean is to be known."""
        found = _UNTIL.fullmatch(self.until)
        return (found and found["metric"]) or "test/acc"

    @property
    def most(self) -> float:
        """Half the interval that is narrow enough, in the metric's unit; accuracies in points."""
        return _most(self.until)

    @property
    def first(self) -> tuple[int, ...]:
        """Seeds to begin with."""
        return tuple(range(self.min))

    @property
    def further(self) -> tuple[int, ...]:
        """Those that may join them."""
        return tuple(range(self.min, self.max))


def _kind(value: Any) -> str:
    return "<block>" if isinstance(value, dict | Growing) else "<value>"


SeedChoice = Annotated[
    Annotated[Growing, Tag("<block>")] | Annotated[Seeds, Tag("<value>")], Discriminator(_kind)
]
