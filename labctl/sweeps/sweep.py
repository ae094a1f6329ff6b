"""A sweep: a recipe, the fields that differ from point to point, and the values they take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

from labctl.errors import UsageError
from labctl.project import Project
from labctl.recipe.recipe import Recipe, load
from labctl.recipe.seeds import Growing
from labctl.recipe.source import Node
from labctl.registry.registry import Registry

from .axis import Axis
from .config import SweepConfig
from .values import written

Point = Mapping[str, str]
"""Values by dotted field, as overrides write them."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """What to vary, and in what."""

    name: str
    config: SweepConfig
    preset: str | None
    axes: tuple[Axis, ...]
    seeds: tuple[int, ...]
    fixed: tuple[str, ...] = ()
    """Overrides that all points share."""
    growing: Growing | None = None
    """The recipe's rule by which seeds are added, if `seeds` are those that it begins with."""
    tree: Node | None = field(default=None, repr=False)
    """The file, if it came from one."""

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(axis.field for axis in self.axes)

    @property
    def label(self) -> str:
        return f"{self.name}@{self.preset}" if self.preset else self.name

    def with_seeds(self, seeds: tuple[int, ...]) -> Sweep:
        """The same with seeds that somebody chose."""
        return replace(self, seeds=seeds, growing=None)

    @property
    def note(self) -> str:
        """What is worth knowing before a boundary or the best values are looked for; empty if
        nothing is."""
        if self.growing is None:
            return ""
        return (
            f"{self.name}: each point has the first {len(self.seeds)} seeds; none are added to "
            "those of a boundary or a search"
        )

    def points(self) -> list[Point]:
        """Every point of the sweep, the last axis varying fastest.

        Raises:
            UsageError: axes of different lengths that are to be zipped, or a point that is there
                twice.
        """
        columns = [[written(value) for value in axis.values] for axis in self.axes]
        if not columns:
            return []
        if self.config.combine == "grid":
            return [dict(zip(self.fields, row, strict=True)) for row in product(*columns)]
        lengths = {axis.field: len(axis.values) for axis in self.axes}
        if len(set(lengths.values())) > 1:
            counts = ", ".join(f"{name} has {count}" for name, count in lengths.items())
            raise UsageError(
                f"values that go together should be as many: {counts}",
                hint="for every combination of them leave --zip away",
            )
        rows = [*zip(*columns, strict=True)]
        if twice := next((row for row, count in Counter(rows).items() if count > 1), None):
            point = ", ".join(map("=".join, zip(self.fields, twice, strict=True)))
            raise UsageError(f"the point {point} is there twice", hint="leave one of them out")
        return [dict(zip(self.fields, row, strict=True)) for row in rows]

    def at(
        self,
        project: Project,
        registry: Registry,
        point: Point,
        seeds: Sequence[int] | None = None,
    ) -> Recipe:
        """The recipe at a point, with these seeds; where they are some of those by which it grows,
        it still does.

        Raises:
            RecipeError: the point gives a field a value that it cannot have.
        """
        settings = [f"{name}={value}" for name, value in point.items()]
        chosen, rule = list(self.seeds if seeds is None else seeds), self.growing
        if rule is None or not {*chosen} <= {*rule.first, *rule.further}:
            settings.append(f"seeds={chosen}")
        overrides = (*self.fixed, *settings)
        return load(project, registry, self.config.recipe, self.preset, overrides)
