"""A table as its author writes it, `recipes/tables/<name>.yaml`: rows, columns, a baseline."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from labctl.errors import RecipeError, UsageError, did_you_mean
from labctl.project import Project, is_file
from labctl.recipe.catalogue import listed, presets_of, tags_of
from labctl.recipe.check import Check
from labctl.recipe.claim import better
from labctl.recipe.layers import NOTHING
from labctl.recipe.source import Node, read
from labctl.registry.config import Config
from labctl.sweeps.catalogue import is_sweep, sweeps

_EXAMPLE = "for example `columns: [{kind: metric, metric: test/acc}, {kind: speedup}]`"
_PICKED = re.compile(r"at\((max|min) (\S+)\)")


@dataclass(frozen=True, slots=True)
class Pick:
    """The evaluation at which a metric is largest or smallest, the first of several equal ones."""

    extreme: str
    """`max` or `min`."""
    metric: str

    @property
    def is_on_test(self) -> bool:
        """Whether the test set picks what it is to judge."""
        return self.metric.startswith("test/")


class MetricColumn(Config):
    """Mean and spread of a metric over seeds."""

    kind: Literal["metric"] = "metric"
    metric: str
    """Name in the journal, such as `test/acc`; names that end in `acc` are shown in percent."""
    label: str = ""
    allow_test_selection: bool = False
    """Let a metric of the test set pick what counts; a footnote says so."""
    summary: str = "last"
    """Which value of a run counts: `last`, `best`, or `at(max val/acc)`."""
    digits: int = Field(default=2, ge=0, le=8)
    """Digits after the point."""

    @field_validator("summary")
    @classmethod
    def _selects_on_validation(cls, summary: str, info: ValidationInfo) -> str:
        metric = info.data.get("metric", "")
        pick = _pick(summary, metric)
        if summary == "last" or (pick and pick.metric.startswith("val/")):
            return summary
        if pick and pick.is_on_test:
            if info.data.get("allow_test_selection"):
                return summary
            raise ValueError(
                f"picking the evaluation by {pick.metric} reports the luckiest one on the test "
                "set; carve a validation part (data.val) and write at(max val/acc), use last, or "
                "say `allow_test_selection: true`, which a footnote repeats"
            )
        if summary == "best" and better(metric) is None:
            picks = metric if metric.startswith("val/") else "val/METRIC"
            raise ValueError(
                f"is a higher {metric} better, or a lower one? write at(max {picks}) or "
                f"at(min {picks})"
            )
        raise ValueError(
            f"{summary!r} should be last, best, at(max val/METRIC) or at(min val/METRIC)"
        )

    @property
    def pick(self) -> Pick | None:
        """The evaluation that counts; None for the last."""
        return _pick(self.summary, self.metric)


def _pick(summary: str, metric: str) -> Pick | None:
    if summary == "best":
        extreme = {"higher": "max", "lower": "min"}.get(better(metric) or "")
        return Pick(extreme, metric) if extreme else None
    found = _PICKED.fullmatch(summary)
    return Pick(found[1], found[2]) if found else None


class GapColumn(Config):
    """Accuracy on clean training examples minus test accuracy, in points."""

    kind: Literal["gap"] = "gap"
    label: str = "Train-test gap (points)"
    digits: int = Field(default=2, ge=0, le=8)


class TimeColumn(Config):
    """Time of training per run."""

    kind: Literal["time"] = "time"
    label: str = ""
    wall: bool = False
    """All time between beginning and end, instead of the steps alone."""

    @property
    def quantity(self) -> str:
        return "wall" if self.wall else "time"


class DeviceTimeColumn(Config):
    """Time for which the row's runs had the device, all seeds together."""

    kind: Literal["device_time"] = "device_time"
    label: str = "Device time"


class EnergyColumn(Config):
    """Energy that the device drew for the row's runs, all seeds together."""

    kind: Literal["energy"] = "energy"
    label: str = "Energy"


class SpeedupColumn(Config):
    """Training time of the baseline over that of the row, beside what the FLOPs allow."""

    kind: Literal["speedup"] = "speedup"
    label: str = "Speed-up"


class FlopsColumn(Config):
    """FLOPs that training executed."""

    kind: Literal["flops"] = "flops"
    label: str = "Training FLOPs"


class ParametersColumn(Config):
    """Parameters of the model."""

    kind: Literal["parameters"] = "parameters"
    label: str = "Parameters"


class TokensColumn(Config):
    """Tokens alive in a block, as realised: mean over blocks and steps."""

    kind: Literal["tokens"] = "tokens"
    label: str = "Mean tokens"


class StableColumn(Config):
    """Share of the runs that came to their end, of those that have an answer."""

    kind: Literal["stable"] = "stable"
    label: str = "P(stable)"


class VerdictColumn(Config):
    """What became of the claims of the row's recipe."""

    kind: Literal["verdict"] = "verdict"
    label: str = "Claims"


ColumnConfig = (
    MetricColumn
    | GapColumn
    | TimeColumn
    | DeviceTimeColumn
    | EnergyColumn
    | SpeedupColumn
    | FlopsColumn
    | ParametersColumn
    | TokensColumn
    | StableColumn
    | VerdictColumn
)
KINDS: Mapping[str, type[ColumnConfig]] = {
    "metric": MetricColumn,
    "gap": GapColumn,
    "time": TimeColumn,
    "device_time": DeviceTimeColumn,
    "energy": EnergyColumn,
    "speedup": SpeedupColumn,
    "flops": FlopsColumn,
    "parameters": ParametersColumn,
    "tokens": TokensColumn,
    "stable": StableColumn,
    "verdict": VerdictColumn,
}


OF_SWEEP: tuple[ColumnConfig, ...] = (MetricColumn(metric="test/acc"), StableColumn())
"""Columns of a sweep that names none."""


class RowConfig(Config):
    """A recipe to show, every recipe with a tag, or every point of a sweep."""

    recipe: str | None = None
    sweep: str | None = None
    tag: str | None = None
    label: str = ""
    """Its name if not given; before the points of a sweep and the names of recipes with a tag."""

    @model_validator(mode="after")
    def _check_what(self) -> Self:
        if sum(given is not None for given in (self.recipe, self.sweep, self.tag)) != 1:
            raise ValueError("a row shows a recipe, a sweep or a tag: give it one of the three")
        return self


class Table(Config):
    """Rows and columns of a report."""

    title: str = ""
    baseline: str | None = None
    """The recipe that speed-ups are measured against."""
    rows: tuple[RowConfig, ...] = Field(min_length=1)
    columns: tuple[Annotated[ColumnConfig, Field(discriminator="kind")], ...] = ()


@dataclass(frozen=True, slots=True)
class TableFile:
    """A table with the file that it was read from."""

    name: str
    table: Table
    """Its tags replaced by the recipes that have them."""
    tree: Node
    written: tuple[int, ...]
    """Of each row, which of those in the file it stands for."""

    def place(self, *path: str | int) -> str:
        """`file:line:column` of a part of the table."""
        return str(self.tree.place(path))


def load_table(project: Project, name: str, preset: str | None = None) -> TableFile:
    """Read and check a table by its name in `recipes/tables/`, or by path.

    Of recipes with a tag those without the preset, if one is given, are left out.

    Raises:
        UsageError: no such table.
        RecipeError: with every problem of the file, each with line and column.
    """
    path = _located(project, name)
    if path is None:
        return _of_sweep(project, name)
    tree = read(path, project.shown(path))
    check = Check(tree, "the table")
    columns = _columns(check)
    entries = tree.value if isinstance(tree.value, dict) else {}
    others = {name: node.plain() for name, node in entries.items() if name != "columns"}
    frame = check.model(Table, others, ())
    if check.problems or frame is None:
        raise RecipeError(check.in_order)
    rows = [
        (place, row)
        for place, config in enumerate(frame.rows)
        for row in _recipes_of(project, config, preset, check, place)
    ]
    if check.problems:
        raise RecipeError(check.in_order)
    changed = {"columns": tuple(columns), "rows": tuple(row for _, row in rows)}
    written = tuple(place for place, _ in rows)
    return TableFile(path.stem, frame.model_copy(update=changed), tree, written)


def _recipes_of(
    project: Project, config: RowConfig, preset: str | None, check: Check, place: int
) -> list[RowConfig]:
    """A row for each recipe with the tag of a row, by name; any other row as it is."""
    if config.tag is None:
        return [config]
    tags = {
        file.name: tags_of(project, file)
        for file in listed(project).values()
        if preset is None or preset in presets_of(project, file)
    }
    found = [name for name, known in tags.items() if config.tag in known]
    if not found:
        hint = did_you_mean(config.tag, sorted({tag for known in tags.values() for tag in known}))
        named = f"no recipe is tagged {config.tag!r}"
        named += f" and has a preset {preset!r}" if preset else ""
        check.report(("rows", place, "tag"), named, hint)
    return [RowConfig(recipe=name, label=f"{config.label} {name}".strip()) for name in found]


def _of_sweep(project: Project, name: str) -> TableFile:
    """The table that a sweep is without anybody writing one: its points, and its own columns."""
    path = sweeps(project).get(name)
    tree = read(path, project.shown(path)) if path else NOTHING
    title = tree.get("title")
    check = Check(tree, "the sweep")
    columns = _columns(check) if tree.get("columns") else list(OF_SWEEP)
    if check.problems:
        raise RecipeError(check.in_order)
    table = Table(
        title=str(title.value) if title else "",
        rows=(RowConfig(sweep=name),),
        columns=tuple(columns),
    )
    return TableFile(name, table, tree, (0,))


def _located(project: Project, name: str) -> Path | None:
    """The file of a table; None for the name of a sweep."""
    tables = listed(project, "tables")
    known = {full.removeprefix("tables/"): file.path for full, file in tables.items()}
    if name in known:
        return known[name]
    for candidate in (Path(name), project.root / name):
        if candidate.suffix in (".yaml", ".yml") and is_file(candidate):
            return candidate
    if is_sweep(project, name):
        return None
    raise UsageError(f"no table {name!r}", hint=did_you_mean(name, [*known, *sweeps(project)]))


def _columns(check: Check) -> list[ColumnConfig]:
    """Every column validated by the config of its kind."""
    entries = check.tree.get("columns")
    if entries is None or not isinstance(entries.value, list) or not entries.value:
        check.report(("columns",), "columns should be a list of at least one column", _EXAMPLE)
        return []
    columns = []
    for place, entry in enumerate(entries.value):
        kind = entry.get("kind")
        if kind is None:
            check.report(("columns", place), f"columns.{place}.kind is missing", _EXAMPLE)
        elif str(kind.value) not in KINDS:
            hint = did_you_mean(str(kind.value), KINDS)
            check.report(("columns", place, "kind"), f"no kind of column {kind.value!r}", hint)
        elif kind.value == "speedup" and check.tree.get("baseline") is None:
            message = "a speed-up over what? the table names no baseline"
            check.report(("columns", place), message, "add `baseline: RECIPE`")
        elif column := check.model(KINDS[str(kind.value)], entry.plain(), ("columns", place)):
            columns.append(column)
    return columns


def recipes_of(project: Project, name: str, preset: str | None = None) -> list[str]:
    """The recipes that a table shows and its baseline, in order, each once; its sweeps aside.

    Raises:
        UsageError: no such table.
        RecipeError: the table is faulty.
    """
    table = load_table(project, name, preset).table
    names = [row.recipe for row in table.rows if row.recipe is not None]
    return list(dict.fromkeys([*names, table.baseline] if table.baseline else names))
