"""What becomes of a claim: an interval over seeds, held against the bound that the claim sets."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from labctl.recipe.document import Claim, DifferenceClaim, RatioClaim, ReferenceClaim
from labctl.recipe.recipe import Recipe

from .quantity import CLOCKED, difference_unit, value_of
from .rows import Row
from .statistics import Interval, interval, paired, seeds_needed, summary


class Word(StrEnum):
    """How a claim stands."""

    REPRODUCED = "REPRODUCED"
    """The whole interval keeps the bound."""
    REFUTED = "REFUTED"
    """The whole interval breaks it."""
    UNRESOLVED = "UNRESOLVED"
    """Neither, or too few seeds to tell."""
    SUSPECT = "SUSPECT"
    """A speed-up beyond what the FLOPs allow: something other than the claimed cause is at work."""
    REFERENCE = "reference"
    """A published value, shown with our difference from it; not judged."""
    ELSEWHERE = "not about this"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A claim and how it stands."""

    claim: str
    word: Word
    detail: str
    """A sentence with the figures behind it."""
    is_known_refuted: bool = False
    """The recipe says that the claim is known to be false."""
    interval: Interval | None = None
    short: str = ""
    """Figures for the table itself."""

    @property
    def text(self) -> str:
        """For a cell: `name: REFUTED, as known`."""
        known = ""
        if self.is_known_refuted:
            known = ", as known" if self.word is Word.REFUTED else " (known as refuted)"
        return f"{self.claim}: {self.word}{known}{self.short}"

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        found = self.interval
        figures = {} if found is None else {"mean": found.mean, "sd": found.sd, "n": found.n}
        bounds = {} if found is None else {"low": found.low, "high": found.high}
        known = "refuted" if self.is_known_refuted else None
        return {
            "claim": self.claim, "verdict": str(self.word), "known": known, "detail": self.detail,
            **figures, **bounds,
        }  # fmt: skip


def subject(claim: Claim, recipe: Recipe) -> tuple[str, str]:
    """Data set and budget that a claim is about: what a preset makes shorter, it does not judge."""
    return claim.data or recipe.claims_data, recipe.claims_budget


def judge(name: str, claim: Claim, row: Row, other: Callable[[str], Row]) -> Verdict:
    """Hold a claim of the row's recipe against its results; `other` finds the row of a recipe."""
    known = claim.known == "refuted"
    if subject(claim, row.recipe) != (row.data, str(row.recipe.document.budget)):
        about = " for ".join(subject(claim, row.recipe))
        return Verdict(name, Word.ELSEWHERE, f"{name}: the claim is about {about}", known)
    if isinstance(claim, ReferenceClaim):
        return _reference(name, claim, row)
    if isinstance(claim, DifferenceClaim):
        return _difference(name, claim, row, other(claim.to))
    return _ratio(name, claim, row, other(claim.to))


def values(row: Row, quantity: str) -> dict[int, float]:
    """The row's values of a metric or derived quantity, by seed."""
    found = {seed: value_of(result, quantity) for seed, result in row.results.items()}
    return {seed: value for seed, value in sorted(found.items()) if value is not None}


def incomparable(row: Row, other: Row) -> str | None:
    """Why times of the two rows cannot be divided by one another; None if they can."""
    ours, theirs = row.conditions, other.conditions
    if len(ours) == 1 and ours == theirs:
        return None
    return f"trained on {_conditions(row)}; {other.recipe.label} on {_conditions(other)}"


def _conditions(row: Row) -> str:
    return " and ".join(map(str, row.conditions)) or "nothing known"


def flops_bound(row: Row, other: Row) -> float | None:
    """The speed-up over `other` that the executed FLOPs allow; None if they were not counted."""
    ours, theirs = row.train_flops, other.train_flops
    return theirs / ours if ours and theirs else None


def is_beyond(ratios: list[float], bound: float | None) -> bool:
    """Whether a measured speed-up lies above its bound by more than its spread (one sd)."""
    found = summary(ratios) if ratios else None
    return bool(found and bound and found.sd is not None and found.mean - found.sd > bound)


def _reference(name: str, claim: ReferenceClaim, row: Row) -> Verdict:
    known = claim.known == "refuted"
    ours = list(values(row, claim.reference).values())
    published = f"{name}: published {claim.reference} {claim.value:g}{_source(claim)}"
    if not ours:
        detail = f"{published}; no result here yet"
        return Verdict(name, Word.REFERENCE, detail, known, short=f" {claim.value:g}")
    found = summary(ours)
    in_points = difference_unit(claim.reference) == " points"
    mean = f"{found.mean:.2f}" if in_points else f"{found.mean:.4g}"
    delta = _shown(found.mean - claim.value, difference_unit(claim.reference), "+")
    detail = f"{published}; ours {mean} (n={found.n}), {delta}; not judged"
    short = f" {claim.value:g} ({delta.split()[0]})"
    return Verdict(name, Word.REFERENCE, detail, known, interval(ours), short)


def _difference(name: str, claim: DifferenceClaim, row: Row, other: Row) -> Verdict:
    metric, unit = claim.difference, difference_unit(claim.difference)
    what = f"{name}: {metric} minus that of {claim.to}, paired by seed"
    pairs = paired(values(row, metric), values(other, metric))
    if pairs and metric in CLOCKED and (reason := incomparable(row, other)):
        return _unresolved(name, claim, f"{what}: not comparable: {reason}")
    found = [ours - theirs for ours, theirs in pairs.values()]
    return _bounded(name, claim, what, found, other, unit, "+")


def _ratio(name: str, claim: RatioClaim, row: Row, other: Row) -> Verdict:
    metric = claim.ratio
    what = f"{name}: {metric} of {claim.to} over that of this row, paired by seed"
    pairs = paired(values(row, metric), values(other, metric))
    if pairs and metric in CLOCKED and (reason := incomparable(row, other)):
        return _unresolved(name, claim, f"{what}: not comparable: {reason}")
    found = [theirs / ours if ours else math.nan for ours, theirs in pairs.values()]
    verdict = _bounded(name, claim, what, found, other)
    bound = flops_bound(row, other) if metric in CLOCKED else None
    if bound is None or not is_beyond(found, bound):
        return verdict
    detail = f"{verdict.detail}; above the {bound:.4g} that the executed FLOPs allow"
    return replace(verdict, word=Word.SUSPECT, detail=detail)


def _bounded(
    name: str,
    claim: DifferenceClaim | RatioClaim,
    what: str,
    found: list[float],
    other: Row,
    unit: str = "",
    sign: str = "",
) -> Verdict:
    """The verdict on a mean that the claim bounds from below, above, or both."""
    if claim.at_least is None and claim.at_most is None:
        return _unresolved(name, claim, f"{what}: the claim sets no bound")
    claimed = f"claimed {_bounds(claim, unit)}{_source(claim)}"
    ci = interval(found)
    if ci is None:
        measured = "not finite" if found else "no seed in common"
        if len(found) == 1:
            measured = f"{_shown(found[0], unit, sign)}, n=1"
        lacking = f"; {other.recipe.label} lacks seeds: {other.command}" if other.absent else ""
        reason = f"{what}: {measured}; {claimed}; two pairs of seeds are needed{lacking}"
        return _unresolved(name, claim, reason)
    low = -math.inf if claim.at_least is None else claim.at_least
    high = math.inf if claim.at_most is None else claim.at_most
    mean, bottom, top = (_shown(value, unit, sign) for value in (ci.mean, ci.low, ci.high))
    detail = f"{what}: {mean}, 95 % interval {bottom} to {top}, n={ci.n}; {claimed}"
    if low <= ci.low and ci.high <= high:
        word = Word.REPRODUCED
    elif ci.high < low or high < ci.low:
        word = Word.REFUTED
    else:
        word = Word.UNRESOLVED
        detail += f"; {_settled_by(ci, low, high)}"
    return Verdict(name, word, detail, claim.known == "refuted", ci)


def _unresolved(name: str, claim: DifferenceClaim | RatioClaim, why: str) -> Verdict:
    return Verdict(name, Word.UNRESOLVED, why, claim.known == "refuted")


def _bounds(claim: DifferenceClaim | RatioClaim, unit: str) -> str:
    bounds = (("at least", claim.at_least), ("at most", claim.at_most))
    return " and ".join(f"{word} {value:g}{unit}" for word, value in bounds if value is not None)


def _shown(value: float, unit: str = "", sign: str = "") -> str:
    """Points with two digits after the point, anything else with four digits."""
    return f"{value:{sign}.2f}{unit}" if unit == " points" else f"{value:{sign}.4g}{unit}"


def _settled_by(ci: Interval, low: float, high: float) -> str:
    """How many seeds would settle the claim if mean and spread stay as they are."""
    distance = min(abs(ci.mean - low), abs(ci.mean - high))
    needed = seeds_needed(ci.sd, distance) if distance > 0 else None
    if needed is None:
        return "more than 1000 seeds would be needed to settle it"
    return f"about {needed} seeds would settle it at this mean and spread"


def _source(claim: Claim) -> str:
    return f" ({claim.source})" if claim.source else ""
