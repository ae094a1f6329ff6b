"""Relaxation to a fixed point, each sample for as long as it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .config import FailureConfig, RelaxConfig

Field = Callable[..., Tensor]
"""`field(x, *given)`: states (B, ...) and tensors with a row for each sample -> states (B, ...)."""
Energy = Callable[..., Tensor]
"""`energy(x, *given)` -> (B,)."""

CHECK_EVERY = 4
"""Steps between two looks, for which Python waits, at how many samples still move."""
ROUNDINGS = 4
"""Steps no longer than so many roundings of the state lead nowhere."""
COMPACT_BELOW = 0.8
"""Samples that still move are gathered once they are so small a share of those carried along."""


@dataclass(frozen=True, slots=True)
class Relaxed:
    """Where samples came to rest."""

    x: Tensor
    """States (B, ...)."""
    steps: Tensor
    """int64 (B,): steps that each took."""
    residual: Tensor
    """(B,): length of the last step, of the full step_size, over that of the state."""
    failed: Tensor
    """bool (B,): did not come to rest."""
    work: int
    """Sample-steps computed, those of samples carried along after they stopped included."""


def holds(condition: Tensor) -> bool:
    """The value of a 0-d bool; waits for the device.

    False on the meta device, where nothing has a value and work is only counted: there every
    relaxation takes all its steps.
    """
    return condition.device.type != "meta" and bool(condition)


@torch.no_grad()
def relax(
    field: Field,
    start: Tensor,
    given: tuple[Tensor, ...],
    config: RelaxConfig,
    failure: FailureConfig | None = None,
    *,
    energy: Energy | None = None,
    origin: Tensor | None = None,
    compact: bool = True,
    watched: bool = True,
) -> Relaxed:
    """Repeat x <- x + a (field(x, *given) - x), each sample until its step is short.

    A sample's a is step_size, and halved whenever its way to the field's value leads back and is
    longer than it was a step before: it then stepped too far over its goal.

    Short is at most `tol` times the length of the state, or, with `origin` (B, ...), of the way
    from there, or no more than rounding; with a `tol` of 0 no step is short. A sample that stops
    stays as it is. One whose step is no number also stops, and has failed; with `failure`, so does
    one whose step is much longer than its first, and one whose last step is too long, or whose
    `energy` rose, has failed as well.

    Args:
        compact: gather the samples that still move, when enough have stopped; as samples never
            meet, that moves a result by no more than rounding.
        watched: look now and then at how many still move, to compact and to end early. That waits
            for the device; otherwise all steps are computed, and none is waited for.
    """
    here = _Places.at_rest(start, config.step_size)
    rows = torch.arange(len(start), device=start.device)
    rest, kept, taken, work, left = here, given, 0, 0, len(start)
    while left and taken < config.max_steps:
        if compact and left <= COMPACT_BELOW * len(here.x):
            rest = rest.with_rows(rows, here)
            moving = here.moving
            rows, here = rows[moving], here.at(moving)
            kept = tuple(tensor[moving] for tensor in kept)
            origin = None if origin is None else origin[moving]
        here = _stepped(here, field(here.x, *kept) - here.x, config, failure, origin, not taken)
        taken, work = taken + 1, work + len(here.x)
        if watched and taken % CHECK_EVERY == 0 and start.device.type != "meta":
            left = int(here.moving.sum())
    rest = here if len(rows) == len(start) else rest.with_rows(rows, here)
    residual = torch.where(rest.steps > 0, rest.length / _lengths(rest.x), 0)
    failed = ~(rest.length <= rest.limit)
    if failure is not None:
        failed = failed | ~(residual <= failure.residual)
        if energy is not None and failure.energy_rise is not None:
            before, after = energy(start, *given), energy(rest.x, *given)
            failed = failed | ~(after - before <= failure.energy_rise * before.abs())
    return Relaxed(rest.x, rest.steps, residual, failed, work)


class _Places(NamedTuple):
    """Where samples are, and how they came there; each (B, ...)."""

    x: Tensor
    way: Tensor
    """From the state before the last step to the field's value there."""
    steps: Tensor
    rate: Tensor
    """Share of the way to the field's value that the next step goes, at most."""
    length: Tensor
    """Of the last step, had its rate been the first."""
    limit: Tensor
    """A longer step, or one that is no number, is a sample's last."""
    moving: Tensor

    @classmethod
    def at_rest(cls, x: Tensor, rate: float) -> _Places:
        """Before the first step."""
        count = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        length = x.new_full((len(x),), torch.inf)
        moving = torch.ones_like(count, dtype=torch.bool)
        rates = torch.full_like(length, rate)
        return cls(x, torch.zeros_like(x), count, rates, length, length, moving)

    def at(self, chosen: Tensor) -> _Places:
        return _Places(*(tensor[chosen] for tensor in self))

    def with_rows(self, rows: Tensor, others: _Places) -> _Places:
        """These, but `others` at int64 rows."""
        pairs = zip(self, others, strict=True)
        return _Places(*(tensor.index_copy(0, rows, other) for tensor, other in pairs))


def _stepped(
    here: _Places,
    way: Tensor,
    config: RelaxConfig,
    failure: FailureConfig | None,
    origin: Tensor | None,
    is_first: bool,
) -> _Places:
    """A step of those that move, on their way to the field's value; the first sets the limit of
    the others."""
    size = _lengths(way) * config.step_size
    back = torch.linalg.vecdot(way.flatten(1), here.way.flatten(1)) < 0
    rate = torch.where(back & (size > here.length), here.rate / 2, here.rate)
    moved = torch.addcmul(here.x, way, _wide(rate, way))
    limit = here.limit
    if is_first and failure is not None:
        limit = failure.growth * size
    goes_on = size <= limit
    if config.tol:
        goes_on = goes_on & (size > _short(moved, origin, config.tol))
    x = torch.where(_wide(here.moving, moved), moved, here.x)
    last = torch.where(here.moving, size, here.length)
    return _Places(x, way, here.steps + here.moving, rate, last, limit, here.moving & goes_on)


def _short(moved: Tensor, origin: Tensor | None, tol: float) -> Tensor:
    """Steps that are no longer lead nowhere, (B,)."""
    length = _lengths(moved)
    rounding = ROUNDINGS * torch.finfo(moved.dtype).eps
    if origin is None:
        return length * max(tol, rounding)
    return torch.maximum(tol * _lengths(moved - origin), rounding * length)


def unroll(field: Field, x: Tensor, given: tuple[Tensor, ...], config: RelaxConfig) -> Tensor:
    """All of `max_steps` steps of every sample, in a way that can be differentiated."""
    for _ in range(config.max_steps):
        x = torch.lerp(x, field(x, *given), config.step_size)
    return x


def _lengths(x: Tensor) -> Tensor:
    """Euclidean length of each sample, (B,)."""
    length: Tensor = torch.linalg.vector_norm(x.flatten(1), dim=1)
    return length


def _wide(flags: Tensor, x: Tensor) -> Tensor:
    """Flags (B,) shaped to choose among rows of `x`."""
    return flags.view(-1, *[1] * (x.ndim - 1))
