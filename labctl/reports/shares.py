"""Shares of seeds, counted exactly: each seed has one vote, and those of several are independent.

scipy is loaded for intervals and for the number of seeds that would do.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .statistics import LEVEL, MOST_SEEDS, POWER


@dataclass(frozen=True, slots=True)
class Share:
    """How many of the seeds that were asked said yes."""

    yes: int
    n: int
    """At least one."""

    @property
    def p_above(self) -> float:
        """p of the exact one-sided test whose rejection says that most seeds say yes."""
        return _tail(self.yes, self.n)

    @property
    def p_below(self) -> float:
        """p of the exact one-sided test whose rejection says that most seeds say no."""
        return _tail(self.n - self.yes, self.n)

    @property
    def value(self) -> float:
        return self.yes / self.n

    def interval(self) -> tuple[float, float]:
        """The two-sided 95 % interval of the share that holds a half just where neither test is
        rejected at 2.5 % (Clopper and Pearson 1934, Biometrika 26:404)."""
        from scipy.special import betaincinv

        yes, no = self.yes, self.n - self.yes
        low = float(betaincinv(yes, no + 1, LEVEL / 2)) if yes else 0.0
        high = float(betaincinv(yes + 1, no, 1 - LEVEL / 2)) if no else 1.0
        return low, high


def simes(values: Iterable[float]) -> float:
    """p of all hypotheses being true at once, if the tests of each go together or are independent
    (Simes 1986, Biometrika 73:751; Sarkar 1998, Ann. Statist. 26:494); 1 for none.

    Of several alike it is that of one, and of one alone their number times as large.
    """
    ordered = sorted(values)
    found = (len(ordered) * p / rank for rank, p in enumerate(ordered, 1))
    return min(1.0, min(found, default=1.0))


def seeds_to_show(shares: Sequence[float], levels: Sequence[float]) -> int | None:
    """Fewest seeds of which all of these shares are shown, each at its level, to lie above a half
    with probability 0.8 at least, if they are the true ones; None for more than 1000."""
    from scipy.special import bdtrc

    if min(shares) <= 0.5:
        return None
    enough = [1] * len(shares)
    for n in range(1, MOST_SEEDS + 1):
        misses = 0.0
        for place, (share, level) in enumerate(zip(shares, levels, strict=True)):
            while bdtrc(enough[place] - 1, n, 0.5) > level:
                enough[place] += 1
            misses += 1 - float(bdtrc(enough[place] - 1, n, share))
        if misses <= 1 - POWER:
            return n
    return None


def _tail(yes: int, n: int) -> float:
    """Probability of so many heads or more in `n` tosses of a fair coin."""
    ways: int = sum(math.comb(n, heads) for heads in range(yes, n + 1))
    return float(ways / 2**n)
