"""A sweep: a recipe, the fields that differ from point to point, and the values they take.

It lies in `recipes/sweeps/NAME.yaml`, or is made of a field and a recipe on the command line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from labctl.errors import RecipeError, UsageError, did_you_mean
from labctl.project import Project
from labctl.recipe.catalogue import listed
from labctl.recipe.check import Check
from labctl.recipe.claim import Sourced
from labctl.recipe.recipe import Recipe, load
from labctl.recipe.seeds import MOST_SEEDS, Growing, Seeds
from labctl.recipe.source import Node, read
from labctl.recipe.times import Interval
from labctl.registry.config import Config
from labctl.registry.registry import Registry

from .bisection import BoundaryConfig
from .field import ends_in, field_of, one_field, takes_integers
from .search import SearchConfig
from .values import Value, parse_values, written

Point = Mapping[str, str]
"""Values by dotted field, as overrides write them."""


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


class SweepConfig(Config):
    """A sweep as its author writes it."""

    title: str = ""
    recipe: str
    """What is swept: a recipe by name."""
    axes: dict[str, str | float | list[str | float | bool]] = {}
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


@dataclass(frozen=True, slots=True)
class Axis:
    """A field and the values that it takes."""

    field: str
    values: tuple[Value, ...]
    is_integer: bool = False
    """Whether the field takes whole numbers only."""


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


def load_sweep(project: Project, registry: Registry, name: str, preset: str | None = None) -> Sweep:
    """Read and check `recipes/sweeps/NAME.yaml`, or a file by its path.

    Raises:
        UsageError: no such sweep.
        RecipeError: a fault of the file or of its recipe, with place.
    """
    path = _located(project, name)
    tree = read(path, project.shown(path))
    check = Check(tree, "the sweep")
    config = check.model(SweepConfig, tree.plain())
    if config is None:
        raise RecipeError(check.in_order)
    recipe = _recipe(project, registry, config, preset, tree)
    axes: list[Axis] = []
    names: dict[str, str] = {}
    for given, values in config.axes.items():
        try:
            varied = field_of(recipe, given)
            if varied in names:
                raise one_field(names[varied], given, varied)
            names[varied] = given
            is_integer = takes_integers(recipe, varied)
            axes.append(Axis(varied, _values(values, config, is_integer), is_integer))
        except UsageError as error:
            check.report(("axes", given), error.message, error.hint)
        except ValueError as error:
            check.report(("axes", given), str(error))
    if config.boundary and [axis.is_integer for axis in axes] == [True]:
        try:
            config = config.model_copy(update={"boundary": config.boundary.of_integers()})
        except ValidationError as error:
            check.report(("boundary",), faults_of(error))
    if check.problems:
        raise RecipeError(check.in_order)
    seeds = config.seeds or recipe.document.first_seeds
    growing = None if config.seeds else recipe.document.growing
    return Sweep(path.stem, config, preset, tuple(axes), seeds, growing=growing, tree=tree)


def sweep_of_field(
    project: Project, registry: Registry, name: str, recipe: str, preset: str | None = None
) -> Sweep:
    """A sweep without a file: of one field of a recipe; its values are given by `with_values`.

    Raises:
        UsageError: no such recipe, or no such field.
    """
    loaded = load(project, registry, recipe, preset)
    found = field_of(loaded, name)
    config = SweepConfig(recipe=recipe, axes={found: []})
    short = found.rpartition(".")[2]
    if not found.startswith("schedules.") or [*ends_in(loaded, short)] != [found]:
        short = found
    seeds, growing = loaded.document.first_seeds, loaded.document.growing
    axes = (Axis(found, (), takes_integers(loaded, found)),)
    return Sweep(f"{loaded.name}.{short}", config, preset, axes, seeds, growing=growing)


def with_values(sweep: Sweep, recipe: Recipe, given: Sequence[str], is_zip: bool) -> Sweep:
    """The sweep with the values of the command line: `0.2:0.25` for its only field, or
    `FIELD=VALUES`, of its own fields or of others.

    Raises:
        UsageError: values that cannot be read, or whose field is not clear, or given twice.
    """
    combine: Literal["grid", "zip"] = "zip" if is_zip else sweep.config.combine
    config = sweep.config.model_copy(update={"combine": combine})
    axes = {axis.field: axis for axis in sweep.axes}
    texts: dict[str, str] = {}
    for text in given:
        name, equals, values = text.rpartition("=")
        if not equals and len(sweep.axes) != 1:
            names = ", ".join(sweep.fields) or "none"
            raise UsageError(
                f"--values {text}: of which field? The sweep has {names}",
                hint=f"--values {(sweep.fields or ('FIELD',))[0]}={text}",
            )
        path = field_of(recipe, name) if equals else sweep.fields[0]
        if path in texts:
            whole = ",".join(one.rpartition("=")[2] for one in (texts[path], text))
            raise UsageError(
                f"--values {texts[path]} and --values {text} are of one field, {path}",
                hint=f"write them as one list: --values {path}={whole}",
            )
        texts[path] = text
        is_integer = takes_integers(recipe, path)
        try:
            parsed = _values(values, config, is_integer)
        except ValueError as error:
            raise UsageError(f"--values {error}") from None
        axes[path] = Axis(path, parsed, is_integer)
    if not axes:
        raise UsageError(f"sweep {sweep.name} has no axes", hint="--search, or --values FIELD=1,2")
    empty = [axis.field for axis in axes.values() if not axis.values]
    if empty:
        raise UsageError(
            f"which values of {empty[0]}?", hint="--values 0.1:0.5:0.1, or --values 1,2,4"
        )
    refuse_replaced(sweep.fixed, [*axes])
    return replace(sweep, axes=tuple(axes.values()), config=config)


def faults_of(error: ValidationError) -> str:
    """What pydantic says, in a line."""
    return "; ".join(fault["msg"].removeprefix("Value error, ") for fault in error.errors())


def refuse_replaced(overrides: Sequence[str], varied: Sequence[str]) -> None:
    """Refuse overrides of a field that every point sets itself, and of the seeds.

    Raises:
        UsageError: one of them would count at no point.
    """
    for text in overrides:
        path = text.partition("=")[0].strip()
        if path == "seeds":
            raise UsageError(
                f"{text}: a sweep has its seeds by an option",
                hint="--seeds 5 for 0 to 4; --seeds 3,4",
            )
        for swept in varied:
            if f"{path}.".startswith(f"{swept}."):
                raise UsageError(
                    f"{text} would count at no point: {swept} is what varies",
                    hint="leave it out, or vary another field",
                )


def sweep_named(
    project: Project, registry: Registry, name: str, preset: str | None = None
) -> Sweep:
    """The sweep of a file, or `RECIPE.FIELD` for one that has none.

    Raises:
        UsageError, RecipeError: as `load_sweep`, `sweep_of_field`.
    """
    if name not in sweeps(project) and (parts := _recipe_and_field(project, name)):
        return sweep_of_field(project, registry, parts[1], parts[0], preset)
    return load_sweep(project, registry, name, preset)


def is_sweep(project: Project, name: str) -> bool:
    """Whether a sweep can be called so."""
    return name in sweeps(project) or _recipe_and_field(project, name) is not None


def _recipe_and_field(project: Project, name: str) -> tuple[str, str] | None:
    known = listed(project)
    dots = [place for place, sign in enumerate(name) if sign == "."]
    splits = ((name[:place], name[place + 1 :]) for place in reversed(dots))
    return next((parts for parts in splits if parts[0] in known and parts[1]), None)


def sweeps(project: Project) -> dict[str, Path]:
    """The sweeps of the project and the bundled ones, by name."""
    found = listed(project, "sweeps")
    return {name.removeprefix("sweeps/"): file.path for name, file in found.items()}


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds of the command line: `5` for 0 to 4, or a list `3,4`.

    Raises:
        UsageError: they cannot be read.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    is_count = len(parts) == 1 and "," not in text and parts[0].isdecimal()
    if is_count and 0 < int(parts[0]) <= MOST_SEEDS:
        return tuple(range(int(parts[0])))
    are_seeds = bool(parts) and all(part.isdecimal() for part in parts)
    if is_count or not are_seeds or len({*parts}) < len(parts):
        raise UsageError(
            f"--seeds {text!r} is no list of seeds", hint="--seeds 5 for 0 to 4; --seeds 3,4"
        )
    return tuple(map(int, parts))


def _values(
    values: str | float | list[str | float | bool], config: SweepConfig, is_integer: bool
) -> tuple[Value, ...]:
    step = None if config.step is None else Decimal(repr(config.step))
    if not isinstance(values, str):
        several = values if isinstance(values, list) else [values]
        values = ",".join(_plain(value) for value in several)
    may_repeat = config.combine == "zip"
    return parse_values(values, step, is_integer=is_integer, may_repeat=may_repeat)


def _plain(value: str | float | bool) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else repr(value)


def _recipe(
    project: Project, registry: Registry, config: SweepConfig, preset: str | None, tree: Node
) -> Recipe:
    try:
        return load(project, registry, config.recipe, preset)
    except UsageError as error:
        where = str(tree.place(("recipe",)))
        raise RecipeError(error.message, where=where, hint=error.hint) from None


def _located(project: Project, name: str) -> Path:
    known = sweeps(project)
    if name in known:
        return known[name]
    for candidate in (Path(name), project.root / name):
        if candidate.suffix in (".yaml", ".yml") and candidate.is_file():
            return candidate
    raise UsageError(
        f"no sweep {name!r}",
        hint=f"{did_you_mean(name, known)}; of a field without a file: "
        f"labctl sweep {name} --recipe RECIPE --values ...",
    )
