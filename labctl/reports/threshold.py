"""What runs say of a claim about a whole sweep: that they are stable from some value on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

from labctl.sweeps.logistic import wilson
from labctl.sweeps.values import written

from .evidence import Evidence
from .statistics import MOST_SEEDS, POWER, Tails
from .sweeps import Swept, trials_of

HALF = 0.5
"""A value at which this share of runs comes to its end is called stable."""


def of_sweep(found: Swept) -> Iterator[Evidence]:
    """What there is for and against each claim of a sweep.

    Of the values that the sweep itself names, for a search for its boundary would outweigh them,
    the runs below the claimed one, and those from it on, are counted together. The claim falls
    when the 95 % interval of Wilson (1927) for the share of stable runs lies on the wrong side of
    a half on either side of the value, or, by Bonferroni's correction for the number of values, at
    any single one; it stands when both lie on the right side and no value has most of its runs on
    the wrong one. Its p is that of the score test, of which the interval is the inverse.
    """
    if not found.sweep.config.claims:
        return
    (axis,) = found.sweep.axes
    named = {written(value) for value in axis.values}
    stable: dict[float, list[bool]] = {}
    for trial in trials_of(found):
        if written(trial.value) in named:
            stable.setdefault(float(trial.value), []).append(trial.is_stable)
    for name, claim in found.sweep.config.claims.items():
        edge = claim.stable_from
        below, above = (
            [run for value, runs in stable.items() if (value >= edge) is side for run in runs]
            for side in (False, True)
        )
        against = {
            value: -_z(runs) if value >= edge else _z(runs)
            for value, runs in sorted(stable.items())
        }
        wrong = [value for value, z in against.items() if z > 0]
        kept, broken = 0.0, 0.0
        if below and above:
            kept = 0.0 if wrong else min(-_z(below), _z(above))
            broken = max(_z(below), -_z(above))
        single = max(against.values(), default=0.0)
        but = "".join(f"; at {value:g} {_count(stable[value])}" for value in wrong)
        yield _OfShares(
            name,
            figure=f"{_share(below)} below {edge:g}, {_share(above)} from it on{but}",
            what=f"stable from {edge:g} on, and not below",
            claimed=f"stable from {edge:g} on, and not below",
            source=claim.source,
            is_known_refuted=claim.known == "refuted",
            tails=_tails(kept, broken, single, len(stable)) if below and above else None,
            is_lacking=not stable,
            z_kept=kept,
            z_broken=max(broken, single),
            seeds=len(found.sweep.seeds),
            reason=_reason(found) if stable else f"no result yet: labctl sweep {found.sweep.name}",
        )


def _reason(found: Swept) -> str:
    edition = found.edition
    return f"published in {edition} before the recipe changed" if edition else ""


@dataclass(frozen=True, slots=True)
class _OfShares(Evidence):
    """Shares of stable runs below a value and from it on, with so many seeds at each value."""

    z_kept: float = 0.0
    """How far both shares lie on the right side of a half, in standard errors: the nearer one."""
    z_broken: float = 0.0
    """How far one lies on the wrong side: the farther one."""
    seeds: int = 1

    def seeds_needed(self, level: float) -> int | None:
        """By the normal approximation, in which z grows with the root of the number of runs."""
        z = max(self.z_kept, self.z_broken)
        wanted = NormalDist().inv_cdf(1 - level / 2) + NormalDist().inv_cdf(POWER)
        needed = math.ceil(self.seeds * (wanted / z) ** 2) if z > 0 else MOST_SEEDS + 1
        return needed if needed <= MOST_SEEDS else None


def _tails(kept: float, broken: float, single: float, values: int) -> Tails:
    """Two-sided p of the score test of a share of a half, at the farthest of `values` times as
    many."""
    return Tails(_p(kept), min(_p(broken), 1.0, values * _p(single)))


def _p(z: float) -> float:
    return math.erfc(z / math.sqrt(2)) if z > 0 else 1.0


def _z(stable: list[bool]) -> float:
    """How far the share of stable runs lies above a half, in its standard error if it were that."""
    n = len(stable)
    return (sum(stable) / n - HALF) / math.sqrt(HALF * (1 - HALF) / n)


def _share(stable: list[bool]) -> str:
    if not stable:
        return "no run"
    low, high = wilson(sum(stable), len(stable))
    return f"{_count(stable)} (95 % interval {low:.2f} to {high:.2f})"


def _count(stable: list[bool]) -> str:
    return f"{sum(stable)} of {len(stable)} runs stable"
