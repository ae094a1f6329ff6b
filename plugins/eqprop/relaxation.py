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
    """(B,): length of the last step over that of the state."""
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
    origin: Tensor | None = None,
    compact: bool = True,
) -> Relaxed:
    """Repeat x <- x + step_size (field(x, *given) - x), each sample until its step is short.

    Short is less than `tol` times the length of the state, or, with `origin` (B, ...), of the way
    from there. A sample that stops stays as it is, and when enough have stopped the rest are
    gathered; as samples never meet, neither moves a result but by rounding. With `failure`, a
    sample also stops when its step is not finite or much longer than its first, and has failed
    then, as it has when its last step is too long.
    """
    rows, x = torch.arange(len(start), device=start.device), start
    moving = torch.ones_like(rows, dtype=torch.bool)
    here = _Places(x, torch.zeros_like(rows), _lengths(x).fill_(torch.inf), ~moving)
    rest, first, work = here, here.length, 0
    for step in range(1, config.max_steps + 1):
        move = (field(here.x, *given) - here.x).mul_(config.step_size)
        size = _lengths(move)
        work += len(size)
        first = size if step == 1 else first
        moved = here.x + move
        way = _lengths(moved if origin is None else moved - origin)
        here = _Places(
            torch.where(_wide(moving, moved), moved, here.x),
            here.steps + moving,
            torch.where(moving, size, here.length),
            here.lost,
        )
        if failure is not None:
            wild = moving & ~(size <= failure.growth * first)
            here = here._replace(lost=here.lost | wild)
            moving = moving & ~wild
        moving = moving & ~(size < config.tol * way)
        if step % CHECK_EVERY or start.device.type == "meta":
            continue
        left = int(moving.sum())
        if not left:
            break
        if compact and left <= COMPACT_BELOW * len(moving):
            rest = rest.with_rows(rows, here)
            rows, first, here = rows[moving], first[moving], here.at(moving)
            given = tuple(tensor[moving] for tensor in given)
            origin = None if origin is None else origin[moving]
            moving = moving[moving]
    rest = here if len(rows) == len(start) else rest.with_rows(rows, here)
    residual = torch.where(rest.steps > 0, rest.length / _lengths(rest.x), 0)
    failed = rest.lost if failure is None else rest.lost | ~(residual <= failure.residual)
    return Relaxed(rest.x, rest.steps, residual, failed, work)


class _Places(NamedTuple):
    """Where samples are, and how they came there; each (B, ...)."""

    x: Tensor
    steps: Tensor
    length: Tensor
    """Of the last step."""
    lost: Tensor
    """Whether its steps were not finite, or grew too long."""

    def at(self, chosen: Tensor) -> _Places:
        return _Places(*(tensor[chosen] for tensor in self))

    def with_rows(self, rows: Tensor, others: _Places) -> _Places:
        """These, but `others` at int64 rows."""
        pairs = zip(self, others, strict=True)
        return _Places(*(tensor.index_copy(0, rows, other) for tensor, other in pairs))


@torch.no_grad()
def relax_safely(
    field: Field,
    start: Tensor,
    given: tuple[Tensor, ...],
    config: RelaxConfig,
    failure: FailureConfig,
    energy: Energy,
    *,
    origin: Tensor | None = None,
) -> Relaxed:
    """As `relax`; what fails, or ends at a higher energy, is tried once more with half the step."""

    def attempt(
        start: Tensor, given: tuple[Tensor, ...], config: RelaxConfig, origin: Tensor | None
    ) -> Relaxed:
        found = relax(field, start, given, config, failure, origin=origin)
        if failure.energy_rise is None:
            return found
        before, after = energy(start, *given), energy(found.x, *given)
        fell = after - before <= failure.energy_rise * before.abs()
        return Relaxed(found.x, found.steps, found.residual, found.failed | ~fell, found.work)

    first = attempt(start, given, config, origin)
    if not holds(first.failed.any()):
        return first
    rows = first.failed.nonzero().squeeze(1)
    halved = config.model_copy(update={"step_size": config.step_size / 2})
    again = attempt(
        start[rows],
        tuple(tensor[rows] for tensor in given),
        halved,
        None if origin is None else origin[rows],
    )
    return Relaxed(
        first.x.index_copy(0, rows, again.x),
        first.steps.index_add(0, rows, again.steps),
        first.residual.index_copy(0, rows, again.residual),
        first.failed.index_copy(0, rows, again.failed),
        first.work + again.work,
    )


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
