"""What a table or a claim can ask of a run: metrics of its journal, and what follows from it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from labctl.recipe.derived import is_accuracy

from .result import Result

GAP = ("train/clean/acc", "test/acc")
"""Accuracy on training examples without augmentation, and on the test set."""
CLOCKED = ("time", "wall", "device_time", "energy")
"""Quantities that a clock or a meter measured: comparable only between equal conditions."""
PLANNED = ("flops", "parameters", "tokens")
"""Quantities that the plan decides, the same for every seed."""


def axis_label(name: str) -> str:
    """`name` with its unit, as an axis or a column says it."""
    return f"{name} (%)" if is_accuracy(name) else name


def difference_unit(name: str) -> str:
    """Unit of a difference between two values of `name`, with a space before it."""
    if is_accuracy(name) or name == "gap":
        return " points"
    if name == "energy":
        return " J"
    return " s" if name in CLOCKED else ""


def value_of(result: Result, name: str) -> float | None:
    """The value of one run, accuracies in percent; None if it was not recorded."""
    match name:
        case "time":
            rate = result.seconds_per_step
            return None if rate is None else rate * result.steps
        case "wall":
            return result.wall_seconds
        case "device_time":
            return result.device_seconds
        case "energy":
            return result.joules
        case "gap":
            train, test = (value_of(result, metric) for metric in GAP)
            return None if train is None or test is None else train - test
        case "flops":
            flops = result.ledger.get("train_flops")
            return None if flops is None else float(flops)
        case "parameters":
            return None if result.parameters is None else float(result.parameters)
        case "tokens":
            return _mean_tokens(result)
        case _:
            value = result.metrics.get(name)
            return None if value is None else scaled(name, value)


def value_at(result: Result, name: str, pick: str, by: str) -> float | None:
    """The value of metric `name` at the evaluation where metric `by` was largest, or smallest.

    `pick` is `max` or `min`; the first of several equal ones counts. None if it was not evaluated
    then.
    """
    chooser, chosen = result.evaluations.get(by), result.evaluations.get(name)
    finite = [value for value in chooser.values if math.isfinite(value)] if chooser else []
    if chooser is None or chosen is None or not finite:
        return None
    best = max(finite) if pick == "max" else min(finite)
    value = chosen.at(chooser.steps[chooser.values.index(best)])
    return None if value is None else scaled(name, value)


def scaled(name: str, value: float) -> float:
    """A value as tables show it: accuracies in percent."""
    return 100 * value if is_accuracy(name) else value


def _mean_tokens(result: Result) -> float | None:
    known = [phase for phase in result.phases if "tokens_mean" in phase.realised]
    steps = sum(phase.end - phase.start for phase in known)
    if not steps or len(known) < len(result.phases):
        return None
    return sum(phase.realised["tokens_mean"] * (phase.end - phase.start) for phase in known) / steps


def absent(name: str, known: Iterable[str]) -> str | None:
    """What a metric is of, a measurement or a split, if nothing of that is known."""
    of = name.partition("/")[0]
    return None if any(other.partition("/")[0] == of for other in known) else of


def in_order(name: str) -> list[str | int]:
    """By this, names of metrics stand as people count: `t2` before `t16`."""
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)]
