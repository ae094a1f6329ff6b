"""Costs, runs and lists as a terminal shows them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from labctl.execute.duration import lasting
from labctl.reports.number import flops_of, text_of
from labctl.verbs.looks import WIDTH, table_of

if TYPE_CHECKING:
    from labctl.project import Project
    from labctl.reports.power import Power
    from labctl.store.run import Run

_terminal = Console()
console = Console(
    highlight=False,
    emoji=False,
    markup=False,
    soft_wrap=True,
    width=None if _terminal.is_terminal or "COLUMNS" in os.environ else WIDTH,
)


def print_rows(rows: list[dict[str, Any]]) -> None:
    """A list of like records, a column per field."""
    if not rows:
        console.print("none")
        return
    table = table_of(*rows[0])
    for row in rows:
        table.add_row(*(text_of(value) for value in row.values()))
    console.print(table)


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
    from labctl.reports.quantity import in_order

    plan, journal, end = run.plan, run.journal, run.end or {}
    console.print(Text.assemble((plan.name, "bold"), f"  {run.status}"))
    console.print(
        f"  key {plan.key}   group {plan.group}   attempts {journal.attempts}"
        f"   {project.shown(run.folder)}"
    )
    if end.get("message"):
        console.print(f"  {end['message']}")
    git = run.provenance.get("git", {})
    if git:
        dirty = " with changes (code.patch)" if git.get("is_dirty") else ""
        console.print(f"  commit {git.get('commit', '')[:12]}{dirty}")
    begins = [begin.fields for begin in journal.of("begin") if "device" in begin.fields]
    if begins:
        facts = begins[-1]
        console.print(
            f"  {facts.get('device_name', facts.get('device'))}   torch {facts.get('torch')}"
        )
    table = table_of("metric", "last", "at step", "best", "at step")
    for name in sorted(journal.curves, key=in_order):
        curve = journal.curves[name]
        if name.startswith("knob/"):
            continue
        last = max(curve)
        table.add_row(name, text_of(curve[last]), str(last), *_best(name, curve))
    if table.row_count:
        console.print(table)
    for fault in journal.damage:
        console.print(f"  journal damaged: {fault}")


def _best(name: str, curve: Mapping[int, float]) -> tuple[str, str]:
    """The best value of a metric and its step, as text; empty where none is chosen: on the test
    set, and where no direction is the better one."""
    from labctl.recipe.claim import better

    direction = better(name)
    if direction is None or name.startswith("test/"):
        return "", ""
    step = (max if direction == "higher" else min)(curve, key=lambda step: curve[step])
    return text_of(curve[step]), str(step)
