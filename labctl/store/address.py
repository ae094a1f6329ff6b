"""The names by which people call a run, whether it lies in a folder here or in a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from labctl.plans.plan import Plan

T = TypeVar("T")

SHORTEST = 4
"""Characters of a key that are enough to name a run."""


@dataclass(frozen=True, slots=True)
class Address:
    """What a run can be called by."""

    recipe: str
    label: str
    """`recipe`, or `recipe@preset`."""
    seed: int
    name: str
    """With everything that was set otherwise than in the recipe."""
    key: str
    group: str

    @property
    def short(self) -> str:
        """`recipe@preset/seed=N`."""
        return f"{self.label}/seed={self.seed}"

    @property
    def is_as_written(self) -> bool:
        """Whether nothing was set otherwise than in the recipe."""
        return self.name == f"{self.label} seed={self.seed}"

    @property
    def names(self) -> frozenset[str]:
        """All but the digests."""
        seed = f"seed={self.seed}"
        recipes = (self.recipe, f"{self.recipe}/{seed}")
        return frozenset((*recipes, self.label, self.short, f"{self.label} {seed}", self.name))


def address_of(plan: Plan) -> Address:
    """Of the run that carries `plan` out."""
    return Address(plan.recipe, plan.label, plan.work.seed, plan.name, plan.key, plan.group)


def called(text: str, addresses: Mapping[T, Address]) -> list[T]:
    """Those that `text` means: a run's whole name before all others, else its short one, which is
    that of the recipe as it is written if that was trained, else a recipe, `recipe@preset`, or a
    recipe of any preset with `/seed=N`, else a key or its beginning."""
    found = [one for one, address in addresses.items() if text == address.name]
    short = [one for one, address in addresses.items() if text == address.short]
    found = found or [one for one in short if addresses[one].is_as_written] or short
    found = found or [one for one, address in addresses.items() if text in address.names]
    if not found and len(text) >= SHORTEST:
        found = [
            one
            for one, address in addresses.items()
            if address.key.startswith(text) or address.group.startswith(text)
        ]
    return found


def known(addresses: Mapping[T, Address]) -> set[str]:
    """Names that a message can offer."""
    return {name for a in addresses.values() for name in (a.label, a.short)}
