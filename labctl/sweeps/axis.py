"""A field that differs from point to point of a sweep, and the values that it takes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal

from .config import OneValue, SweepConfig
from .values import Value, parse_values


@dataclass(frozen=True, slots=True)
class Axis:
    """A field and the values that it takes."""

    field: str
    values: tuple[Value, ...]
    is_integer: bool = False
    """Whether the field takes whole numbers only."""


def values_of(
    values: str | float | list[OneValue], config: SweepConfig, is_integer: bool
) -> tuple[Value, ...]:
    """Values as a sweep's file or the command line has them.

    Raises:
        ValueError: they cannot be read, or stand there twice.
    """
    step = None if config.step is None else Decimal(repr(config.step))
    if not isinstance(values, str):
        several = values if isinstance(values, list) else [values]
        values = ",".join(_plain(value) for value in several)
    may_repeat = config.combine == "zip"
    return parse_values(values, step, is_integer=is_integer, may_repeat=may_repeat)


def _plain(value: OneValue) -> str:
    return value if isinstance(value, str) else json.dumps(value)
