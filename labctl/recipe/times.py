"""Times in a recipe: `50ep`, `20000step`, `10%` of the budget, `20Mtok`, or the name of a mark."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

_AMOUNT = re.compile(r"(?P<value>\d[\d_]*(?:\.\d+)?(?:e[+-]?\d+)?)\s*(?P<scale>[kMGB]?)(?P<unit>ep|step|tok|%)")
_MARK = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SCALE = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "B": 1e9}
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
        if isinstance(text, int | float) and not isinstance(text, bool):
            raise ValueError(f"{text} needs a unit: {text}ep, {text}step or {text}%")
        if not isinstance(text, str):
            raise ValueError(GRAMMAR)
        if found := _AMOUNT.fullmatch(text.strip()):
            value = float(found["value"].replace("_", "")) * _SCALE[found["scale"]]
            return cls(value, found["unit"])
        if _MARK.fullmatch(text.strip()):
            return cls(0.0, "mark", text.strip())
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
        return {"type": "string", "pattern": f"^({_plain(_AMOUNT)}|{_MARK.pattern})$", "examples": ["50ep", "10%"]}


def _plain(pattern: re.Pattern[str]) -> str:
    """The pattern without named groups, which JSON schema lacks."""
    return re.sub(r"\?P<\w+>", "?:", pattern.pattern)


def _shortest(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


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
                    raise ValueError(f"{time}: this data is not counted in tokens; use ep, step or %")
                return time.value / self.tokens_per_step
            case _:
                if time.mark not in self.marks:
                    known = ", ".join(sorted(self.marks)) or "none"
                    raise ValueError(f"unknown mark {time.mark!r}; marks of this recipe: {known}")
                return self.step(self.marks[time.mark])

    def resolved(self, time: Time) -> Time:
        """The same moment, in steps."""
        return Time(self.step(time), "step")
