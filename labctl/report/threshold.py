"""What runs say of a claim about a whole sweep: that they are stable from some value on."""

from __future__ import annotations

import math
from collections.abc import Iterator

from labctl.sweep.logistic import wilson
from labctl.sweep.values import written

from .evidence import Evidence
from .statistics import Tails
from .sweeps import Swept, trials_of

HALF = 0.5
"""A value at which this share of runs comes to its end is called stable."""


def of_sweep(found: Swept) -> Iterator[Evidence]:
    """What there is for and against each claim of a sweep.

    Of the values that the sweep itself names, for a search for its boundary would outweigh them,
    the runs below the claimed one, and those from it on, are counted together. The claim falls
    when the 95 % interval of Wilson (1927) for the share of stable runs lies on the wrong side of
    a half on either side of the value, and stands when both lie on the right side; its p is that
    of the score test, of which the interval is the inverse.
    """
    if not found.sweep.config.claims:
        return
    (axis,) = found.sweep.axes
    named = {written(value) for value in axis.values}
    trials = [trial for trial in trials_of(found) if written(trial.value) in named]
    for name, claim in found.sweep.config.claims.items():
        value = f"{claim.stable_from:g}"
        below = [trial.is_stable for trial in trials if float(trial.value) < claim.stable_from]
        above = [trial.is_stable for trial in trials if float(trial.value) >= claim.stable_from]
        yield Evidence(
            name,
            figure=f"{_share(below)} below {value}, {_share(above)} from it on",
            what=f"stable from {value} on, and not below",
            claimed=f"stable from {value} on, and not below",
            source=claim.source,
            is_known_refuted=claim.known == "refuted",
            tails=_tails(below, above) if below and above else None,
            is_lacking=not trials,
            reason=_reason(found) if trials else f"no result yet: labctl sweep {found.sweep.name}",
        )


def _reason(found: Swept) -> str:
    edition = found.edition
    return f"published in {edition} before the recipe changed" if edition else ""


def _tails(below: list[bool], above: list[bool]) -> Tails:
    """The claim is kept by few stable runs below and many above, and broken by either failing."""
    unstable = [not stable for stable in below]
    return Tails(
        kept=max(_p_above_half(unstable), _p_above_half(above)),
        broken=min(_p_above_half(below), _p_above_half([not stable for stable in above])),
    )


def _p_above_half(stable: list[bool]) -> float:
    """Two-sided p of the score test of a share of a half, one if the share is not above it."""
    n = len(stable)
    z = (sum(stable) / n - HALF) / math.sqrt(HALF * (1 - HALF) / n)
    return math.erfc(z / math.sqrt(2)) if z > 0 else 1.0


def _share(stable: list[bool]) -> str:
    if not stable:
        return "no run"
    low, high = wilson(sum(stable), len(stable))
    count = f"{sum(stable)} of {len(stable)} runs stable"
    return f"{count} (95 % interval {low:.2f} to {high:.2f})"
