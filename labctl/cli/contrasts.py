"""What a comparison found, as a terminal shows it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from labctl.reports.contrast import (
    Amount,
    Change,
    Code,
    Compared,
    Contrast,
    Measured,
    Parting,
    Point,
)
from labctl.reports.quantity import difference_unit, is_percent
from labctl.verbs.looks import table_of, text_of

from .pictures import console, flops_of

COMMIT = 12
"""Digits of a commit that are shown."""
MOST_POINTS = 6
"""Values of a knob that are shown; of more, the first and last."""


def print_contrast(found: Contrast) -> None:
    """A section for each kind of difference; what is alike is a line."""
    for letter, one in (("A", found.a), ("B", found.b)):
        console.print(f"[bold]{letter}[/]  {_named(one)}", markup=True)
    _print_changes("field", found.fields, "no field differs")
    rows = [(one.knob, _realised(one.a), _realised(one.b)) for one in found.schedules]
    _print_rows("knob", rows, "no schedule differs")
    _print_code(found.code)
    _print_changes("data", found.data, "the data are the same")
    if found.results:
        _print_changes("environment", found.environment, "the environment is the same")
        _print_results(found.results)
    for parting in found.partings:
        console.print(_told(parting), markup=False)
    for note in found.notes:
        console.print(note, markup=False)


def _named(one: Compared) -> str:
    if len(one.keys) == 1:
        ((seed, key),) = one.keys.items()
        status = one.statuses.get(seed)
        return f"{one.name}  {key}" + (f"  {status}" if status else "")
    seeds = ", ".join(one.keys)
    done = f"{len(one.statuses)} of {len(one.keys)} with a result"
    return f"{one.name}  seeds {seeds}  {done}"


def _print_changes(head: str, changes: Sequence[Change], alike: str) -> None:
    _print_rows(head, [(c.path, _value(c.a, c.path), _value(c.b, c.path)) for c in changes], alike)


def _print_rows(head: str, rows: Sequence[tuple[str, str, str]], alike: str) -> None:
    if not rows:
        console.print(alike)
        return
    table = table_of(head, "A", "B")
    for row in rows:
        table.add_row(*map(_plain, row))
    console.print(table)


def _plain(text: str) -> Any:
    from rich.text import Text

    return Text(text)


def _value(value: Any, path: str) -> str:
    if path == "commit" and isinstance(value, str):
        return value[:COMMIT]
    if value is None:
        return "-"
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return " and ".join(value) or "[]"
    return value if isinstance(value, str) else json.dumps(value)


def _realised(points: Sequence[Point]) -> str:
    shown = [f"{text_of(point.value)} @{point.step}" for point in points]
    if len(shown) > MOST_POINTS:
        shown = [*shown[:3], "...", *shown[-2:]]
    return "  ".join(shown) or "-"


def _print_code(code: Iterable[Code]) -> None:
    for one in code:
        if one.a and one.b and one.a != one.b:
            files = ", ".join(one.files) if one.is_known else "a bundle does not keep it"
            console.print(f"code of {one.plugin}: {one.a} -> {one.b}: {files}", markup=False)
        elif one.a == one.b:
            files = ", ".join(one.files)
            how = "only comments differ" if one.is_equal else "changed since it was planned"
            console.print(f"code of {one.plugin}: {how}: {files}", markup=False)
        else:
            side = "A" if one.a else "B"
            console.print(f"code of {one.plugin} takes part in {side} only", markup=False)
        if one.diff:
            console.print(one.diff, markup=False)


def _print_results(results: Sequence[Measured]) -> None:
    """Numbers of seeds stand over the columns where they are the same in all lines."""
    counts = [
        {one.a.n for one in results},
        {one.b.n for one in results},
        {one.difference.n for one in results if one.difference is not None},
    ]
    heads = [
        f"{name} (n={min(count)})" if len(count) == 1 and count != {1} else name
        for name, count in zip(("A", "B", "B - A"), counts, strict=True)
    ]
    are_told = [len(count) > 1 for count in counts]
    table = table_of("result", *heads)
    for column in table.columns[1:]:
        column.justify = "right"
    for one in results:
        amounts = (one.a, one.b, one.difference)
        table.add_row(
            _plain(f"{one.metric} (%)" if is_percent(one.metric) else one.metric),
            *(
                _amount(one.metric, amount, is_told)
                for amount, is_told in zip(amounts[:2], are_told, strict=False)
            ),
            _difference(one.metric, one.difference, are_told[2]),
        )
    console.print(table)


def _difference(metric: str, amount: Amount | None, is_told: bool) -> str:
    if amount is None:
        return "-"
    sign = "+" if amount.mean > 0 else ""
    return f"{sign}{_amount(metric, amount, is_told, difference_unit(metric))}"


def _amount(metric: str, amount: Amount, is_told: bool, unit: str = "") -> str:
    """Mean, spread where there is one, and the number of seeds if it is to be told."""
    spread = f" \u00b1 {_figure(metric, amount.sd)}" if amount.sd else ""
    count = f" (n={amount.n})" if is_told else ""
    return f"{_figure(metric, amount.mean)}{spread}{unit}{count}"


def _figure(metric: str, value: float) -> str:
    if metric == "flops":
        return f"-{flops_of(-value)}" if value < 0 else flops_of(value)
    if metric == "parameters":
        return f"{value:,.0f}"
    return f"{value:.2f}" if is_percent(metric) and math.isfinite(value) else text_of(value)


def _told(parting: Parting) -> str:
    a, b = parting.seeds
    seeds = f"seed {a}" if a == b else f"seeds {a} and {b}"
    if parting.step is None:
        return f"{seeds}: all {parting.compared} training losses that both kept are equal"
    what = "the loss" if parting.metric == "loss" else parting.metric
    return f"{seeds}: {what} differs first at step {parting.step}: {parting.a}, {parting.b}"
