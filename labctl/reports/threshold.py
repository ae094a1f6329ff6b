"""What runs say of a claim about a whole sweep: that they are stable from some value on.

Runs of one seed at several values begin alike and see their data in one order, so they are not
independent; what counts is seeds. At a single value each seed has one run, and whether most seeds
are stable there is tested exactly; how a seed's runs go together does not enter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from labctl.sweeps.values import written

from .evidence import Evidence
from .shares import Share, seeds_to_show, simes
from .statistics import Tails
from .sweeps import Swept, trials_of

Shares = Mapping[float, Share]
"""By value, in order: how many of its seeds were stable."""
HALF = 0.5
"""A value at which more than this share of seeds comes to its end is called stable."""


def of_sweep(found: Swept) -> Iterator[Evidence]:
    """What there is for and against each claim of a sweep, by the values that the sweep itself
    names, for a search for its boundary would outweigh them.

    A value is called stable where most seeds come to their end. The claim stands when each value
    shows by itself, at 5 %, that it lies where the claim has it: then no correction is due. It
    falls when the values on one side, taken together by Simes's test, show the contrary; either
    side may do so, at 2.5 %.
    """
    if not found.sweep.config.claims:
        return
    (axis,) = found.sweep.axes
    named = {written(value) for value in axis.values}
    stable: dict[float, list[bool]] = {}
    for trial in trials_of(found):
        if written(trial.value) in named:
            stable.setdefault(float(trial.value), []).append(trial.is_stable)
    shares = {value: Share(sum(runs), len(runs)) for value, runs in sorted(stable.items())}
    for name, claim in found.sweep.config.claims.items():
        edge = claim.stable_from
        below = {value: share for value, share in shares.items() if value < edge}
        above = {value: share for value, share in shares.items() if value >= edge}
        yield _OfSides(
            name,
            figure=f"{_side(below, f'below {edge:g}', is_claimed_stable=False)}; "
            f"{_side(above, f'from {edge:g} on', is_claimed_stable=True)}",
            what=f"stable from {edge:g} on, and not below",
            claimed=f"stable from {edge:g} on, and not below",
            source=claim.source,
            is_known_refuted=claim.known == "refuted",
            tails=tails_of(below, above) if below and above else None,
            is_lacking=not shares,
            below=tuple(below.values()),
            above=tuple(above.values()),
            reason=_reason(found) if shares else f"no result yet: labctl sweep {found.sweep.name}",
        )


def tails_of(below: Shares, above: Shares) -> Tails:
    """How well shares go with a threshold between the values of two sides, neither of them empty.

    For it, the largest p of all values, so that each value must show what is claimed of it
    (Berger 1982, Technometrics 24:295); against it, twice the smaller of both sides.
    """
    kept = [share.p_below for share in below.values()] + [s.p_above for s in above.values()]
    broken = simes(s.p_above for s in below.values()), simes(s.p_below for s in above.values())
    return Tails(max(kept), min(1.0, 2 * min(broken)))


def _reason(found: Swept) -> str:
    edition = found.edition
    return f"published in {edition} before the recipe changed" if edition else ""


@dataclass(frozen=True, slots=True)
class _OfSides(Evidence):
    """Shares of stable seeds at the values below a claimed one, and from it on."""

    below: tuple[Share, ...] = ()
    above: tuple[Share, ...] = ()

    def seeds_needed(self, level: float) -> int | None:
        """For each value to lie where it is claimed to; or for one side to show the contrary, of
        which so many values as do it best count, as in Simes's test."""
        wrong = (
            sorted((share.value for share in self.below), reverse=True),
            sorted((1 - share.value for share in self.above), reverse=True),
        )
        if all(side[0] < HALF for side in wrong):
            right = [1 - share for side in wrong for share in side]
            return seeds_to_show(right, [level] * len(right))
        numbers = [
            seeds_to_show([share], [level / 2 * rank / len(side)])
            for side in wrong
            for rank, share in enumerate(side, 1)
        ]
        return min((n for n in numbers if n is not None), default=None)


def _side(shares: Shares, where: str, *, is_claimed_stable: bool) -> str:
    """How many seeds were stable on a side, and at which values most were not as claimed."""
    if not shares:
        return f"no run at the values that the sweep itself names {where}"
    if len({*shares.values()}) == 1:
        of_all = next(iter(shares.values()))
        at = f"at {next(iter(shares)):g}" if len(shares) == 1 else f"at each value {where}"
        return f"{_counted(of_all)} {at}{_interval(of_all)}"
    least, most = (pick(shares.values(), key=lambda share: share.value) for pick in (min, max))
    text = f"{least.yes} of {least.n} to {most.yes} of {most.n} seeds stable at the values {where}"
    for value, share in shares.items():
        if share.value < HALF if is_claimed_stable else share.value > HALF:
            text += f", {_counted(share)} at {value:g}{_interval(share)}"
    return text


def _counted(share: Share) -> str:
    return f"{share.yes} of {share.n} seeds stable"


def _interval(share: Share) -> str:
    low, high = share.interval()
    return f" (95 % interval {low:.2f} to {high:.2f})"
