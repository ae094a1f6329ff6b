"""How finely a quantity can be told: an accuracy on N examples moves in steps of 1 / N."""

from __future__ import annotations

import math

from labctl.recipe.derived import is_accuracy

from .comparison import values
from .quantity import GAP
from .rows import Row

OFF = 0.01
"""A value this far, in steps, from a whole number of examples is none: some are kept as float32."""


def step_of(row: Row, quantity: str) -> float:
    """The least amount by which two values of the quantity can differ, in the unit of tables; 0 for
    what is no share of examples, such as a loss, a time or a count, or not finite.

    An accuracy that is no whole number of its split's examples, such as a mean over several passes,
    is told more finely than by one of them. A measurement is taken to be of the test split.
    """
    if quantity == "gap":
        return step_of_both(*(step_of(row, metric) for metric in GAP))
    if not is_accuracy(quantity):
        return 0.0
    sizes, val = dict(row.recipe.spec.sizes), row.recipe.document.data.val
    if val:
        sizes |= {"val": val, "train": sizes["train"] - val}
    step = 100 / sizes.get(quantity.partition("/")[0], sizes.get("test", sizes["train"]))
    counts = (value / step for value in values(row, quantity).values())
    return step if all(map(_is_whole, counts)) else 0.0


def step_of_both(one: float, other: float) -> float:
    """That of a difference: both together; none if one of the two has none, for then no two
    differences agree by chance."""
    return one + other if one and other else 0.0


def _is_whole(count: float) -> bool:
    return math.isfinite(count) and abs(count - round(count)) < OFF
