"""A sweep in a table: one row per point, in order of the values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from decimal import Decimal, InvalidOperation
from typing import Any

from labctl.errors import UsageError
from labctl.plans.plan import settings_of
from labctl.recipe.predicate import Predicate
from labctl.recipe.source import Mark, parse_value
from labctl.sweeps.bisection import Trial
from labctl.sweeps.boundary import Boundary, boundary
from labctl.sweeps.catalogue import sweep_named
from labctl.sweeps.field import value_of
from labctl.sweeps.sweep import Sweep
from labctl.sweeps.values import written

from .result import Result
from .rows import UNSTABLE, Row, Rows

FrozenPoint = tuple[tuple[str, str], ...]
"""Fields and their values, as overrides write them."""


@dataclass(frozen=True)
class PointRow(Row):
    """The row of a point, which also says what its P(stable) does not stand for."""

    @classmethod
    def of(cls, row: Row, sweep: str) -> PointRow:
        known = {field.name: getattr(row, field.name) for field in fields(row)}
        return cls(**{**known, "sweep": sweep})

    def notes(self) -> Iterator[str]:
        yield from super().notes()
        yield from untried(self.results.values())


@dataclass(frozen=True, slots=True)
class Swept:
    """A sweep, and the rows of its points in order of the values."""

    sweep: Sweep
    rows: tuple[tuple[FrozenPoint, Row], ...]
    edition: str = ""
    """The bundle, if all rows were published in it before the recipe changed."""

    @property
    def labelled(self) -> list[tuple[str, Row]]:
        """Each row with `beta 0.2`, by the last part of each field's name."""
        return [
            (", ".join(f"{name.rpartition('.')[2]} {text}" for name, text in point), row)
            for point, row in self.rows
        ]

    @property
    def along(self) -> list[tuple[str, Row]]:
        """Each row with its value, of a sweep over one field; without what was published before
        the recipe changed, which is other work."""
        return [(p[0][1], row) for p, row in self.rows if row.edition == self.edition]

    @property
    def pairs(self) -> list[tuple[tuple[str, str], Row]]:
        """Each row that the sweep itself names with its values, of a sweep over two fields."""
        planned = set(_planned(self.sweep))
        return [
            ((point[0][1], point[1][1]), row)
            for point, row in self.rows
            if row.edition == self.edition and point in planned
        ]

    @property
    def editions(self) -> list[Swept]:
        """What the sweep's claims are judged by: the sweep, or if it has no answer as it is now,
        what was published before the recipe changed, of each bundle by itself."""
        names = dict.fromkeys(row.edition for _, row in self.rows if row.edition)
        if not names or any(row.is_begun for _, row in self.rows if not row.edition):
            return [self]
        return [replace(self, edition=name) for name in names]


def swept(rows: Rows, name: str) -> Swept:
    """The points that the sweep names, and those that were trained besides.

    Raises:
        UsageError, RecipeError: no such sweep, a faulty one, or one that only searches.
    """
    sweep = sweep_named(rows.project, rows.registry, name, rows.preset)
    if not sweep.fields:
        hint = f"labctl sweep {name} --search --dry-run lists what a search has tried"
        raise UsageError(f"sweep {name} has no axes, so no points to show", hint=hint)
    return rows_of(rows, sweep)


def rows_of(rows: Rows, sweep: Sweep) -> Swept:
    """As `swept`, of a sweep that was read already."""
    planned = set(_planned(sweep))
    found = []
    for point, seeds in _points(rows, sweep).items():
        recipe = sweep.at(rows.project, rows.registry, dict(point), seeds)
        found += [
            (point, PointRow.of(row, _arguments(sweep, point, row, point in planned)))
            for row in (_without_other_work(row, sweep) for row in rows.at(recipe))
            if point in planned or row.edition or row.is_begun
        ]
    return Swept(sweep, tuple(found))


def trials_of(found: Swept) -> list[Trial]:
    """What the runs of a sweep over one number say of stability.

    Raises:
        UsageError: a value is no number.
    """
    for text, _ in found.along:
        if _rank(text)[0]:
            (field,) = found.sweep.fields
            raise UsageError(
                f"{field}={text} is no number, so {found.sweep.name} has no side below or above it",
                hint="boundaries and thresholds are of sweeps over numbers",
            )
    return [
        Trial(Decimal(text), seed, is_stable)
        for text, row in found.along
        for seeds, is_stable in ((row.results, True), (row.seeds(*UNSTABLE), False))
        for seed in seeds
    ]


def boundary_of(found: Swept) -> Boundary:
    """Where the runs of a sweep stop being stable, as far as they show it."""
    config = found.sweep.config.boundary
    assert config is not None, "asked of sweeps that have one"
    results = [result for _, row in found.along for result in row.results.values()]
    return boundary(config, found.sweep.seeds, trials_of(found), tuple(untried(results)))


def untried(results: Iterable[Result]) -> Iterator[str]:
    """A sentence for every stop rule that was not tried in some of these runs, which came to their
    end: that they are stable says nothing of the rule."""
    asked = Counter[str]()
    lacking = Counter[tuple[str, str, str]]()
    for result in results:
        measures = {part["name"] for part in result.plan.get("measures", ())}
        # Stop rules do not hear of measurements, which are taken when all is over.
        heard = {name for name in result.metrics if name.partition("/")[0] not in measures}
        for name, text in result.work.get("stop", {}).items():
            asked[name] += 1
            rule = Predicate.parse(text)
            if missing := rule.metrics - heard:
                how = "tried in part only" if rule.is_tried_by(heard) else "never tried"
                lacking[name, how, ", ".join(sorted(missing))] += 1
    for (name, how, metrics), count in sorted(lacking.items()):
        runs = f"{count} of {asked[name]} runs"
        yield f"rule {name} was {how} in {runs}: no {metrics} was journalled"


def _points(rows: Rows, sweep: Sweep) -> dict[FrozenPoint, list[int]]:
    """Every point in order of its values, each with its seeds: what the sweep names, and what was
    tried besides."""
    found: dict[FrozenPoint, set[int]] = {point: set(sweep.seeds) for point in _planned(sweep)}
    for values, seed in rows.tried(sweep.config.recipe, frozenset(sweep.fields)):
        point = tuple((name, _text(values[name])) for name in sweep.fields)
        found.setdefault(point, set()).add(seed)
    if sweep.tree is None and (seeds := _tried_itself(rows, sweep)):
        recipe = rows.of(sweep.config.recipe)[0].recipe
        own = tuple((name, _text(value_of(recipe, name))) for name in sweep.fields)
        found.setdefault(own, set()).update(seeds)
    ordered = sorted(found, key=lambda point: [_rank(text) for _, text in point])
    return {point: sorted(found[point]) for point in ordered}


def _tried_itself(rows: Rows, sweep: Sweep) -> set[int]:
    """Seeds of the recipe as it is, whose runs carry no point."""
    found = rows.of(sweep.config.recipe)
    begun = {seed for row in found for seed, gone in row.absent.items() if gone.status}
    return begun.union(*(row.results for row in found))


def _planned(sweep: Sweep) -> Iterator[FrozenPoint]:
    """The points that the sweep names, their values written as those of plans are."""
    for point in sweep.points():
        values = {name: parse_value(text, Mark(text)).plain() for name, text in point.items()}
        yield tuple((name, _text(value)) for name, value in values.items())


def _without_other_work(row: Row, sweep: Sweep) -> Row:
    """The row without seeds that only an earlier recipe was tried with."""
    kept = {seed: gone for seed, gone in row.absent.items() if gone.status or seed in sweep.seeds}
    return replace(row, absent=kept)


def _arguments(sweep: Sweep, point: FrozenPoint, row: Row, is_planned: bool) -> str:
    """What trains the row, after `labctl sweep`."""
    words = [sweep.name] if sweep.tree else [f"{sweep.fields[0]} --recipe {sweep.config.recipe}"]
    if not is_planned:
        words += [f"--values {name}={text}" for name, text in point]
    seeds = sorted({*row.results, *row.absent})
    if not set(seeds) <= set(sweep.seeds):
        words.append(f"--seeds {','.join(map(str, seeds))}{',' * (len(seeds) == 1)}")
    return " ".join(words)


def _text(value: Any) -> str:
    """A value of a plan as the sweep writes it."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number:
        return written(Decimal(repr(value)))
    return settings_of({"": value})[0].removeprefix("=")


def _rank(text: str) -> tuple[int, Decimal, str]:
    try:
        return 0, Decimal(text), ""
    except InvalidOperation:
        return 1, Decimal(0), text


def position(text: str) -> float | None:
    """Where a value stands on an axis of numbers; None if it is none."""
    value = parse_value(text, Mark("value")).plain()
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
