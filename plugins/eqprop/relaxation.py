"""Relaxation to a fixed point, each sample for as long as it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from labctl.api import Replay, eagerly

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
    origin: Tensor | None = None,
    chosen: Tensor | None = None,
    compact: bool = True,
    replay: Replay = eagerly,
) -> Relaxed:
    """Repeat x <- x + a (field(x, *given) - x), each sample until its step is short.

    A sample's a is step_size, and halved whenever its way to the field's value leads back and is
    longer than it was a step before: it then stepped too far over its goal.

    Short is at most `tol` times the length of the state, or, with `origin` (B, ...), of the way
    from there, or no more than rounding; with a `tol` of 0 no step is short. A sample that stops
    stays as it is, and when enough have stopped the rest are gathered, with `compact`; as samples
    never meet, neither moves a result but by rounding. A sample whose step is no number also stops,
    and has failed; with `failure`, so does one whose step is much longer than its first, and one
    whose last step is too long has failed as well. With bool `chosen` (B,) the others stay where
    they are. `replay` evaluates several steps; where it records them it takes all at once, for a
    look at how many samples still move costs more than to go on.
    """
    here = _Places.at_rest(start, config.step_size, chosen)
    rows = torch.arange(len(start), device=start.device)
    rest, taken, work = here, 0, 0
    left = len(start) if chosen is None else int(chosen.sum())
    every = CHECK_EVERY if replay is eagerly else config.max_steps
    while left and taken < config.max_steps:
        if compact and left <= COMPACT_BELOW * len(here.x):
            rest = rest.with_rows(rows, here)
            moving = here.moving
            rows, here = rows[moving], here.at(moving)
            given = tuple(tensor[moving] for tensor in given)
            origin = None if origin is None else origin[moving]
        count = min(every, config.max_steps - taken)
        stretch = _Stretch(field, config, failure, count, taken == 0, origin is not None)
        kept = given if origin is None else (origin, *given)
        here = _Places(*replay(stretch, stretch, *here, *kept))
        taken, work = taken + count, work + count * len(here.x)
        left = len(start) if start.device.type == "meta" else int(here.moving.sum())
    rest = here if len(rows) == len(start) else rest.with_rows(rows, here)
    residual = torch.where(rest.steps > 0, rest.length / _lengths(rest.x), 0)
    lost = ~(rest.length <= rest.limit)
    failed = lost if failure is None else lost | ~(residual <= failure.residual)
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
    def at_rest(cls, x: Tensor, rate: float, chosen: Tensor | None) -> _Places:
        """Before the first step of all, or of those that are chosen."""
        count = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        length = x.new_full((len(x),), torch.inf)
        moving = torch.ones_like(count, dtype=torch.bool) if chosen is None else chosen
        rates = torch.full_like(length, rate)
        return cls(x, torch.zeros_like(x), count, rates, length, length, moving)

    def at(self, chosen: Tensor) -> _Places:
        return _Places(*(tensor[chosen] for tensor in self))

    def with_rows(self, rows: Tensor, others: _Places) -> _Places:
        """These, but `others` at int64 rows."""
        pairs = zip(self, others, strict=True)
        return _Places(*(tensor.index_copy(0, rows, other) for tensor, other in pairs))


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Several steps without a look: places, origin if there is one, and what the field is given ->
    places."""

    field: Field
    config: RelaxConfig
    failure: FailureConfig | None
    count: int
    is_first: bool
    """Whether nothing has moved yet: the first step then sets the limit of the others."""
    has_origin: bool

    def __call__(self, *tensors: Tensor) -> _Places:
        here, kept = _Places(*tensors[: len(_Places._fields)]), tensors[len(_Places._fields) :]
        origin, given = (kept[0], kept[1:]) if self.has_origin else (None, kept)
        for place in range(self.count):
            here = self._step(here, origin, given, self.is_first and not place)
        return here

    def _step(
        self, here: _Places, origin: Tensor | None, given: tuple[Tensor, ...], is_first: bool
    ) -> _Places:
        way = self.field(here.x, *given) - here.x
        size = _lengths(way) * self.config.step_size
        back = torch.linalg.vecdot(way.flatten(1), here.way.flatten(1)) < 0
        rate = torch.where(back & (size > here.length), here.rate / 2, here.rate)
        moved = here.x + way * _wide(rate, way)
        limit = here.limit
        if is_first and self.failure is not None:
            limit = self.failure.growth * size
        goes_on = size <= limit
        if self.config.tol:
            goes_on = goes_on & (size > self._short(moved, origin))
        x = torch.where(_wide(here.moving, moved), moved, here.x)
        last = torch.where(here.moving, size, here.length)
        return _Places(x, way, here.steps + here.moving, rate, last, limit, here.moving & goes_on)

    def _short(self, moved: Tensor, origin: Tensor | None) -> Tensor:
        """Steps that are no longer lead nowhere, (B,)."""
        length, tol = _lengths(moved), self.config.tol
        rounding = ROUNDINGS * torch.finfo(moved.dtype).eps
        if origin is None:
            return length * max(tol, rounding)
        return torch.maximum(tol * _lengths(moved - origin), rounding * length)


@dataclass(frozen=True, slots=True)
class _Descent:
    """Whether the energy fell, or hardly rose, (B,): start, end and what the energy is given."""

    energy: Energy
    rise: float

    def __call__(self, start: Tensor, end: Tensor, *given: Tensor) -> tuple[Tensor]:
        before, after = self.energy(start, *given), self.energy(end, *given)
        return (after - before <= self.rise * before.abs(),)


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
    replay: Replay = eagerly,
) -> Relaxed:
    """As `relax`; what fails, or ends at a higher energy, is tried once more with half the step."""

    def attempt(config: RelaxConfig, chosen: Tensor | None = None) -> Relaxed:
        compact = replay is eagerly  # a recording is of one number of samples
        found = relax(
            field, start, given, config, failure,
            origin=origin, chosen=chosen, compact=compact, replay=replay,
        )  # fmt: skip
        if failure.energy_rise is None:
            return found
        descent = _Descent(energy, failure.energy_rise)
        (fell,) = replay(descent, descent, start, found.x, *given)
        return Relaxed(found.x, found.steps, found.residual, found.failed | ~fell, found.work)

    first = attempt(config)
    again = first.failed
    if not holds(again.any()):
        return first
    second = attempt(config.model_copy(update={"step_size": config.step_size / 2}), again)
    return Relaxed(
        torch.where(_wide(again, first.x), second.x, first.x),
        first.steps + second.steps,
        torch.where(again, second.residual, first.residual),
        again & second.failed,
        first.work + second.work,
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
