"""Means, spreads, intervals and tests over seeds. scipy is loaded when a t is needed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

LEVEL = 0.05
"""Probability of error that a verdict is allowed."""
POWER = 0.8
"""Probability with which as many seeds as are called enough would settle a claim."""
MOST_SEEDS = 1000
"""More seeds than this are not counted."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Mean and spread of one value per seed."""

    mean: float
    """nan if one of the values is not finite."""
    sd: float | None
    """Of the sample, n - 1 in the denominator; None for a single value."""
    n: int
    step: float = 0.0
    """The least amount by which two values can differ; 0 if they are as fine as floats."""

    @property
    def known_sd(self) -> float:
        """The spread that has to be reckoned with: what shows as one value may lie anywhere within
        half a step of it, with an sd of half a step at most (Popoviciu)."""
        return max(self.sd or 0.0, self.step / 2)


def summary(values: Sequence[float]) -> Summary:
    """Mean and standard deviation of at least one value."""
    n = len(values)
    if not all(map(math.isfinite, values)):
        return Summary(math.nan, math.nan if n > 1 else None, n)
    mean = math.fsum(values) / n
    if n < 2:
        return Summary(mean, None, n)
    return Summary(mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1)), n)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean, or the difference of the means of two independent samples, and how sure it is."""

    mean: float
    samples: tuple[Summary, ...]
    """One, or two: each finite, with its sd."""

    @property
    def n(self) -> int:
        """Seeds in the smallest sample."""
        return min(sample.n for sample in self.samples)

    def spread(self, n: int | None = None) -> tuple[float, float]:
        """Standard error and degrees of freedom; if given, those of `n` seeds in each sample.

        A sample has a spread of half the step of its values at least. Of one sample sd / sqrt(n)
        and n - 1; of two by Welch (1947, Biometrika 34:28), which for one sample is the same.
        """
        parts = [(s.known_sd**2 / (n or s.n), (n or s.n) - 1) for s in self.samples]
        variance = math.fsum(part for part, _ in parts)
        if variance == 0:
            return 0.0, math.inf
        shares = [(part / variance, freedom) for part, freedom in parts if part]
        return math.sqrt(variance), 1 / math.fsum(s**2 / freedom for s, freedom in shares)

    @property
    def is_planned(self) -> bool:
        """Whether a plan decides it, so that one seed says all."""
        return self.n == 1

    @property
    def is_alike(self) -> bool:
        """Whether all seeds gave the same value."""
        return not self.is_planned and not any(sample.sd for sample in self.samples)

    @property
    def is_coarse(self) -> bool:
        """Whether seeds differ by less than the values can tell."""
        return any((sample.sd or 0.0) < sample.known_sd for sample in self.samples)

    def half_width(self, n: int | None = None, confidence: float = 1 - LEVEL) -> float:
        """Half of the two-sided interval for the mean; if given, of `n` seeds in each sample."""
        error, freedom = self.spread(n)
        return _quantile(freedom, (1 + confidence) / 2) * error if error else 0.0

    def interval(self, confidence: float = 1 - LEVEL) -> tuple[float, float]:
        """The two-sided interval for the mean."""
        half = self.half_width(confidence=confidence)
        return self.mean - half, self.mean + half

    def p_above(self, bound: float) -> float:
        """p of the one-sided test whose rejection says that the mean lies above `bound`; not
        for what has no spread."""
        error, freedom = self.spread()
        return _tail(freedom, (self.mean - bound) / error)

    def p_below(self, bound: float) -> float:
        """p of the one-sided test whose rejection says that the mean lies below `bound`; not
        for what has no spread."""
        error, freedom = self.spread()
        return _tail(freedom, (bound - self.mean) / error)


def estimate(values: Sequence[float], step: float = 0.0) -> Estimate | None:
    """The mean of one sample, whose values can differ by `step` at least; None with fewer than two
    values, or one that is not finite."""
    found = summary(values) if values else None
    if found is None or found.sd is None or not math.isfinite(found.mean):
        return None
    return Estimate(found.mean, (replace(found, step=step),))


def exact(value: float) -> Estimate:
    """A value that has no spread because a plan decides it."""
    return Estimate(value, (Summary(value, 0.0, 1),))


def unpaired(
    ours: Sequence[float], theirs: Sequence[float], steps: tuple[float, float] = (0.0, 0.0)
) -> Estimate | None:
    """Mean of `ours` minus that of `theirs`, of seeds that have nothing to do with one another."""
    one, other = estimate(ours, steps[0]), estimate(theirs, steps[1])
    if one is None or other is None:
        return None
    return Estimate(one.mean - other.mean, (*one.samples, *other.samples))


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where a mean is claimed to lie."""

    low: float = -math.inf
    high: float = math.inf
    is_margin: bool = False
    """Whether an equivalence is claimed: it is kept by two one-sided tests, each at the whole level
    (Schuirmann 1987, J. Pharmacokinet. Biopharm. 15:657), so that the 90 % interval decides; else
    the 95 % interval does, as for any other bound."""
    is_open: bool = False
    """Whether the bounds themselves lie outside."""

    def __contains__(self, value: float) -> bool:
        if self.is_open:
            return self.low < value < self.high
        return self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class Tails:
    """How well data go with a claim being false, and with its being true."""

    kept: float
    """p of the test whose rejection says that the claim holds."""
    broken: float
    """p of the test whose rejection says that it does not."""

    @property
    def least(self) -> float:
        """p of the test that is nearer to a verdict."""
        return min(self.kept, self.broken)

    @property
    def is_for(self) -> bool:
        """Whether that one speaks for the claim."""
        return self.kept < self.broken


def tails(found: Estimate, bounds: Bounds) -> Tails:
    """An estimate held against bounds; `kept` and `broken` are at most 0.05 exactly where the
    interval lies inside of the bounds, and outside."""
    if found.spread()[0] == 0:
        is_inside = found.mean in bounds
        return Tails(float(not is_inside), float(is_inside))
    inside = [found.p_above(bounds.low)] if math.isfinite(bounds.low) else []
    inside += [found.p_below(bounds.high)] if math.isfinite(bounds.high) else []
    outside = [found.p_below(bounds.low)] if math.isfinite(bounds.low) else []
    outside += [found.p_above(bounds.high)] if math.isfinite(bounds.high) else []
    sides = 1 if bounds.is_margin else 2
    return Tails(min(1.0, sides * max(inside)), min(1.0, 2 * min(outside)))


def all_of(parts: Sequence[Tails]) -> Tails:
    """A claim that is true if all of its parts are: each verdict on a part is corrected by Holm for
    the others, the claim holds when all parts do, and does not when one part does not."""
    adjusted = holm([part.least for part in parts])
    kept = max(adjusted) if all(part.is_for for part in parts) else 1.0
    against = [p for p, part in zip(adjusted, parts, strict=True) if not part.is_for]
    return Tails(kept, min(against, default=1.0))


def holm(values: Sequence[float]) -> list[float]:
    """p values corrected for their number, by Holm (1979, Scand. J. Statist. 6:65): to reject those
    that are at most 0.05 errs in any of them with probability 0.05 at most."""
    order = sorted(range(len(values)), key=lambda place: values[place])
    adjusted, largest = [1.0] * len(values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - rank) * values[place]))
        adjusted[place] = largest
    return adjusted


def seeds_needed(found: Estimate, bounds: Bounds, level: float = LEVEL) -> int | None:
    """Fewest seeds with which the verdict would be clear with probability 0.8, at least.

    Assumes that the mean is the true one, and that the spread stays as it is; of two samples as
    many seeds each. None if more than 1000 would be needed, or if no number would do.
    """
    if found.mean in (bounds.low, bounds.high):
        return None
    numbers = range(2, MOST_SEEDS + 1)
    return next((n for n in numbers if power(found, bounds, n, level) >= POWER), None)


def power(found: Estimate, bounds: Bounds, n: int, level: float = LEVEL) -> float:
    """Probability that `n` seeds show the mean to lie on that side of the bounds where it does lie.

    From the noncentral t; of two bounds at once a lower limit, for both tests must reject, and they
    fail together with no more than the sum of their probabilities to fail.
    """
    error, freedom = found.spread(n)
    if error == 0:
        return 1.0
    is_inside = found.mean in bounds
    quantile = _quantile(freedom, 1 - (level if is_inside and bounds.is_margin else level / 2))
    distances = (found.mean - bounds.low, bounds.high - found.mean)
    if is_inside:
        failures = (_misses(d / error, freedom, quantile) for d in distances if math.isfinite(d))
        return max(0.0, 1.0 - math.fsum(failures))
    return 1.0 - _misses(-min(distances) / error, freedom, quantile)


def resolvable(n: int, level: float = LEVEL) -> float:
    """The smallest mean of `n` values, two or more, in their standard deviations, that the
    two-sided t test against zero shows with probability 0.8."""
    from scipy.optimize import brentq

    quantile = _quantile(n - 1, 1 - level / 2)
    misses = partial(_misses, freedom=n - 1, quantile=quantile)
    # From no effect to one far beyond what two seeds can show.
    found = brentq(lambda shift: misses(shift) - (1 - POWER), 0.0, 8 * quantile)
    return float(found) / math.sqrt(n)


def _misses(noncentrality: float, freedom: float, quantile: float) -> float:
    from scipy.special import nctdtr

    return float(nctdtr(freedom, noncentrality, quantile))


def _quantile(freedom: float, probability: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))


def _tail(freedom: float, t: float) -> float:
    """Probability of a t that is larger."""
    from scipy.special import stdtr

    return float(stdtr(freedom, -t))


def paired(
    ours: Mapping[int, float], theirs: Mapping[int, float]
) -> dict[int, tuple[float, float]]:
    """Both values by seed, of the seeds that both have, in order."""
    return {seed: (ours[seed], theirs[seed]) for seed in sorted(ours.keys() & theirs.keys())}
