"""Which trials would find the ends of the range of a parameter in which training is stable.

A coarse logarithmic grid is tried first, at every seed: a boundary need not be the only one
(Sohl-Dickstein 2024, arXiv 2402.06184), and one seed would misjudge a value in the transition as
often as not. Then the gap at either end of the widest stable interval is halved until it is narrow
enough. All of it follows from the finished trials alone, so a search that was killed goes on where
it was, and trials of earlier sweeps count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby, pairwise
from typing import Literal, Self

from pydantic import Field, model_validator

from labctl.registry.config import Config

from .values import significant

EndName = Literal["low", "high"]
ENDS: tuple[EndName, EndName] = ("low", "high")


class BoundaryConfig(Config):
    """Where to look for the ends of the stable range, and how closely."""

    low: float = Field(gt=0)
    """Lowest value tried."""
    high: float = Field(gt=0)
    """Highest value tried."""
    points: int = Field(default=8, ge=3, le=1000)
    """Values of the coarse grid, `low` and `high` included."""
    ratio: float = Field(default=1.05, gt=1)
    """An end is found when an unstable and a stable value are within this ratio."""
    digits: int = Field(default=4, ge=2, le=12)
    """Significant digits of the values between `low` and `high`."""
    probability: float = Field(default=0.5, gt=0, lt=1)
    """A value is stable if at least this share of its trials are."""
    integer: bool = False
    """Try whole numbers only, until neighbours if need be; set for fields that hold one."""

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} must be below high {self.high:g}")
        if self.integer and any(end != int(end) for end in (self.low, self.high)):
            raise ValueError(
                f"{self.low:g} to {self.high:g} should be whole numbers, as the field's"
            )
        finest = 1 + 2 * 10.0 ** (1 - self.digits)
        if self.ratio < finest:
            raise ValueError(
                f"values of {self.digits} digits cannot be told apart at ratio {self.ratio:g}; "
                f"raise ratio to {finest:g}, or digits"
            )
        return self

    def rounded(self, value: float) -> Decimal:
        """`value` as it can be tried."""
        return Decimal(round(value)) if self.integer else significant(value, self.digits)


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of training at one value with one seed."""

    value: Decimal
    seed: int
    is_stable: bool


@dataclass(frozen=True, slots=True)
class Tally:
    """The trials at one value."""

    value: Decimal
    stable: int
    n: int
    is_stable: bool
    """At least the share of them that the search asks for."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What finished trials say about the range, in order of the value."""

    tallies: tuple[Tally, ...]
    """Every value in the range with a trial."""
    runs: tuple[tuple[Tally, ...], ...]
    """Values that all seeds have tried, split where stable ones meet unstable ones."""
    is_grid_finished: bool

    @property
    def core(self) -> tuple[Tally, ...]:
        """The run of stable values over the widest range, the lowest of equals; () if none."""
        stable = [run for run in self.runs if run[0].is_stable]
        return max(stable, key=lambda run: run[-1].value / run[0].value, default=())

    def bracket(self, end: EndName) -> tuple[Tally, Tally] | None:
        """The unstable value next to the core and the stable one at its end."""
        if not self.core:
            return None
        place = self.runs.index(self.core)
        if end == "low":
            return (self.runs[place - 1][-1], self.core[0]) if place > 0 else None
        return (self.runs[place + 1][0], self.core[-1]) if place + 1 < len(self.runs) else None


def grid(config: BoundaryConfig) -> tuple[Decimal, ...]:
    """The coarse values: the two ends as they were given, the others rounded."""
    first, last = Decimal(str(config.low)), Decimal(str(config.high))
    low, step = math.log(config.low), math.log(config.high / config.low) / (config.points - 1)
    between = {
        config.rounded(math.exp(low + step * place)) for place in range(1, config.points - 1)
    }
    return (first, *sorted(value for value in between if first < value < last), last)


def survey(config: BoundaryConfig, seeds: Sequence[int], trials: Sequence[Trial]) -> Survey:
    """Sort trials by value; the last counts of two with the same value and seed.

    Those outside the range are left out. Trials of other seeds count, but a value is judged only
    when all of `seeds` have tried it.
    """
    first, last = Decimal(str(config.low)), Decimal(str(config.high))
    found: dict[Decimal, dict[int, bool]] = {}
    for trial in trials:
        if first <= trial.value <= last:
            found.setdefault(trial.value, {})[trial.seed] = trial.is_stable
    tallies = tuple(_tally(value, found[value], config) for value in sorted(found))
    judged = [tally for tally in tallies if found[tally.value].keys() >= set(seeds)]
    runs = tuple(tuple(run) for _, run in groupby(judged, key=lambda tally: tally.is_stable))
    return Survey(tallies, runs, set(grid(config)) <= {tally.value for tally in judged})


def next_trials(
    config: BoundaryConfig, seeds: Sequence[int], trials: Sequence[Trial]
) -> list[tuple[Decimal, int]]:
    """Values and seeds to try now, all at the same time if one likes; empty if nothing is left.

    Args:
        config: where to look.
        seeds: every value is tried with each; the order is kept.
        trials: those that have finished, in any order.
    """
    known = survey(config, seeds, trials)
    values = grid(config)
    if known.is_grid_finished:
        brackets = [bracket for end in ENDS if (bracket := known.bracket(end))]
        halves = [_halfway(config, *sorted(tally.value for tally in pair)) for pair in brackets]
        values = tuple(value for value in halves if value is not None)
    finished = {(trial.value, trial.seed) for trial in trials}
    return [(value, seed) for value in values for seed in seeds if (value, seed) not in finished]


def most_trials(config: BoundaryConfig, seeds: Sequence[int]) -> int:
    """The most trials that a search begun with none can take, were both ends in the range."""
    values = grid(config)
    if config.integer:
        halvings = max(_halvings(config, *pair) for pair in pairwise(values))
        return (len(values) + 2 * halvings) * len(seeds)
    widest = max(math.log(after / before) for before, after in pairwise(values))
    # Each half is out by at most the rounding of its end; those errors add up to twice the first.
    narrow = math.log(config.ratio) + 2 * math.log1p(-(10.0 ** (1 - config.digits)) / 2)
    halvings = max(0, math.ceil(math.log2(widest / narrow)))
    return (len(values) + 2 * halvings) * len(seeds)


def _tally(value: Decimal, found: dict[int, bool], config: BoundaryConfig) -> Tally:
    stable, n = sum(found.values()), len(found)
    return Tally(value, stable, n, stable / n >= config.probability)


def _halvings(config: BoundaryConfig, below: Decimal, above: Decimal) -> int:
    """The most values that can be tried between two, one after the other."""
    value = _halfway(config, below, above)
    if value is None:
        return 0
    return 1 + max(_halvings(config, below, value), _halvings(config, value, above))


def _halfway(config: BoundaryConfig, below: Decimal, above: Decimal) -> Decimal | None:
    """The value halfway between the logarithms of two; None if they are near enough."""
    if float(above / below) <= config.ratio:
        return None
    value = config.rounded(math.sqrt(below * above))
    return value if below < value < above else None
