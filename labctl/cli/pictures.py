"""Plans, runs and lists as a terminal shows them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from labctl.execute.duration import lasting
from labctl.plans.plan import Plan
from labctl.plans.sketch import realised, sketches
from labctl.project import Project
from labctl.recipe.budget import Match
from labctl.recipe.recipe import Recipe
from labctl.store.run import Run, run_of

if TYPE_CHECKING:
    from labctl.reports.power import Power

WIDTH = 120
"""Columns where there is no terminal to ask, as in a pipe."""
UNBROKEN = (
    "over training", "run", "name", "key", "knobs", "field", "environment", "result",
)  # fmt: skip
"""Columns that are no use in pieces."""

_terminal = Console()
console = Console(
    highlight=False,
    emoji=False,
    soft_wrap=True,
    width=None if _terminal.is_terminal or "COLUMNS" in os.environ else WIDTH,
)


def table_of(*columns: str, is_tight: bool = False) -> Table:
    """An empty table; `is_tight` if its columns are many, whose words then stay whole."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=is_tight)
    for column in columns:
        least = max(map(len, column.split())) if is_tight else None
        table.add_column(column, overflow="fold", no_wrap=column in UNBROKEN, min_width=least)
    return table


def text_of(value: Any) -> str:
    """A value in four digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)


def rate_of(flops_per_second: float) -> str:
    """`1.25 TFLOP/s`."""
    return f"{flops_of(flops_per_second)}/s"


def flops_of(count: float) -> str:
    """`763.8 GFLOP`."""
    for unit in ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP"):
        if count < 1000:
            return f"{count:.4g} {unit}"
        count /= 1000
    return f"{count:.4g} EFLOP"


def print_rows(rows: list[dict[str, Any]]) -> None:
    """A list of like records, a column per field."""
    if not rows:
        console.print("none")
        return
    table = table_of(*rows[0])
    for row in rows:
        table.add_row(*(text_of(value) for value in row.values()))
    console.print(table)


def print_plan(project: Project, recipe: Recipe, plans: tuple[Plan, ...]) -> None:
    """Runs, data, schedules and phases of a recipe."""
    work = plans[0].work
    console.print(f"[bold]{recipe.label}[/]  {recipe.document.title}", markup=True)
    epochs = work.steps / work.steps_per_epoch
    console.print(
        f"  {work.architecture.name} on {work.data.name}: {work.steps:,} steps = "
        f"{epochs:g} epochs of "
        f"{work.steps_per_epoch} x {work.batch_size}, {work.numerics}"
    )
    if isinstance(recipe.document.budget, Match):
        console.print(f"  a budget that matches {recipe.document.budget}")
    table = table_of("knob", "kind", "over training", "value from step")
    for sketch in sketches(recipe, plans[0]):
        shown = (
            sketch.values if len(sketch.values) <= 9 else (*sketch.values[:4], *sketch.values[-4:])
        )
        values = ["..." if i == 4 and len(sketch.values) > 9 else "" for i in range(len(shown))]
        text = "  ".join(
            f"{gap + ' ' if gap else ''}{text_of(v)} @{s}"
            for gap, (s, v) in zip(values, shown, strict=True)
        )
        table.add_row(sketch.name, sketch.kind, sketch.line, text)
    console.print(table)
    _print_phases(recipe, plans[0])
    runs = table_of("seed", "key", "status", "folder")
    for plan in plans:
        run = run_of(project, plan)
        runs.add_row(str(plan.work.seed), plan.key, str(run.status), project.shown(run.folder))
    console.print(runs)
    if rule := recipe.document.growing:
        console.print(f"  up to {rule.max} seeds, until {rule.until} ({rule.metric})")


def _print_phases(recipe: Recipe, plan: Plan) -> None:
    """What the structural knobs come to; `name1`, `name2`, ... share a column."""
    phases = realised(recipe, plan)
    if not phases[0][2]:
        return
    per_epoch = plan.work.steps_per_epoch
    table = table_of("epochs", *_series(phases[0][2]))
    for start, end, values in phases:
        table.add_row(f"{start / per_epoch:g} to {end / per_epoch:g}", *_series(values).values())
    console.print(table)


def _series(values: dict[str, float]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in values.items():
        stem = name.rstrip("0123456789")
        joined[stem] = f"{joined[stem]} {text_of(value)}" if stem in joined else text_of(value)
    return joined


def print_cost(cost: dict[str, Any]) -> None:
    """Parameters, FLOPs by phase, and how long it may take."""
    ledger = cost["ledger"]
    console.print(
        f"parameters {ledger['parameters']:,}   "
        f"forward {flops_of(ledger['forward_flops'])} an example"
    )
    fvcore = ledger["fvcore"]
    if "total" in fvcore:
        console.print(
            f"fvcore {fvcore['total']:,} ({fvcore['convention'].removeprefix('fvcore: ')})"
        )
    else:
        console.print(f"fvcore: {fvcore['missing']}")
    table = table_of("steps", "structural knobs", "a step", "share of the run")
    for phase in ledger["phases"]:
        total = phase["step_flops"] * (phase["end"] - phase["start"])
        knobs = "  ".join(f"{name} {text_of(value)}" for name, value in phase["structural"].items())
        table.add_row(
            f"{phase['start']} to {phase['end']}",
            knobs,
            flops_of(phase["step_flops"]),
            f"{total / max(1, ledger['train_flops']):.1%}",
        )
    console.print(table)
    console.print(f"training executes {flops_of(ledger['train_flops'])} a seed")
    if ledger["uncounted"]:
        console.print(f"not counted: {', '.join(ledger['uncounted'])}")
    for estimate in cost["estimates"]:
        console.print(
            f"{lasting(estimate['seconds'])} a seed on {estimate['device']} ({estimate['basis']})"
        )


def print_power(power: Power) -> None:
    """What so many seeds can show, a line each."""
    known = [f"{one.claim} ({one.spread})" for one in power.known]
    table = table_of("seeds", "shows from", *known)
    for seeds, in_sds in zip(power.seeds, power.in_sds, strict=True):
        texts = (f"{in_sds * one.sd:.2g}{one.unit}" for one in power.known)
        table.add_row(str(seeds), f"{in_sds:.2f} sd", *texts)
    console.print(table)
    console.print(power.footnote)


def print_run(project: Project, run: Run) -> None:
    """A run in full."""
    plan, journal, end = run.plan, run.journal, run.end or {}
    console.print(f"[bold]{plan.name}[/]  {run.status}", markup=True)
    console.print(
        f"  key {plan.key}   group {plan.group}   attempts {journal.attempts}"
        f"   {project.shown(run.folder)}"
    )
    if end.get("message"):
        console.print(f"  {end['message']}", markup=False)
    git = run.provenance.get("git", {})
    if git:
        dirty = " with changes (code.patch)" if git.get("is_dirty") else ""
        console.print(f"  commit {git.get('commit', '')[:12]}{dirty}")
    begins = list(journal.of("begin"))
    if begins:
        facts = begins[-1].fields
        console.print(
            f"  {facts.get('device_name', facts.get('device'))}   torch {facts.get('torch')}"
        )
    table = table_of("metric", "last", "at step", "best", "at step")
    for name, curve in sorted(journal.curves.items()):
        if name.startswith("knob/"):
            continue
        last = max(curve)
        best = (min if "loss" in name else max)(curve, key=lambda step: curve[step])
        table.add_row(name, text_of(curve[last]), str(last), text_of(curve[best]), str(best))
    if table.row_count:
        console.print(table)
    for fault in journal.damage:
        console.print(f"  journal damaged: {fault}")
