"""What stands in the way of judging claims, in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from labctl.errors import did_you_mean
from labctl.recipe.claim import AnyClaim, OrderingClaim
from labctl.recipe.derived import DERIVED
from labctl.recipe.seeds import listed_seeds

from .comparison import crowded, other_data, values
from .quantity import CLOCKED, PLANNED, absent
from .rows import UNSTABLE, Row

Others = Callable[[str], Row]
"""Finds the row of another recipe."""


def on_other_data(claim: AnyClaim, row: Row, other: Others) -> str:
    """Which of the rows were measured on other data than the first; empty if none was."""
    if set(claim.metrics.values()) <= {*PLANNED}:
        return ""
    first, *others = _compared(claim, row, other)
    strangers = (
        f"{one.recipe.label} is {why}" for one in others if (why := other_data(one, first))
    )
    return next(strangers, "")


def caveat(claim: AnyClaim, row: Row, other: Others) -> str:
    """Which seeds a claim is judged without because they did not come to their end, and whether
    times that it is about were taken while others trained."""
    metrics = {*claim.metrics.values()}
    if metrics <= {*PLANNED}:
        return ""
    rows = _compared(claim, row, other)
    left_out = {
        f"{one.recipe.label} {listed_seeds(seeds)} ({status.lower()})": None
        for one in rows
        for status in UNSTABLE
        if (seeds := one.seeds(status))
    }
    uncounted = f"not counted: {', '.join(left_out)}" if left_out else ""
    return "; ".join(filter(None, [uncounted, crowded(rows) if metrics & {*CLOCKED} else ""]))


def _compared(claim: AnyClaim, row: Row, other: Others) -> list[Row]:
    """The rows whose figures a claim is about."""
    rows = [] if isinstance(claim, OrderingClaim) else [row]
    return rows + [other(recipe) for recipe in claim.recipes.values()]


def is_lacking(row: Row) -> bool:
    """Whether there may be a result one day: that all seeds diverged is an answer."""
    return not row.results and not row.is_unstable


def no_result(row: Row) -> str:
    """Why a row has none."""
    if row.is_unstable:
        return f"every seed of {row.recipe.label} diverged or was halted"
    return f"{row.recipe.label} has no result yet: {row.command}"


def nothing(row: Row, metric: str) -> str:
    """Why a row has no value of a metric."""
    if not row.results:
        return no_result(row)
    known = recorded(row)
    if metric not in DERIVED and (of := absent(metric, known)) is not None:
        return lacks(row, of)
    hint = "" if metric in DERIVED else f"; {meant(metric, known)}"
    return f"no {metric} was recorded of {row.recipe.label}{hint}"


def meant(metric: str, known: Iterable[str]) -> str:
    """Which metrics of the same measurement or split there are: a run may have hundreds."""
    of = metric.partition("/")[0]
    return did_you_mean(metric, [name for name in known if name.partition("/")[0] == of])


def recorded(row: Row) -> set[str]:
    """The metrics that any seed of a row has."""
    return {name for result in row.results.values() for name in result.metrics}


def is_misnamed(row: Row, metric: str) -> bool:
    """Whether a measurement was taken that finds no such metric. What was published before the
    recipe changed may have been taken by code that did not find it yet."""
    if row.edition or not row.results or metric in DERIVED:
        return False
    known = recorded(row)
    splits = {*row.recipe.spec.sizes, "train", "val"}
    is_measured = metric.partition("/")[0] not in splits and absent(metric, known) is None
    return is_measured and metric not in known


def lacks(row: Row, of: str) -> str:
    """Why a row has nothing of a split or a measurement."""
    if of in row.recipe.document.measure:
        return f"no {of} was taken of {row.name}: {row.command}"
    return f"{row.name} has no {of}, neither as a measure nor as a split"


def obstacle(metric: str, *rows: Row) -> str:
    """Why nothing can be estimated from values that there are."""
    broken = (not_finite(metric, row) for row in rows)
    return next(filter(None, broken), "") or _too_few(*rows)


def not_finite(metric: str, row: Row) -> str:
    """Which values of a metric are no numbers; empty if all are."""
    seeds = [seed for seed, value in values(row, metric).items() if not math.isfinite(value)]
    if not seeds:
        return ""
    return f"{metric} of {row.recipe.label} is not finite for {listed_seeds(seeds)}"


def _too_few(*rows: Row) -> str:
    what = "two pairs of seeds are needed" if len(rows) > 1 else "two seeds are needed"
    lacking = (row for row in reversed(rows) if row.absent)
    return what + next((f"; {r.recipe.label} lacks seeds: {r.command}" for r in lacking), "")
