"""What a comparison found, as tables and sentences, for whoever shows it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from labctl.recipe.derived import is_accuracy

from .contrast import Amount, Change, Code, Compared, Contrast, Measured, Parting, Point
from .items import Items
from .number import flops_of, text_of
from .quantity import difference_unit

COMMIT = 12
"""Digits of a commit that are shown."""
MOST_POINTS = 6
"""Values of a knob that are shown; of more, the first and last."""


@dataclass(frozen=True, slots=True)
class Section:
    """One kind of difference."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    alike: str
    """What is said where nothing differs."""
    are_figures: bool = False
    """Whether all columns but the first are to be set flush right."""


@dataclass(frozen=True, slots=True)
class Told:
    """A sentence, and lines of code that it is about."""

    text: str
    diff: str = ""


def sections(found: Contrast) -> Iterator[Section]:
    """Fields, schedules, data, environment and results, as far as they were compared."""
    yield _changed("Fields", "field", found.fields, "no field differs")
    knobs = tuple((one.knob, _realised(one.a), _realised(one.b)) for one in found.schedules)
    yield Section("Schedules", ("knob", "A", "B"), knobs, "no schedule differs")
    yield _changed("Data", "data", found.data, "the data are the same")
    if found.results:
        alike = "the environment is the same"
        yield _changed("Environment", "environment", found.environment, alike)
        yield _results(found.results)
    if found.items:
        yield _items(found.items)


def named(one: Compared) -> str:
    """A side with its key, or its seeds."""
    if len(one.keys) == 1:
        ((seed, key),) = one.keys.items()
        status = one.statuses.get(seed)
        return f"{one.name}  {key}" + (f"  {status}" if status else "")
    seeds = ", ".join(one.keys)
    done = f"{len(one.statuses)} of {len(one.keys)} with a result"
    return f"{one.name}  seeds {seeds}  {done}"


def of_code(found: Contrast) -> Iterator[Told]:
    """A sentence for each plugin whose code differs."""
    for one in found.code:
        yield Told(f"code of {one.plugin}{_code(one)}", one.diff)


def remarks(found: Contrast) -> Iterator[str]:
    """Where losses part, and what qualifies the rest."""
    yield from map(_parting, found.partings)
    if found.items:
        yield "over examples: of these very checkpoints on other examples, not of other seeds"
    yield from found.notes


def _code(one: Code) -> str:
    files = ", ".join(one.files)
    if one.a and one.b and one.a != one.b:
        known = files if one.is_known else "a bundle does not keep it"
        return f": {one.a} -> {one.b}: {known}"
    if one.a == one.b:
        how = "only comments differ" if one.is_equal else "changed since it was planned"
        return f": {how}: {files}"
    return f" takes part in {'A' if one.a else 'B'} only"


def _parting(parting: Parting) -> str:
    seeds = _seeds(parting.seeds)
    if parting.step is None:
        return f"{seeds}: all {parting.compared} training losses that both kept are equal"
    what = "the loss" if parting.metric == "loss" else parting.metric
    return f"{seeds}: {what} differs first at step {parting.step}: {parting.a}, {parting.b}"


def _changed(title: str, head: str, changes: Sequence[Change], alike: str) -> Section:
    rows = tuple((c.path, _value(c.a, c.path), _value(c.b, c.path)) for c in changes)
    return Section(title, (head, "A", "B"), rows, alike)


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


def _results(results: Sequence[Measured]) -> Section:
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
    in_a, in_b, in_both = (len(count) > 1 for count in counts)
    rows = tuple(
        (
            f"{one.metric} (%)" if is_accuracy(one.metric) else one.metric,
            _amount(one.metric, one.a, in_a),
            _amount(one.metric, one.b, in_b),
            _difference(one.metric, one.difference, in_both),
        )
        for one in results
    )
    return Section("Results", ("result", *heads), rows, "", are_figures=True)


def _items(found: Sequence[Items]) -> Section:
    """Example by example, of every pair of seeds."""
    heads = ("test examples", "right in A only", "right in B only", "B - A, 95 % over examples")
    rows = tuple(
        (
            f"{_seeds(one.seeds)}, n={one.n}",
            str(one.only_a),
            str(one.only_b),
            f"{one.difference:+.2f} ({one.low:+.2f} to {one.high:+.2f}) points",
        )
        for one in found
    )
    return Section("Examples", heads, rows, "", are_figures=True)


def _seeds(pair: tuple[int, int]) -> str:
    a, b = pair
    return f"seed {a}" if a == b else f"seeds {a} and {b}"


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
    return f"{value:.2f}" if is_accuracy(metric) and math.isfinite(value) else text_of(value)
