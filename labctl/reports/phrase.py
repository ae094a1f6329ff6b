"""Claims and figures in words."""

from __future__ import annotations

from typing import assert_never

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
    ValueClaim,
)
from labctl.recipe.derived import is_accuracy

from .quantity import difference_unit
from .statistics import Bounds, Estimate


def claimed(claim: AnyClaim) -> str:
    """What a claim says: `at least -0.7 points`."""
    match claim:
        case ReferenceClaim():
            return f"{claim.reference} {claim.value:g}"
        case DifferenceClaim():
            return _bounds_text(claim, difference_unit(claim.difference))
        case RatioClaim():
            return _bounds_text(claim, "")
        case ValueClaim():
            return _bounds_text(claim, unit_of(claim.value))
        case EquivalenceClaim():
            return f"within {claim.within:g}{difference_unit(claim.difference)} of {claim.to}"
        case NearClaim():
            margin = f"{claim.within:g}{difference_unit(claim.value)}"
            return f"{claim.near:g}{unit_of(claim.value)} to within {margin}"
        case OrderingClaim():
            better = "higher" if claim.is_higher_better else "lower"
            return f"{claim.ordering} {better} in each than in the next: {', '.join(claim.of)}"
        case MonotoneClaim():
            return f"{claim.direction}: {', '.join(claim.monotone)}"
        case BandsClaim():
            bands = (
                f"{name} in {low:g} to {high:g}{unit_of(name)}"
                for name, (low, high) in claim.bands.items()
            )
            return ", ".join(bands)
        case _:
            assert_never(claim)


def _bounds_text(claim: BoundedClaim, unit: str) -> str:
    bounds = (("at least", claim.at_least), ("at most", claim.at_most))
    return " and ".join(f"{word} {value:g}{unit}" for word, value in bounds if value is not None)


def unit_of(metric: str) -> str:
    """Unit of a value, with a space before it."""
    return " %" if is_accuracy(metric) else difference_unit(metric)


def figure(at: Estimate, bounds: Bounds, unit: str, sign: str) -> str:
    """Mean with the interval that decides and n: `-0.26 points, 95 % interval ... to ..., n=5`."""
    if at.is_planned:
        return f"{shown(at.mean, unit, sign)}, decided by the plan"
    n = f"n={' and '.join(str(sample.n) for sample in at.samples)}"
    mean = shown(at.mean, unit, sign) + (" for every seed" if at.is_alike else "")
    if at.is_alike and not at.is_coarse:
        return f"{mean}, {n}"
    texts = [mean, *(shown(value, unit, sign) for value in at.interval())]
    text = f"{texts[0]}, 95 % interval {texts[1]} to {texts[2]}"
    if bounds.is_margin:
        low, high = (shown(value, unit, sign) for value in at.interval(0.9))
        text += f", 90 % interval {low} to {high}"
    return f"{text}, {n}"


def shown(value: float, unit: str = "", sign: str = "") -> str:
    """Points and percent with two digits after the point, anything else with four digits."""
    is_fixed = unit in (" points", " %")
    return f"{value:{sign}.2f}{unit}" if is_fixed else f"{value:{sign}.4g}{unit}"
