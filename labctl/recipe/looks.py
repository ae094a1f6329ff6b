"""How often a run looks at a comparison of a stop rule, as far as its recipe tells."""

from __future__ import annotations

import math

from .document import Document
from .predicate import Comparison
from .times import Clock, Time

LOGS_PER_EPOCH = 10
"""Training metrics are journalled so often if the recipe does not say."""
LOGS = 500
"""And no oftener in a whole run, unless that were less than once an epoch: for each the device is
waited for."""


def log_every(document: Document, clock: Clock) -> int:
    """Steps between two records of training metrics."""
    if document.runtime.log_every is not None:
        return _steps(clock, document.runtime.log_every)
    epochs = max(1.0, clock.steps / clock.steps_per_epoch)
    per_epoch = min(LOGS_PER_EPOCH, max(1, int(LOGS / epochs)))
    return max(1, clock.steps_per_epoch // per_epoch)


def most_looks(comparison: Comparison, document: Document, clock: Clock) -> int:
    """Never fewer than there are; a recipe whose run looks less often cannot meet the rule.

    Raises:
        ValueError: a time of the recipe cannot be placed.
    """
    if any(name.startswith("train/clean/") for name in comparison.metrics):
        return 1  # with the last evaluation
    every = _steps(clock, document.evaluate.every)
    tail = round(clock.step(document.evaluate.tail))
    between = log_every(document, clock)
    begin = math.floor(clock.step(comparison.after))
    are_evaluated = {is_evaluated(name) for name in comparison.metrics}
    evaluations = _evaluations(clock, every, tail, begin) if True in are_evaluated else 0
    logs = _multiples(between, begin, clock.steps) + (clock.steps % between > 0)
    return evaluations + (logs if False in are_evaluated else 0)


def is_evaluated(metric: str) -> bool:
    """Whether it comes of evaluations, and not of steps."""
    return metric.startswith(("val/", "test/", "train/clean/"))


def _evaluations(clock: Clock, every: int, tail: int, begin: int) -> int:
    """Evaluations after step `begin`; the last step has one in any case."""
    end, epoch = clock.steps, clock.steps_per_epoch
    tail_begin = max(begin, end - tail)
    in_tail = _multiples(epoch, tail_begin, end)
    both = _multiples(math.lcm(every, epoch), tail_begin, end)
    is_counted = end % every == 0 or (tail > 0 and end % epoch == 0)
    return _multiples(every, begin, end) + in_tail - both + (not is_counted)


def _multiples(every: int, begin: int, end: int) -> int:
    """How many lie after `begin` and not after `end`."""
    return end // every - begin // every


def _steps(clock: Clock, length: Time) -> int:
    return max(1, round(clock.step(length)))
