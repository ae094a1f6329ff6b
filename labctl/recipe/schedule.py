"""Schedules: pure functions of the step that say where a knob stands. No state, no torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, field_validator

from labctl.registry.card import KnobValue
from labctl.registry.config import Config

from .times import Clock, Length, Time

_BEGIN, _END = Time(0, "%"), Time(100, "%")


@dataclass(frozen=True, slots=True)
class Plateau:
    """A stretch, in steps, over which a schedule stands at one value and then jumps."""

    start: float
    end: float
    value: KnobValue


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
        """Why this schedule cannot be carried out within the budget; None if it can.

        Raises:
            ValueError: an unknown mark, or tokens where there are none.
        """
        for name, value in self:
            if isinstance(value, Time) and clock.step(value) > clock.steps + 1e-6:
                return _beyond(name, value, clock)
        return None

    def values(self) -> Iterator[KnobValue]:
        """Values that the schedule names itself, its extremes among them."""
        for name, value in self:
            if name in ("from_", "to", "peak", "value"):
                yield value

    def plateaus(self, steps: float) -> Iterator[Plateau]:
        """Where the resolved schedule of a run of `steps` jumps from value to value, each one."""
        yield from ()


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

    def plateaus(self, steps: float) -> Iterator[Plateau]:
        yield Plateau(0.0, steps, self.value)


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
        if fault := super().fault(clock):
            return fault
        is_after = clock.step(self.end) > clock.step(self.start)
        return None if is_after else f"end {self.end} is not after start {self.start}"


def _between(first: float, last: float, share: float) -> float:
    """`first` at share 0 and `last` at 1, exactly, and between the two."""
    low, high = min(first, last), max(first, last)
    return min(max(first * (1 - share) + last * share, low), high)


class Linear(Ramp):
    """from + (to - from) u, u the progress from start to end."""

    kind: Literal["linear"] = "linear"

    def at(self, step: float) -> float:
        return _between(self.from_, self.to, self.progress(step))


class Polynomial(Ramp):
    """from + (to - from) u^power, or with `ease: out` from + (to - from) (1 - (1 - u)^power)."""

    kind: Literal["polynomial"] = "polynomial"
    power: float = Field(default=1.0, gt=0)
    ease: Literal["in", "out"] = "in"
    """For power > 1: `in` is slow at first, `out` is slow at last."""

    def at(self, step: float) -> float:
        u = self.progress(step)
        share = u**self.power if self.ease == "in" else 1 - (1 - u) ** self.power
        return _between(self.from_, self.to, share)


class Exponential(Ramp):
    """from (to / from)^u; both numbers positive."""

    kind: Literal["exponential"] = "exponential"
    from_: float = Field(alias="from", gt=0)
    """Value up to `start`."""
    to: float = Field(gt=0)
    """Value from `end` on."""

    def at(self, step: float) -> float:
        u = self.progress(step)
        low, high = min(self.from_, self.to), max(self.from_, self.to)
        # Not from * (to / from)**u: the ratio of two finite numbers may be infinite.
        return min(max(float(self.from_ ** (1 - u) * self.to**u), low), high)


class Cosine(Schedule):
    """Half a cosine from `peak` to `to`, after a linear warm-up from `from`.

    Loshchilov & Hutter (2017), arXiv:1608.03983, without restarts.
    """

    kind: Literal["cosine"] = "cosine"
    peak: float
    """Value at the end of the warm-up, where the cosine begins."""
    to: float = 0.0
    """Value from `end` on."""
    from_: float = Field(default=0.0, alias="from")
    """Value up to `start`, if there is a warm-up."""
    warmup: Length = _BEGIN
    """Length of the warm-up."""
    start: Time = _BEGIN
    end: Time = _END

    def at(self, step: float) -> float:
        start, end = self.start.value, self.end.value
        warm = start + self.warmup.value
        if step < warm and start < warm:
            return _between(self.from_, self.peak, max(0.0, (step - start) / (warm - start)))
        u = min(max(0.0, (step - warm) / (end - warm)), 1.0)
        return _between(self.peak, self.to, (1 - math.cos(math.pi * u)) / 2)

    def fault(self, clock: Clock) -> str | None:
        if fault := super().fault(clock):
            return fault
        if clock.step(self.end) <= clock.step(self.start) + clock.step(self.warmup):
            return f"end {self.end} is not after start {self.start} plus warmup {self.warmup}"
        return None

    def values(self) -> Iterator[KnobValue]:
        yield from (self.peak, self.to)
        if self.warmup.value:
            yield self.from_


class Step(Schedule):
    """Constant between times: each key is the time from which its value holds."""

    kind: Literal["step"] = "step"
    table: dict[Time, float | str] = Field(alias="values", min_length=1)
    """`{0%: dense, 30%: gather}`; the first time must be 0."""

    @field_validator("table", mode="before")
    @classmethod
    def _check_times(cls, table: Any) -> Any:
        if isinstance(table, dict):
            texts: dict[Time, Any] = {}
            for text in table:
                if (first := texts.setdefault(Time.parse(text), text)) is not text:
                    raise ValueError(f"{first} and {text} are the same time")
        return table

    def resolved(self, clock: Clock) -> Self:
        moments = sorted(
            ((clock.resolved(time), value) for time, value in self.table.items()), key=_moment
        )
        return self.model_copy(update={"table": dict(moments)})

    def fault(self, clock: Clock) -> str | None:
        taken: dict[float, Time] = {}
        for time in self.table:
            step = clock.step(time)
            if step >= clock.steps:
                return _beyond("time", time, clock)
            if step in taken:
                return f"{taken[step]} and {time} are the same step, {step:g}"
            taken[step] = time
        return None if 0 in taken else "no value for the beginning; add `0%: ...`"

    def at(self, step: float) -> KnobValue:
        moments = iter(self.table.items())
        _, current = next(moments)
        for time, value in moments:
            if time.value > step:
                break
            current = value
        return current

    def values(self) -> Iterator[KnobValue]:
        yield from self.table.values()

    def plateaus(self, steps: float) -> Iterator[Plateau]:
        starts = [time.value for time in self.table]
        for start, end, value in zip(
            starts, [*starts[1:], steps], self.table.values(), strict=True
        ):
            yield Plateau(start, end, value)


def _moment(entry: tuple[Time, KnobValue]) -> float:
    return entry[0].value


def _kind(value: Any) -> str | None:
    if isinstance(value, dict):
        return None if value.get("kind") is None else str(value["kind"])
    return str(getattr(value, "kind", "<value>"))


def _as_constant(value: float | str) -> Constant:
    return Constant(value=value)


if TYPE_CHECKING:
    AnySchedule = Schedule
else:
    AnySchedule = Annotated[
        Annotated[float | str, AfterValidator(_as_constant), Tag("<value>")]
        | Annotated[Constant, Tag("constant")]
        | Annotated[Linear, Tag("linear")]
        | Annotated[Polynomial, Tag("polynomial")]
        | Annotated[Exponential, Tag("exponential")]
        | Annotated[Cosine, Tag("cosine")]
        | Annotated[Step, Tag("step")]
        | Annotated["Phases", Tag("phases")],
        Discriminator(_kind),
    ]
"""A bundled schedule; a bare value is a constant."""


class SchedulePhase(Config):
    """One stretch of a `phases` schedule: any bundled schedule, whose times count within it."""

    until: Time
    """Where it ends; the last phase must end at 100%."""
    schedule: AnySchedule
    """A schedule as elsewhere, its `%`, `ep` and `step` counted from the beginning of the phase."""


class Phases(Schedule):
    """One schedule after another, each with its own clock."""

    kind: Literal["phases"] = "phases"
    phases: tuple[SchedulePhase, ...] = Field(min_length=1)

    def _stretches(self, clock: Clock) -> Iterator[tuple[int, int, Schedule, Clock]]:
        """First step, end, schedule and clock of every phase; a phase begins with a whole step."""
        start = 0
        for phase in self.phases:
            end = round(clock.step(phase.until))
            marks = {
                name: Time(step - start, "step")
                for name, time in clock.marks.items()
                if start <= (step := clock.step(time)) <= end
            }
            length = max(1, end - start)
            inner = Clock(length, clock.steps_per_epoch, clock.tokens_per_step, marks)
            yield start, end, phase.schedule, inner
            start = end

    def resolved(self, clock: Clock) -> Self:
        phases = tuple(
            SchedulePhase(until=Time(end, "step"), schedule=schedule.resolved(inner))
            for _, end, schedule, inner in self._stretches(clock)
        )
        return self.model_copy(update={"phases": phases})

    def fault(self, clock: Clock) -> str | None:
        end = 0
        for number, (start, end, schedule, inner) in enumerate(self._stretches(clock), 1):
            if end <= start:
                return f"phase {number} ends at step {end}, not after step {start} where it begins"
            if end > clock.steps:
                return _beyond(f"until of phase {number}:", self.phases[number - 1].until, clock)
            try:
                fault = schedule.fault(inner)
            except ValueError as error:
                fault = str(error)
            if fault:
                local = fault.replace("the budget", "it").replace("of this recipe", "within it")
                return f"phase {number}: {local}"
        if end < clock.steps:
            return f"the last phase ends at {self.phases[-1].until}; make it 100%"
        return None

    def at(self, step: float) -> KnobValue:
        start = 0.0
        for phase in self.phases[:-1]:
            if step < phase.until.value:
                return phase.schedule.at(step - start)
            start = phase.until.value
        return self.phases[-1].schedule.at(step - start)

    def values(self) -> Iterator[KnobValue]:
        for phase in self.phases:
            yield from phase.schedule.values()

    def plateaus(self, steps: float) -> Iterator[Plateau]:
        start = 0.0
        for phase in self.phases:
            end = min(phase.until.value, steps)
            for plateau in phase.schedule.plateaus(end - start):
                yield Plateau(start + plateau.start, start + plateau.end, plateau.value)
            start = end


SchedulePhase.model_rebuild()
Phases.model_rebuild()

KINDS: Mapping[str, type[Schedule]] = {
    "constant": Constant,
    "linear": Linear,
    "polynomial": Polynomial,
    "exponential": Exponential,
    "cosine": Cosine,
    "step": Step,
    "phases": Phases,
}
