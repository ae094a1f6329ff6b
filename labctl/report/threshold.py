"""What becomes of a claim about a whole sweep: that runs are stable from some value on."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.sweep.logistic import wilson
from labctl.sweep.sweep import ThresholdClaim
from labctl.sweep.values import written

from .sweeps import Swept, trials_of
from .verdicts import Verdict, Word

HALF = 0.5
"""A value at which this share of runs comes to its end is called stable."""


def judged(found: Swept) -> Iterator[Verdict]:
    """The verdict on each claim of a sweep.

    Of the values that the sweep itself names, for a search for its boundary would outweigh them,
    the runs below the claimed one, and those from it on, are counted together. The claim falls
    when the 95 % interval of Wilson (1927) for the share of stable runs lies on the wrong side of
    a half on either side of the value, and stands when both lie on the right side.
    """
    (axis,) = found.sweep.axes
    named = {written(value) for value in axis.values}
    trials = [trial for trial in trials_of(found) if written(trial.value) in named]
    for name, claim in found.sweep.config.claims.items():
        below = [trial.is_stable for trial in trials if float(trial.value) < claim.stable_from]
        above = [trial.is_stable for trial in trials if float(trial.value) >= claim.stable_from]
        yield Verdict(
            name, _word(below, above), _detail(name, claim, below, above), claim.known == "refuted"
        )


def _word(below: list[bool], above: list[bool]) -> Word:
    if not below or not above:
        return Word.UNRESOLVED
    low_below, high_below = wilson(sum(below), len(below))
    low_above, high_above = wilson(sum(above), len(above))
    if low_below > HALF or high_above < HALF:
        return Word.REFUTED
    if high_below < HALF and low_above > HALF:
        return Word.REPRODUCED
    return Word.UNRESOLVED


def _detail(name: str, claim: ThresholdClaim, below: list[bool], above: list[bool]) -> str:
    source = f" ({claim.source})" if claim.source else ""
    value = f"{claim.stable_from:g}"
    return (
        f"{name}: stable from {value} on, and not below: {_share(below)} below {value}, "
        f"{_share(above)} from it on{source}"
    )


def _share(stable: list[bool]) -> str:
    if not stable:
        return "no run"
    low, high = wilson(sum(stable), len(stable))
    count = f"{sum(stable)} of {len(stable)} runs stable"
    return f"{count} (95 % interval {low:.2f} to {high:.2f})"
