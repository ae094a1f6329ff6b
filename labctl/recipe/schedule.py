"""Schedules: pure functions of the step that say where a knob stands. No state, no torch."""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator

from labctl.registry.card import KnobValue
from labctl.registry.config import Config

from .times import Clock, Time

_BEGIN, _END = Time(0, "%"), Time(100, "%")


class Schedule(Config):
    """Where a knob stands at each step.

    `resolved(clock)` gives the same schedule with every time in steps; `at(step)` is asked of that.
    """

    def at(self, step: float) -> KnobValue:
        """The value at `step`, counted from 0; times must be resolved."""
        raise TypeError(f"schedule {type(self).__name__} has no `at`")

    def resolved(self, clock: Clock) -> Self:
        """Every field that is a time, in steps."""
        times = {name: clock.resolved(value) for name, value in self if isinstance(value, Time)}
        return self.model_copy(update=times)

    def fault(self, clock: Clock) -> str | None:
        """Why this schedule cannot be carried out within the budget; None if it can."""
        for name, value in self:
            if isinstance(value, Time) and clock.step(value) > clock.steps + 1e-6:
                return _beyond(name, value, clock)
        return None

    def edges(self) -> Iterator[float]:
        """Steps at which the resolved schedule begins, ends or jumps."""
        for _, value in self:
            if isinstance(value, Time):
                yield value.value

    def values(self) -> Iterator[KnobValue]:
        """Values that the schedule names itself, its extremes among them."""
        for name, value in self:
            if name in ("from_", "to", "peak", "value"):
                yield value


def _beyond(name: str, time: Time, clock: Clock) -> str:
    return (
        f"{name} {time} is step {clock.step(time):g}, but the budget ends at step {clock.steps} "
        f"({clock.steps / clock.steps_per_epoch:g}ep); give it in % or shorten it"
    )


class Constant(Schedule):
    """One value throughout."""

    kind: Literal["constant"] = "constant"
    value: float | str

    def at(self, step: float) -> KnobValue:
        return self.value


class Ramp(Schedule):
    """From one number to another between two times; flat before and after."""

    from_: float = Field(alias="from")
    """Value up to `start`."""
    to: float
    """Value from `end` on."""
    start: Time = _BEGIN
    end: Time = _END

    def progress(self, step: float) -> float:
        """Share of the way from `start` to `end`, in [0, 1]."""
        start, end = self.start.value, self.end.value
        return 1.0 if step >= end else 0.0 if step <= start else (step - start) / (end - start)

    def fault(self, clock: Clock) -> str | None:
        if clock.step(self.end) <= clock.step(self.start):
            return f"end {self.end} is not after start {self.start}"
        return super().fault(clock)

    def between(self, share: float) -> float:
        """Exactly `from` at 0 and `to` at 1."""
        return self.to if share >= 1 else self.from_ + (self.to - self.from_) * share


class Linear(Ramp):
    """from + (to - from) u, u the progress from start to end."""

    kind: Literal["linear"] = "linear"

    def at(self, step: float) -> float:
        return self.between(self.progress(step))


class Polynomial(Ramp):
    """from + (to - from) u^power, or with `ease: out` from + (to - from) (1 - (1 - u)^power)."""

    kind: Literal["polynomial"] = "polynomial"
    power: float = Field(default=1.0, gt=0)
    ease: Literal["in", "out"] = "in"
    """For power > 1: `in` is slow at first, `out` is slow at last."""

    def at(self, step: float) -> float:
        u = self.progress(step)
        return self.between(u**self.power if self.ease == "in" else 1 - (1 - u) ** self.power)


class Exponential(Ramp):
    """from (to / from)^u; both numbers positive."""

    kind: Literal["exponential"] = "exponential"
    from_: float = Field(alias="from", gt=0)
    to: float = Field(gt=0)

    def at(self, step: float) -> float:
        u = self.progress(step)
        return self.to if u >= 1 else self.from_ * (self.to / self.from_) ** u


class Cosine(Schedule):
    """Half a cosine from `peak` to `to`, after a linear warm-up from `from` (Loshchilov & Hutter 2017)."""

    kind: Literal["cosine"] = "cosine"
    peak: float
    """Value at the end of the warm-up, where the cosine begins."""
    to: float = 0.0
    """Value from `end` on."""
    from_: float = Field(default=0.0, alias="from")
    """Value at `start`, if there is a warm-up."""
    warmup: Time = _BEGIN
    """Length of the warm-up."""
    start: Time = _BEGIN
    end: Time = _END

    def at(self, step: float) -> float:
        start, warm = self.start.value, self.start.value + self.warmup.value
        end = self.end.value
        if step >= end:
            return self.to
        if start < warm and step < warm:
            return self.from_ + (self.peak - self.from_) * max(0.0, step - start) / (warm - start)
        u = max(0.0, (step - warm) / (end - warm))
        return self.to + (self.peak - self.to) * (1 + math.cos(math.pi * u)) / 2

    def fault(self, clock: Clock) -> str | None:
        if clock.step(self.end) <= clock.step(self.start) + clock.step(self.warmup):
            return f"end {self.end} is not after start {self.start} plus warmup {self.warmup}"
        return super().fault(clock)


class Step(Schedule):
    """Constant between times: each key is the time from which its value holds."""

    kind: Literal["step"] = "step"
    table: dict[str, float | str] = Field(alias="values", min_length=1)
    """`{0%: dense, 30%: gather}`; the first time must be 0."""

    @field_validator("table")
    @classmethod
    def _keys_are_times(cls, table: dict[str, float | str]) -> dict[str, float | str]:
        for key in table:
            Time.parse(key)
        return table

    def _times(self, clock: Clock) -> list[tuple[Time, float | str]]:
        return [(Time.parse(key), value) for key, value in self.table.items()]

    def resolved(self, clock: Clock) -> Self:
        moments = sorted((clock.step(time), value) for time, value in self._times(clock))
        return self.model_copy(update={"table": {str(Time(s, "step")): v for s, v in moments}})

    def fault(self, clock: Clock) -> str | None:
        times = [time for time, _ in self._times(clock)]
        if 0.0 not in [clock.step(time) for time in times]:
            return "no value for the beginning; add `0%: ...`"
        for time in times:
            if clock.step(time) >= clock.steps:
                return _beyond("time", time, clock)
        return None

    def at(self, step: float) -> KnobValue:
        moments = list(self.edges())
        return list(self.table.values())[max(0, bisect_right(moments, step) - 1)]

    def edges(self) -> Iterator[float]:
        for key in self.table:
            yield Time.parse(key).value

    def values(self) -> Iterator[KnobValue]:
        yield from self.table.values()


class Phase(Config):
    """One stretch of a `phases` schedule: any schedule, whose times count within the stretch."""

    until: Time
    """Where it ends; the last phase must end at 100%."""
    schedule: dict[str, Any] | float | str
    """A schedule as elsewhere, its `%`, `ep` and `step` counted from the beginning of the phase."""


class Phases(Schedule):
    """One schedule after another, each with its own clock."""

    kind: Literal["phases"] = "phases"
    phases: tuple[Phase, ...] = Field(min_length=1)

    @field_validator("phases")
    @classmethod
    def _schedules_are_known(cls, phases: tuple[Phase, ...]) -> tuple[Phase, ...]:
        for number, phase in enumerate(phases):
            try:
                schedule_of(phase.schedule)
            except ValidationError as error:
                first = error.errors()[0]
                raise ValueError(f"phase {number + 1}: {first['loc'][-1]}: {first['msg']}") from None
        return phases

    def _stretches(self, clock: Clock) -> Iterator[tuple[float, float, Schedule, Clock]]:
        start = 0.0
        for phase in self.phases:
            end = clock.step(phase.until)
            inner = Clock(max(1, round(end - start)), clock.steps_per_epoch, clock.tokens_per_step)
            yield start, end, schedule_of(phase.schedule), inner
            start = end

    def resolved(self, clock: Clock) -> Self:
        phases = tuple(
            Phase(until=Time(end, "step"), schedule=schedule.resolved(inner).model_dump(mode="json", by_alias=True))
            for _, end, schedule, inner in self._stretches(clock)
        )
        return self.model_copy(update={"phases": phases})

    def fault(self, clock: Clock) -> str | None:
        for number, (start, end, schedule, inner) in enumerate(self._stretches(clock), 1):
            if end <= start:
                return f"phase {number} ends at step {end:g}, not after step {start:g} where it begins"
            if end > clock.steps + 1e-6:
                return _beyond(f"until of phase {number}:", self.phases[number - 1].until, clock)
            if fault := schedule.fault(inner):
                return f"phase {number}: {fault}"
        if end < clock.steps - 0.5:
            return f"the last phase ends at {self.phases[-1].until}; make it 100%"
        return None

    def at(self, step: float) -> KnobValue:
        start = 0.0
        for phase in self.phases:
            if step < phase.until.value:
                return schedule_of(phase.schedule).at(step - start)
            last, start = start, phase.until.value
        return schedule_of(phase.schedule).at(step - last)

    def edges(self) -> Iterator[float]:
        start = 0.0
        for phase in self.phases:
            yield from (start + edge for edge in schedule_of(phase.schedule).edges())
            start = phase.until.value

    def values(self) -> Iterator[KnobValue]:
        for phase in self.phases:
            yield from schedule_of(phase.schedule).values()


KINDS: Mapping[str, type[Schedule]] = {
    "constant": Constant,
    "linear": Linear,
    "polynomial": Polynomial,
    "exponential": Exponential,
    "cosine": Cosine,
    "step": Step,
    "phases": Phases,
}


def schedule_of(block: dict[str, Any] | float | str) -> Schedule:
    """A bundled schedule from its block; a bare value is a constant.

    Raises:
        ValueError: an unknown kind, or fields that the kind does not have.
    """
    if not isinstance(block, dict):
        return Constant(value=block)
    kind = str(block.get("kind"))
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}; there are: {', '.join(KINDS)}")
    return KINDS[kind].model_validate_json(json.dumps(block))
