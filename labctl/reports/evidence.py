"""What results say of a claim: figures, held against the bounds that the claim sets them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import assert_never

from labctl.errors import LabctlError, RecipeError
from labctl.recipe.claim import (
    AnyClaim,
    BandsClaim,
    BoundedClaim,
    DifferenceClaim,
    EquivalenceClaim,
    MonotoneClaim,
    NearClaim,
    OrderingClaim,
    RatioClaim,
    ReferenceClaim,
    Sourced,
    ValueClaim,
)
from labctl.recipe.recipe import Recipe
from labctl.recipe.seeds import listed_seeds

from .comparison import (
    flops_bound,
    incomparable,
    is_beyond,
    measured_unlike,
    too_fast,
    unlike,
    values,
)
from .means import are_paired, difference, mean, pairs_of, ratio, ratios_of
from .obstacles import (
    Others,
    caveat,
    is_lacking,
    is_misnamed,
    no_result,
    not_finite,
    nothing,
    obstacle,
    on_other_data,
)
from .phrase import claimed, figure, shown, unit_of
from .quantity import CLOCKED, difference_unit
from .resolution import step_of, step_of_both
from .rows import Row
from .statistics import (
    Bounds,
    Estimate,
    Tails,
    all_of,
    estimate,
    paired,
    seeds_needed,
    summary,
    tails,
)


@dataclass(frozen=True, slots=True)
class Part:
    """A figure, and where it is claimed to lie."""

    estimate: Estimate
    bounds: Bounds
    unit: str = ""
    """With a space before it."""
    sign: str = ""
    """`+` if it is a difference, which is shown with its sign."""
    label: str = ""
    """What it is, where a claim is about several."""

    @property
    def figure(self) -> str:
        """Mean, interval and n."""
        text = figure(self.estimate, self.bounds, self.unit, self.sign)
        return f"{self.label} {text}" if self.label else text


@dataclass(frozen=True, slots=True)
class Evidence:
    """A claim, and what there is for and against it."""

    claim: str
    what: str = ""
    """What was measured: `test/acc minus that of base, paired by seed`."""
    figure: str = ""
    """How it came out, with interval and n."""
    claimed: str = ""
    source: str = ""
    is_known_refuted: bool = False
    parts: tuple[Part, ...] = ()
    """What is judged; all of them must lie where they are claimed to lie."""
    tails: Tails | None = None
    """None if nothing can be judged."""
    reason: str = ""
    """Why nothing can be judged."""
    suspicion: str = ""
    """Why figures cannot be what they seem, although they can be judged."""
    caveat: str = ""
    """Seeds that figures leave out because they diverged or were halted."""
    is_reference: bool = False
    """A published value, with nothing to judge."""
    is_elsewhere: bool = False
    """The claim is about other data, or about longer training."""
    is_lacking: bool = False
    """There is no result to judge it by."""
    is_unmeasured: bool = False
    """There is no value of a metric that it is about."""
    is_misnamed: bool = False
    """It names a metric that its measurement, which was taken, does not find."""
    short: str = ""
    """Figures for the cell of a table."""

    def seeds_needed(self, level: float) -> int | None:
        """How many seeds would settle the claim at `level`, if means and spreads stay as they are:
        for all parts to keep it, or for one to break it. None for more than 1000."""
        each = level / max(1, len(self.parts))
        broken = [part for part in self.parts if part.estimate.mean not in part.bounds]
        needed = [seeds_needed(p.estimate, p.bounds, each) for p in broken or self.parts]
        known = [n for n in needed if n is not None]
        if broken:
            return min(known, default=None)
        return max(known) if known and len(known) == len(needed) else None

    @property
    def detail(self) -> str:
        """A sentence with everything."""
        source = f" ({self.source})" if self.source else ""
        if self.is_elsewhere:
            return f"{self.claim}: {self.reason}"
        if self.is_reference:
            return f"{self.claim}: published {self.claimed}{source}; {self.figure}"
        measured = ": ".join(filter(None, (self.claim, self.what, self.figure)))
        claimed = f"claimed {self.claimed}{source}"
        if self.what == self.claimed:
            claimed = self.source and f"claimed by {self.source}"
        rest = (self.reason, self.suspicion, self.caveat)
        return "; ".join(filter(None, (measured, claimed, *rest)))


def subject(claim: Sourced, recipe: Recipe) -> tuple[str, str]:
    """Data set and budget that a claim is about: what a preset makes shorter, it does not judge."""
    return claim.data or recipe.claims_data, recipe.claims_budget


def is_about(claim: Sourced, recipe: Recipe) -> bool:
    """Whether the claim is about the recipe with its preset and overrides."""
    data = recipe.document.data.name if claim.data else recipe.data_label
    return subject(claim, recipe) == (data, str(recipe.document.budget))


def of_row(row: Row, counterpart: Callable[[Row, str], Row]) -> list[Evidence]:
    """What there is for and against each claim of the row's recipe; `counterpart` finds the row of
    another recipe that a row is compared with.

    Raises:
        RecipeError: a claim compares with a recipe that is faulty, with the claim's place.
    """
    return [
        evidence(name, claim, row, partial(_other, row, name, claim, counterpart))
        for name, claim in row.recipe.document.claims.items()
    ]


def _other(
    row: Row, name: str, claim: AnyClaim, counterpart: Callable[[Row, str], Row], recipe: str
) -> Row:
    try:
        return row if recipe == row.recipe.name else counterpart(row, recipe)
    except LabctlError as error:
        steps = next(steps for steps, other in claim.recipes.items() if other == recipe)
        where = str(row.recipe.tree.place(("claims", name, *steps)))
        message = f"claims.{name} compares with {recipe}: {error.message}"
        raise RecipeError(message, where=where, hint=error.hint) from None


def evidence(name: str, claim: AnyClaim, row: Row, other: Others) -> Evidence:
    """What the results of `row`, whose recipe makes the claim, and those of others say of it."""
    found = Evidence(
        name, source=claim.source, is_known_refuted=claim.known == "refuted",
        claimed=claimed(claim), is_reference=isinstance(claim, ReferenceClaim),
    )  # fmt: skip
    if not is_about(claim, row.recipe):
        about = " for ".join(subject(claim, row.recipe))
        return replace(found, is_elsewhere=True, reason=f"the claim is about {about}")
    if not row.results and not isinstance(claim, ReferenceClaim | OrderingClaim):
        return replace(found, is_lacking=is_lacking(row), reason=no_result(row))
    if apart := on_other_data(claim, row, other):
        return replace(found, is_elsewhere=True, reason=apart)
    weighed = _weighed(found, claim, row, other)
    return replace(weighed, caveat=caveat(claim, row, other)) if weighed.parts else weighed


def _weighed(found: Evidence, claim: AnyClaim, row: Row, other: Others) -> Evidence:
    match claim:
        case ReferenceClaim():
            return _reference(found, claim, row)
        case DifferenceClaim() | EquivalenceClaim():
            return _difference(found, claim, row, other(claim.to))
        case RatioClaim():
            return _ratio(found, claim, row, other(claim.to))
        case ValueClaim() | NearClaim():
            return _value(found, claim.value, _bounds(claim), row)
        case OrderingClaim():
            return _ordering(found, claim, [other(recipe) for recipe in claim.of])
        case MonotoneClaim():
            return _monotone(found, claim, row)
        case BandsClaim():
            return _bands(found, claim, row)
        case _:
            assert_never(claim)


def _bounds(claim: BoundedClaim | EquivalenceClaim | NearClaim) -> Bounds:
    if isinstance(claim, BoundedClaim):
        low = -math.inf if claim.at_least is None else claim.at_least
        return Bounds(low, math.inf if claim.at_most is None else claim.at_most)
    middle = claim.near if isinstance(claim, NearClaim) else 0.0
    return Bounds(middle - claim.within, middle + claim.within, is_margin=True)


def _reference(found: Evidence, claim: ReferenceClaim, row: Row) -> Evidence:
    metric = claim.reference
    ours = list(values(row, metric).values())
    if not ours:
        reason = nothing(row, metric)
        return replace(
            found, figure="no result here yet", reason=reason, short=f" {claim.value:g}",
            is_lacking=is_lacking(row), is_unmeasured=True, is_misnamed=is_misnamed(row, metric),
        )  # fmt: skip
    known = summary(ours)
    in_points = difference_unit(metric) == " points"
    text = f"{known.mean:.2f}" if in_points else f"{known.mean:.4g}"
    delta = shown(known.mean - claim.value, difference_unit(metric), "+")
    at = estimate(ours, step_of(row, metric))
    return replace(
        found,
        figure=f"ours {text} (n={known.n}), {delta}; not judged",
        parts=(Part(at, Bounds()),) if at else (),
        short=f" {claim.value:g} ({delta.split()[0]})",
    )


def _difference(
    found: Evidence, claim: DifferenceClaim | EquivalenceClaim, row: Row, other: Row
) -> Evidence:
    metric, unit = claim.difference, difference_unit(claim.difference)
    found = replace(found, what=f"{metric} minus that of {claim.to}, paired by seed")
    if unusable := _unusable(found, metric, row, other):
        return unusable
    pairs = pairs_of(row, other, metric)
    differences = [ours - theirs for ours, theirs in pairs]
    if not are_paired(row, other, metric):
        how = "their seeds do not pair: Welch's t"
        found = replace(found, what=f"{metric} minus that of {claim.to}; {how}")
    at = difference(row, other, metric)
    if at is None:
        return _open(found, differences, unit, "+", obstacle(metric, row, other))
    held = _held(found, Part(at, _bounds(claim), unit, "+"))
    return _suspected(held, metric, pairs, row, other)


def _ratio(found: Evidence, claim: RatioClaim, row: Row, other: Row) -> Evidence:
    metric = claim.ratio
    found = replace(found, what=f"{metric} of {claim.to} over that of this row, paired by seed")
    if unusable := _unusable(found, metric, row, other):
        return unusable
    pairs = pairs_of(row, other, metric)
    at = ratio(row, other, metric)
    if at is None:
        zeros = [seed for seed, ours in values(row, metric).items() if ours == 0]
        reason = f"{metric} of {row.recipe.label} is 0 for {listed_seeds(zeros)}" if zeros else ""
        return _open(found, ratios_of(pairs), "", "", reason or obstacle(metric, row, other))
    return _suspected(_held(found, Part(at, _bounds(claim))), metric, pairs, row, other)


def _value(found: Evidence, metric: str, bounds: Bounds, row: Row) -> Evidence:
    found, unit = replace(found, what=metric), unit_of(metric)
    if unusable := _unusable(found, metric, row):
        return unusable
    ours = list(values(row, metric).values())
    at = mean(row, metric)
    if at is None:
        return _open(found, ours, unit, "", obstacle(metric, row))
    held = _held(found, Part(at, bounds, unit))
    return replace(held, suspicion=too_fast(row) if metric == "time" else "")


def _ordering(found: Evidence, claim: OrderingClaim, rows: list[Row]) -> Evidence:
    metric, unit = claim.ordering, difference_unit(claim.ordering)
    found = replace(found, what=f"{metric}, each minus the next, paired by seed")
    bounds = Bounds(low=0, is_open=True) if claim.is_higher_better else Bounds(high=0, is_open=True)
    steps = []
    for row, other in pairwise(rows):
        if unusable := _unusable(found, metric, row, other):
            return unusable
        step = f"{row.recipe.name} - {other.recipe.name}"
        if not are_paired(row, other, metric):
            step += " (Welch's t: seeds do not pair)"
        at = difference(row, other, metric)
        if at is None:
            return replace(found, reason=f"{step}: {obstacle(metric, row, other)}")
        steps.append(Part(at, bounds, unit, "+", step))
    return _held(found, *steps)


def _monotone(found: Evidence, claim: MonotoneClaim, row: Row) -> Evidence:
    found = replace(found, what="each metric minus the one before, in the same run")
    is_rising = claim.direction == "rising"
    bounds = Bounds(low=0, is_open=True) if is_rising else Bounds(high=0, is_open=True)
    steps = []
    for before, after in pairwise(claim.monotone):
        if unusable := _unusable(found, before, row) or _unusable(found, after, row):
            return unusable
        pairs = paired(values(row, after), values(row, before)).values()
        step = step_of_both(step_of(row, after), step_of(row, before))
        at = estimate([later - earlier for later, earlier in pairs], step)
        if at is None:
            broken = not_finite(before, row)
            return replace(found, reason=f"{after}: {broken or obstacle(after, row)}")
        steps.append(Part(at, bounds, difference_unit(after), "+", f"{after} - {before}"))
    return _held(found, *steps)


def _bands(found: Evidence, claim: BandsClaim, row: Row) -> Evidence:
    bands = []
    for metric, (low, high) in claim.bands.items():
        if unusable := _unusable(found, metric, row):
            return unusable
        at = mean(row, metric)
        if at is None:
            return replace(found, reason=f"{metric}: {obstacle(metric, row)}")
        bands.append(Part(at, Bounds(low, high), unit_of(metric), label=metric))
    return _held(found, *bands)


def _held(found: Evidence, *parts: Part) -> Evidence:
    """Figures against their bounds."""
    weighed = all_of([tails(part.estimate, part.bounds) for part in parts])
    figures = "; ".join(part.figure for part in parts)
    return replace(found, figure=figures, parts=parts, tails=weighed)


def _open(found: Evidence, measured: list[float], unit: str, sign: str, reason: str) -> Evidence:
    """Figures that are too few, or not finite."""
    text = "not finite" if measured else "no seed in common"
    if len(measured) == 1:
        text = f"{shown(measured[0], unit, sign)}, n=1"
    return replace(found, figure=text, reason=reason)


def _unusable(found: Evidence, metric: str, *rows: Row) -> Evidence | None:
    """Why the metric of the rows cannot be judged; None if it can."""
    for row in rows:
        if not values(row, metric):
            why, lacks_all = nothing(row, metric), is_lacking(row)
            return replace(
                found, reason=why, is_lacking=lacks_all, is_unmeasured=True,
                is_misnamed=is_misnamed(row, metric),
            )  # fmt: skip
    if settings := measured_unlike(metric, *rows):
        return replace(found, figure=f"not comparable: {settings}")
    if metric not in CLOCKED:
        return None
    reason = incomparable(rows[0], rows[-1])
    if reason and len(rows) == 1:
        reason = f"seeds were trained under {unlike(rows[0])}"
    return replace(found, figure=f"not comparable: {reason}") if reason else None


def _suspected(
    found: Evidence, metric: str, pairs: list[tuple[float, float]], row: Row, other: Row
) -> Evidence:
    """Whether a difference of times is more than FLOPs or hardware allow."""
    bound = flops_bound(row, other) if metric in CLOCKED else None
    if bound is not None and is_beyond(ratios_of(pairs), bound):
        return replace(found, suspicion=f"above the {bound:.4g} that the executed FLOPs allow")
    beyond_hardware = (too_fast(row) or too_fast(other)) if metric == "time" else ""
    return replace(found, suspicion=beyond_hardware)
