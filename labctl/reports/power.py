"""What differences so many seeds can show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from labctl.project import Project
from labctl.recipe.claim import DifferenceClaim, EquivalenceClaim, NearClaim, ValueClaim
from labctl.recipe.recipe import Recipe
from labctl.registry.registry import Registry

from .bundle import published
from .evidence import of_row
from .rows import Rows
from .statistics import LEVEL, POWER, resolvable

NUMBERS = (3, 5, 10, 20)
"""Of seeds, beside the recipe's own."""
JUDGED = (DifferenceClaim, EquivalenceClaim, ValueClaim, NearClaim)
"""Claims about one mean."""


@dataclass(frozen=True, slots=True)
class Known:
    """A claim whose figure varies over seeds as has been seen."""

    claim: str
    sd: float
    """Of what is judged, between seeds or pairs of them."""
    n: int
    """Seeds that it was seen in."""
    unit: str
    """With a space before it."""

    @property
    def spread(self) -> str:
        return f"sd {self.sd:.2g}{self.unit}, n={self.n}"


@dataclass(frozen=True, slots=True)
class Power:
    """Numbers of seeds, and the smallest means that each shows."""

    seeds: tuple[int, ...]
    in_sds: tuple[float, ...]
    """In standard deviations of what is averaged."""
    known: tuple[Known, ...]

    @property
    def footnote(self) -> str:
        return (
            f"the smallest difference from a bound that is shown with probability {POWER:g}, by a "
            f"two-sided t test at {LEVEL:g}; sd: of values, or of differences paired by seed; "
            "claims that are judged together ask for more (Holm)"
        )

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "level": LEVEL,
            "power": POWER,
            "seeds": list(self.seeds),
            "in_sds": list(self.in_sds),
            "claims": [
                {
                    "claim": one.claim, "sd": one.sd, "n": one.n, "unit": one.unit.strip(),
                    "shows_from": [in_sds * one.sd for in_sds in self.in_sds],
                }
                for one in self.known
            ],
        }  # fmt: skip


def power_of(project: Project, registry: Registry, recipe: Recipe) -> Power:
    """Of the recipe's number of seeds and some others; of its claims about one mean, too, as far as
    runs or bundles say how much that varies."""
    numbers = sorted({*NUMBERS, len(recipe.document.first_seeds)} - {1})
    rows = Rows(project, registry, recipe.preset, published(project))
    return Power(tuple(numbers), tuple(map(resolvable, numbers)), tuple(_known(rows, recipe)))


def _known(rows: Rows, recipe: Recipe) -> Iterator[Known]:
    claims = recipe.document.claims
    row = rows.at(recipe)[0]
    for found in of_row(row, rows.counterpart):
        if not isinstance(claims[found.claim], JUDGED) or len(found.parts) != 1:
            continue
        (part,) = found.parts
        (*others, sample) = part.estimate.samples
        if not others and sample.sd:
            unit = " points" if part.unit == " %" else part.unit
            yield Known(found.claim, sample.sd, sample.n, unit)
