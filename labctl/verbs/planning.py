"""What a recipe comes to, before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from labctl.errors import UsageError
from labctl.plans.derive import plans
from labctl.plans.plan import Plan
from labctl.plans.sketch import KnobSketch, realised, sketches
from labctl.project import Project
from labctl.recipe.budget import Match
from labctl.recipe.recipe import Recipe
from labctl.recipe.recipe import load as load_recipe
from labctl.reports.number import text_of
from labctl.store.run import Run, all_runs, run_of
from labctl.store.status import Status

from .growing import joined
from .looks import in_html, table_of
from .opening import Where, opened

MOST_VALUES = 9
"""Values of a knob that are shown; of more, the first and last four."""


def load(
    recipe: str | Path, *overrides: str, preset: str | None = None, project: Where = None
) -> Recipe:
    """Read and check a recipe.

    Args:
        recipe: its name or path.
        overrides: `FIELD=VALUE`, as on the command line.
        preset: of the recipe, such as smoke.
        project: the project or its folder; the working folder if not given.

    Raises:
        UsageError: no such recipe or preset.
        RecipeError: with every fault of it, each with its place.
    """
    return load_recipe(*opened(project), str(recipe), preset, overrides)


def plan(
    recipe: Recipe | str | Path,
    *overrides: str,
    preset: str | None = None,
    project: Where = None,
) -> Planned:
    """What a recipe comes to: runs, schedules as realised, what is done.

    Args:
        recipe: one that was loaded, whose overrides and preset are its own; or as for `load`.

    Raises:
        UsageError, RecipeError: as `load`, or a structural knob cannot follow its schedule; a
            loaded recipe comes with overrides or a preset.
    """
    found, _ = opened(project)
    if not isinstance(recipe, Recipe):
        recipe = load(recipe, *overrides, preset=preset, project=found)
    elif overrides or preset:
        raise told_too_late(recipe)
    return Planned(found, recipe, (*plans(recipe), *joined(found, recipe)))


def told_too_late(recipe: Recipe) -> UsageError:
    """What overrides or a preset of a loaded recipe are: it has its own already."""
    return UsageError(
        f"{recipe.label} is loaded already: overrides and a preset come too late for it",
        hint=f'labctl.load("{recipe.name}", "FIELD=VALUE", preset=...)',
    )


@dataclass(frozen=True, slots=True, repr=False)
class Planned:
    """A recipe with a plan for each of its seeds, those that joined among them."""

    project: Project
    recipe: Recipe
    plans: tuple[Plan, ...]

    @property
    def runs(self) -> list[Run]:
        """Where each plan's run lies, begun or not."""
        return [run_of(self.project, plan) for plan in self.plans]

    def __repr__(self) -> str:
        return f"<plan of {self.recipe.label}: {len(self.plans)} runs>"

    def __rich__(self) -> RenderableType:
        return Group(*self._parts())

    def _repr_html_(self) -> str:
        return in_html(self)

    def _parts(self) -> Iterator[RenderableType]:
        document, first = self.recipe.document, self.plans[0]
        work = first.work
        yield Text.assemble((self.recipe.label, "bold"), f"  {document.title}")
        epochs = work.steps / work.steps_per_epoch
        yield (
            f"  {work.architecture.name} on {work.data.name}: {work.steps:,} steps = {epochs:g} "
            f"epochs of {work.steps_per_epoch} x {work.batch_size}, {work.numerics}"
        )
        if isinstance(document.budget, Match):
            yield f"  a budget that matches {document.budget}"
        yield _schedules(sketches(self.recipe, first))
        phases = realised(self.recipe, first)
        if phases[0][2]:
            yield _phases(phases, work.steps_per_epoch)
        table = table_of("seed", "key", "status", "folder")
        pairs = list(zip(self.plans, self.runs, strict=True))
        for plan, run in pairs:
            folder = self.project.shown(run.folder)
            table.add_row(str(plan.work.seed), plan.key, str(run.status), folder)
        yield table
        yield from self._asides(pairs)
        if rule := document.growing:
            yield f"  up to {rule.max} seeds, until {rule.until} ({rule.metric})"

    def _asides(self, pairs: Sequence[tuple[Plan, Run]]) -> Iterator[str]:
        """What `DONE` and `PENDING` do not say."""
        done = [(plan, run) for plan, run in pairs if run.status is Status.DONE]
        if parts := dict.fromkeys(part.name for plan, run in done for part in run.unmeasured(plan)):
            yield f"  trained, and to be measured: {', '.join(parts)}"
        keys = {plan.key for plan, run in pairs if not run.is_begun}
        if keys:
            runs = (run for run in all_runs(self.project) if run.plan.key in keys)
            if names := [run.plan.name for run in runs if run.status is Status.DONE]:
                yield f"  the same work is done as {', '.join(names)}; as this it is trained again"


def _schedules(found: Sequence[KnobSketch]) -> Table:
    table = table_of("knob", "kind", "over training", "value from step")
    for sketch in found:
        texts = [f"{text_of(value)} @{step}" for step, value in sketch.values]
        if len(texts) > MOST_VALUES:
            texts = [*texts[:4], f"... {texts[-4]}", *texts[-3:]]
        table.add_row(sketch.name, sketch.kind, sketch.line, "  ".join(texts))
    return table


def _phases(phases: Sequence[tuple[int, int, dict[str, float]]], per_epoch: int) -> Table:
    """What the structural knobs come to; `name1`, `name2`, ... share a column."""
    table = table_of("epochs", *_series(phases[0][2]))
    for start, end, values in phases:
        table.add_row(f"{start / per_epoch:g} to {end / per_epoch:g}", *_series(values).values())
    return table


def _series(values: dict[str, float]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in values.items():
        stem = name.rstrip("0123456789")
        joined[stem] = f"{joined[stem]} {text_of(value)}" if stem in joined else text_of(value)
    return joined
