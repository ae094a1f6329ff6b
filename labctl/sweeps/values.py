"""The values of a sweep as people write them: `0.20:0.25:0.01`, `1:16/4`, `log:1e-4:1e-1/7`, lists.

All arithmetic is decimal and both ends are included: `0.20:0.25:0.01` is six values, none of which
is 0.21000000000000002.
"""

from __future__ import annotations

import math
from collections import Counter
from decimal import Decimal, InvalidOperation

from labctl.recipe.source import Mark, parse_value

MOST_VALUES = 10_000
ENDLESS_DIGITS = 12
"""A value with more digits than this came from a division that does not end."""
LOG_DIGITS = 4
"""Significant digits of values that are spaced logarithmically."""
FORMS = "lo:hi:step, lo:hi/n, log:lo:hi/n, or a list 1,2,3"

Value = Decimal | str | bool
"""A number exactly as it was written, or any other value that a field may have."""


def parse_values(
    text: str,
    step: Decimal | None = None,
    *,
    is_integer: bool = False,
    may_repeat: bool = False,
) -> tuple[Value, ...]:
    """Read values.

    Args:
        text: as the command line has them.
        step: of a range `a:b` which gives none itself.
        is_integer: round the values between the ends of lo:hi/n to whole numbers, each once.
        may_repeat: let a value be there twice.

    Raises:
        ValueError: they cannot be read; the message says what would work.
    """
    values: list[Value] = []
    for part in _parts(text):
        values += _range(part, step, is_integer) if _is_range(part) else [_single(part)]
    if not values:
        raise ValueError(f"no values; write {FORMS}")
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice and not may_repeat:
        raise ValueError(f"{text}: {written(twice[0])} is there twice")
    return tuple(values)


def written(value: Value) -> str:
    """A value as an override writes it; the same number always in the same way."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return value
    if value == value.to_integral() and abs(value) < 10**15:
        return str(int(value))
    plain = f"{value.normalize():f}"
    return plain if len(plain) <= 12 else f"{value.normalize()}".replace("E", "e")


def _parts(text: str) -> list[str]:
    """Split at commas outside brackets and braces."""
    parts, depth, begin = [], 0, 0
    for place, sign in enumerate(text):
        depth += (sign in "[{") - (sign in "]}")
        if sign == "," and depth == 0:
            parts.append(text[begin:place])
            begin = place + 1
    return [part.strip() for part in [*parts, text[begin:]] if part.strip()]


def _is_range(part: str) -> bool:
    return ":" in part and part[0] not in "[{\"'"


def _single(part: str) -> Value:
    value = parse_value(part, Mark(f"value {part!r}")).plain()
    if isinstance(value, bool):
        return value
    return _number(part) if isinstance(value, int | float) else part


def _number(text: str) -> Decimal:
    try:
        value = Decimal(text.strip().replace("_", ""))
    except InvalidOperation:
        raise ValueError(f"{text.strip()!r} is not a number; a range is {FORMS}") from None
    if not value.is_finite():
        raise ValueError(f"{text.strip()} is not a finite number")
    return value


def _range(part: str, step: Decimal | None, is_integer: bool) -> list[Value]:
    is_log = part.startswith("log:")
    body, slash, count = part.removeprefix("log:").partition("/")
    ends = body.split(":")
    if slash:
        if len(ends) != 2 or not count.strip().isdecimal():
            raise ValueError(
                f"{part}: n values from a to b are written lo:hi/n, for example 0.1:1/4"
            )
        first, last, number = _number(ends[0]), _number(ends[1]), int(count)
        values = _spaced(part, first, last, number, is_log)
        return _whole(values) if is_integer else [*values]
    if len(ends) not in (2, 3):
        raise ValueError(f"{part}: a range is {FORMS}")
    if is_log:
        raise ValueError(f"{part}: how many values? For example log:{ends[0]}:{ends[1]}/7")
    first, last = _number(ends[0]), _number(ends[1])
    if len(ends) == 3:
        step = _number(ends[2])
    else:
        step = Decimal(1) if step is None and is_integer else step
        if step is not None and last < first:
            step = -step  # of an axis, which says only how far apart
    if step is None:
        guess = _guess(first, last)
        raise ValueError(
            f"{part}: in steps of what? Write {part}:{guess}, or {part}/6 for six values"
        )
    return _stepped(part, first, last, step)


def _stepped(part: str, first: Decimal, last: Decimal, step: Decimal) -> list[Value]:
    if step == 0 or (last - first) * step < 0:
        turned = f"; write {first}:{last}:{-step}" if step else ""
        raise ValueError(f"{part}: steps of {step} do not lead from {first} to {last}{turned}")
    count = (last - first) / step
    if count != count.to_integral():
        end = first + step * int(count)
        raise ValueError(
            f"{part}: steps of {step} from {first} miss {last}; they end at {end}: "
            f"write {first}:{end}:{step}"
        )
    if count >= MOST_VALUES:
        raise ValueError(f"{part} is {int(count) + 1} values; at most {MOST_VALUES} can be swept")
    return [first + step * place for place in range(int(count) + 1)]


def _spaced(part: str, first: Decimal, last: Decimal, count: int, is_log: bool) -> list[Decimal]:
    if not 2 <= count <= MOST_VALUES:
        raise ValueError(f"{part}: from 2 to {MOST_VALUES} values can be spaced, not {count}")
    if first == last:
        raise ValueError(f"{part}: both ends are {first}")
    if not is_log:
        between = [first + (last - first) * place / (count - 1) for place in range(1, count - 1)]
        return [first, *map(_short, between), last]
    if first <= 0 or last <= 0:
        raise ValueError(f"{part}: only positive numbers have logarithms")
    low, high = math.log(first), math.log(last)
    between = [
        significant(math.exp(low + (high - low) * place / (count - 1)), LOG_DIGITS)
        for place in range(1, count - 1)
    ]
    return [first, *between, last]


def _whole(values: list[Decimal]) -> list[Value]:
    first, *between, last = values
    return [*dict.fromkeys([first, *(value.to_integral() for value in between), last])]


def significant(value: float, digits: int) -> Decimal:
    """`value` rounded to so many significant digits."""
    return Decimal(f"{value:.{digits - 1}e}").normalize()


def _short(value: Decimal) -> Decimal:
    """Thirds and sevenths, which have no end, with so many digits as anybody wants to read."""
    is_long = len(value.normalize().as_tuple().digits) > ENDLESS_DIGITS
    return significant(float(value), ENDLESS_DIGITS // 2) if is_long else value


def _guess(first: Decimal, last: Decimal) -> Decimal:
    """A step of one unit in the last place that was written, up or down."""
    exponents = [value.as_tuple().exponent for value in (first, last)]
    unit = Decimal(1 if last >= first else -1)
    return unit.scaleb(min(int(exponent) for exponent in exponents))
