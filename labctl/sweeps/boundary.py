"""The ends of the stable range of a parameter, as far as finished trials show them.

At either end: the values between which it lies, and a logistic fit of P(stable) over the trials
from the middle of the stable range outwards, or over all if it has no other end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Any

from labctl.recipe.seeds import listed_seeds

from .bisection import ENDS, BoundaryConfig, EndName, Survey, Tally, Trial, next_trials, survey
from .logistic import Crossing, crossing, wilson
from .values import written

Side = dict[tuple[Decimal, int], bool]
"""By value and seed: whether training was stable."""
BEYOND = (
    "fitted without the stable values beyond the unstable ones, as with them a logistic crosses "
    "elsewhere"
)
FEWEST_SEEDS = 3
"""With fewer the interval covers too seldom."""
SCATTERED = "a logistic fit crosses outside these two, and no value tried is excluded"
OUTSIDE = (
    "the fit crosses outside the two values: each of them is judged by its own trials, the fit "
    "rests on those at all values"
)


@dataclass(frozen=True, slots=True)
class End:
    """One end of the stable range."""

    name: EndName
    bracket: tuple[Tally, Tally] | None
    """The outermost unstable value next to the stable range, and the stable one at its end."""
    reason: str
    """Why there is no bracket; empty if there is one."""
    crossing: Crossing | None
    """Where P(stable) crosses the level; None without a bracket, or if no logistic fits."""
    wavering: tuple[int, ...]
    """Seeds that are unstable at a value further in than one at which they are stable."""
    note: str = ""
    """What the fit leaves out, or why there is none."""
    used: tuple[float, float] | None = None
    """The first and last value of the fit, if there are others."""

    def sentences(self, probability: float) -> list[str]:
        """What is known of this end, for people."""
        if self.bracket is None:
            return [f"{self.name} end: {self.reason}"]
        unstable, stable = self.bracket
        between = f"{self.name} end: between {_counted(unstable)} and {_counted(stable)}"
        if self.crossing is None:
            said = [f"{between}; no value is given for P(stable) = {probability:g}: {self.note}"]
        else:
            said = [f"{between}; P(stable) = {probability:g} at {self._fitted(self.crossing)}"]
            if self.note:
                said.append(f"{self.name} end: {self.note}")
        if self.wavering:
            said.append(
                f"{self.name} end: with {listed_seeds(self.wavering)} training is unstable at a "
                "value further in than one at which it is stable, so no single value parts the two"
            )
        return said

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        between = self.bracket and [float(tally.value) for tally in self.bracket]
        return {
            "bracket": dict(zip(("unstable", "stable"), between, strict=True)) if between else None,
            "reason": self.reason or None,
            "crossing": self.crossing.plain() if self.crossing else None,
            "wavering_seeds": list(self.wavering),
            "note": self.note or None,
        }

    def _fitted(self, fit: Crossing) -> str:
        """The crossing and its interval, with what the interval rests on."""
        first, last = (f"{value:.4g}" for value in self.used) if self.used else ("", "")
        low = f"below {first or 'all values tried'}" if fit.low is None else f"{fit.low:.4g}"
        high = f"above {last or 'all values tried'}" if fit.high is None else f"{fit.high:.4g}"
        interval = f"95 % interval {low} to {high}"
        if fit.low is None and fit.high is None:
            tried = f"{first} to {last}" if self.used else "the values tried"
            interval = f"95 % interval wider than {tried}"
        basis = f"logistic fit, {fit.n} trials of {fit.seeds} seeds"
        if fit.design_effect is None:
            basis = f"logistic fit, {fit.n} trials of one seed, which say nothing about another"
        elif fit.seeds < FEWEST_SEEDS:
            basis += ", too few to say how far others lie from them"
        elif fit.design_effect > 1:
            basis += f", widened {fit.design_effect**0.5:.2g} times as trials of a seed are alike"
        return f"{fit.value:.4g}, {interval} ({basis})"


@dataclass(frozen=True, slots=True)
class Boundary:
    """Where training is stable, and how sure that is."""

    probability: float
    stable: tuple[Tally, ...]
    """The values of the widest stable interval, in order; () if no value is stable."""
    low: End
    high: End
    others: tuple[str, ...]
    """A sentence for every stretch of unstable values between stable ones."""
    tallies: tuple[Tally, ...]
    """All values tried, in order."""
    missing: int
    """Trials to come before the next step can be taken; 0 when the search has ended."""
    untried: tuple[str, ...] = ()
    """A sentence for every stop rule that could not end some of the stable trials."""

    @property
    def is_monotone(self) -> bool:
        """Whether the stable values are one interval."""
        return not self.others

    def sentences(self) -> list[str]:
        """What was found, for people."""
        said = []
        if self.stable:
            first, last = (written(tally.value) for tally in (self.stable[0], self.stable[-1]))
            said.append(f"stable at {first}" if first == last else f"stable from {first} to {last}")
        if self.low.reason and self.low.reason == self.high.reason:
            said.append(f"both ends: {self.low.reason}")
        else:
            said += self.low.sentences(self.probability) + self.high.sentences(self.probability)
        said += self.others
        if self.others and self.stable:
            said.append("the ends given are those of the widest stable interval")
        said += self.untried
        if self.missing:
            said.append(f"not finished: {self.missing} trials at least are to come")
        return said

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        ends = [float(tally.value) for tally in (*self.stable[:1], *self.stable[-1:])]
        return {
            "probability": self.probability,
            "stable": ends or None,
            "low": self.low.plain(),
            "high": self.high.plain(),
            "is_monotone": self.is_monotone,
            "is_finished": self.missing == 0,
            "values": [_plain(tally) for tally in self.tallies],
            "sentences": self.sentences(),
        }


def boundary(
    config: BoundaryConfig,
    seeds: Sequence[int],
    trials: Sequence[Trial],
    untried: Sequence[str] = (),
) -> Boundary:
    """What finished trials show. scipy is loaded for the fits.

    Args:
        config, seeds, trials: as of `next_trials`.
        untried: a sentence for every stop rule that could not end some of the stable trials.
    """
    known = survey(config, seeds, trials)
    low, high = (_end(name, config, known, trials) for name in ENDS)
    return Boundary(
        config.probability, known.core, low, high, tuple(_gaps(known, config.probability)),
        known.tallies, len(next_trials(config, seeds, trials)), tuple(untried),
    )  # fmt: skip


def _end(name: EndName, config: BoundaryConfig, known: Survey, trials: Sequence[Trial]) -> End:
    bracket = known.bracket(name)
    if bracket is None:
        return End(name, None, _reason(name, known), None, ())
    side, near = (
        _within(_reach(name, known, config.probability, is_near=is_near), trials)
        for is_near in (False, True)
    )
    fit, fitted, note = _fit(name, side, config.probability), side, ""
    if near.keys() < side.keys() and not (fit and _is_between(fit, bracket)):
        closer = _fit(name, near, config.probability)
        if closer and _is_between(closer, bracket):
            fit, fitted, note = closer, near, BEYOND
    if fit is None or (fit.low is None and fit.high is None and not _is_between(fit, bracket)):
        fit, note = None, SCATTERED
    elif not _is_between(fit, bracket):
        note = OUTSIDE
    inwards = sorted(side.items(), key=lambda item: item[0][0], reverse=name == "high")
    outcomes: dict[int, list[bool]] = {}
    for (_, seed), is_stable in inwards:
        outcomes.setdefault(seed, []).append(is_stable)
    wavering = tuple(seed for seed, found in sorted(outcomes.items()) if found != sorted(found))
    values = sorted({float(value) for value, _ in fitted})
    is_all = len(values) == len(known.tallies)
    used = None if is_all or fit is None else (values[0], values[-1])
    return End(name, bracket, "", fit, wavering, note, used)


def _within(values: tuple[float, float], trials: Sequence[Trial]) -> Side:
    first, last = values
    return {
        (trial.value, trial.seed): trial.is_stable
        for trial in trials
        if first <= float(trial.value) <= last
    }


def _fit(name: EndName, side: Side, probability: float) -> Crossing | None:
    return crossing(
        [(float(value), seed, is_stable) for (value, seed), is_stable in side.items()],
        is_rising=name == "low",
        probability=probability,
    )


def _is_between(fit: Crossing, bracket: tuple[Tally, Tally]) -> bool:
    first, last = sorted(float(tally.value) for tally in bracket)
    return first <= fit.value <= last


def _reach(
    name: EndName, known: Survey, probability: float, *, is_near: bool = False
) -> tuple[float, float]:
    """From the middle of the core, or its far side if it has no other end, to the last value that
    bears on this end, in order.

    That is the last value tried, or the last before a stretch of stable values that no chance
    explains: that stretch has ends of its own, which one logistic cannot fit as well. `is_near`
    stops before any such stretch.
    """
    core, place = known.core, known.runs.index(known.core)
    middle = math.sqrt(core[0].value * core[-1].value)
    if name == "low":
        outward, outermost, innermost = known.runs[:place][::-1], 0, -1
        inner = max(middle, float(core[0].value))
    else:
        outward, outermost, innermost = known.runs[place + 1 :], -1, 0
        inner = min(middle, float(core[-1].value))
    if known.bracket("high" if name == "low" else "low") is None:
        inner = float(known.tallies[innermost].value)
    outer = known.tallies[outermost]
    for gap, beyond in pairwise(outward):
        is_chance = any(_is_open(run, probability) for run in (gap, beyond))
        if beyond[0].is_stable and (is_near or not is_chance):
            outer = gap[outermost]
            break
    low, high = sorted((inner, float(outer.value)))
    return low, high


def _reason(name: EndName, known: Survey) -> str:
    """Why there is no bracket at this end."""
    if not known.is_grid_finished:
        return "unknown until the coarse grid is finished"
    if not known.core:
        best = max(known.tallies, key=lambda tally: tally.stable / tally.n)
        widest = max(after.value / before.value for before, after in pairwise(known.tallies))
        return (
            f"no value is stable, the best is {_counted(best)}; move `low` and `high`, or raise "
            f"`points` if the stable values may lie within a factor {float(widest):.3g}"
        )
    tally = known.core[0 if name == "low" else -1]
    beyond, other = ("below", "lower") if name == "low" else ("above", "higher")
    return (
        f"none in the range, whose {name}est value is stable: {_counted(tally)}; "
        f"a {other} `{name}` would look {beyond} it"
    )


def _gaps(known: Survey, probability: float) -> list[str]:
    """What is unstable between stable values."""
    said = []
    for before, gap, after in zip(known.runs, known.runs[1:], known.runs[2:], strict=False):
        if not gap[0].is_stable:
            is_open = any(_is_open(run, probability) for run in (before, gap, after))
            said.append(
                f"not monotone: unstable at {', '.join(map(_counted, gap))} between stable "
                f"values {written(before[-1].value)} and {written(after[0].value)}"
                f"{'; so few seeds may also show that by chance' if is_open else ''}"
            )
    return said


def _is_open(run: Sequence[Tally], probability: float) -> bool:
    """Whether every value of a run may have been judged the wrong way, by its Wilson interval."""
    intervals = [wilson(tally.stable, tally.n) for tally in run]
    return all(low < probability < high for low, high in intervals)


def _counted(tally: Tally) -> str:
    return f"{written(tally.value)} ({tally.stable} of {tally.n} stable)"


def _plain(tally: Tally) -> dict[str, Any]:
    low, high = wilson(tally.stable, tally.n)
    return {
        "value": float(tally.value), "stable": tally.stable, "n": tally.n,
        "is_stable": tally.is_stable, "low": low, "high": high,
    }  # fmt: skip
