"""Times in a recipe: `50ep`, `20000step`, `10%` of the budget, `20Mtok`, or the name of a mark."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

VALUE = r"(?:\d{1,3}(?:_\d{3})+(?:\.\d*)?|\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
"""A number without a sign, as people write it: `1e-3`, `50_000`, `.5`."""
_UNITS = "ep|step|tok|%"
_AMOUNT = re.compile(rf"(?P<value>{VALUE})\s*(?P<scale>[kMGB]?)(?P<unit>{_UNITS})")
_BARE = re.compile(VALUE)
_MARK = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SCALE = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "B": 1e9}
_LONGEST = 1e15
GRAMMAR = "a time is a number with a unit (50ep, 20000step, 10%, 20Mtok) or the name of a mark"


@dataclass(frozen=True, slots=True)
class Time:
    """A moment or a length of training."""

    value: float
    unit: str
    """`ep`, `step`, `%`, `tok`, or `mark`."""
    mark: str = ""

    @classmethod
    def parse(cls, text: object) -> Time:
        """Read a time as a recipe writes it.

        Raises:
            ValueError: it is not one.
        """
        if isinstance(text, Time):
            return text
        if isinstance(text, bool) or not isinstance(text, str | int | float):
            raise ValueError(GRAMMAR)
        text = str(text).strip()
        if lacks_unit(text):
            raise ValueError(f"{text} needs a unit: {text}ep, {text}step or {text}%")
        if found := _AMOUNT.fullmatch(text):
            value = float(found["value"].replace("_", "")) * _SCALE[found["scale"]]
            if value > _LONGEST:
                raise ValueError(f"{text} is longer than anything that can be trained")
            return cls(value, found["unit"])
        if _MARK.fullmatch(text):
            return cls(0.0, "mark", text)
        raise ValueError(f"{text!r} is not a time; {GRAMMAR}")

    def __str__(self) -> str:
        return self.mark if self.unit == "mark" else f"{_shortest(self.value)}{self.unit}"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.parse, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        pattern = rf"^(?:{VALUE}\s*[kMGB]?(?:{_UNITS})|{_MARK.pattern})$"
        return {"type": "string", "pattern": pattern, "examples": ["50ep", "10%"]}


def _shortest(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def _no_moment(time: Time) -> Time:
    if time.unit == "mark":
        raise ValueError(f"a length of time is wanted, such as 2ep, not the moment {time}")
    return time


def _some(time: Time) -> Time:
    if time.value == 0:
        raise ValueError(f"should be longer than {time}")
    return time


Length = Annotated[Time, AfterValidator(_no_moment)]
"""A time that is no mark."""
Interval = Annotated[Length, AfterValidator(_some)]
"""A length that is not zero."""


def lacks_unit(given: object) -> bool:
    """Whether a number stands where a time is meant."""
    is_number = isinstance(given, str | int | float) and not isinstance(given, bool)
    return is_number and _BARE.fullmatch(str(given).strip()) is not None


def is_mark_name(text: str) -> bool:
    """Whether a time can be given by this name."""
    return _MARK.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Clock:
    """Turns times into optimizer steps."""

    steps: int
    """Steps of the budget."""
    steps_per_epoch: int
    tokens_per_step: int | None = None
    """Tokens in one batch; None where examples are not counted in tokens."""
    marks: Mapping[str, Time] = field(default_factory=dict)

    def step(self, time: Time) -> float:
        """The step, possibly between two, at which `time` falls.

        Raises:
            ValueError: an unknown mark, or tokens where there are none.
        """
        match time.unit:
            case "step":
                return time.value
            case "ep":
                return time.value * self.steps_per_epoch
            case "%":
                return time.value / 100 * self.steps
            case "tok":
                if self.tokens_per_step is None:
                    raise ValueError(
                        f"{time}: this data is not counted in tokens; use ep, step or %"
                    )
                return time.value / self.tokens_per_step
            case _:
                if time.mark not in self.marks:
                    known = ", ".join(sorted(self.marks)) or "none"
                    raise ValueError(f"unknown mark {time.mark!r}; marks of this recipe: {known}")
                return self.step(self.marks[time.mark])

    def resolved(self, time: Time) -> Time:
        """The same moment, in steps."""
        return Time(self.step(time), "step")
