"""Predicates over journalled metrics, such as the rules by which a recipe stops its runs early.

    test/acc < max(test/acc) - 10% for 2 after 3ep
    train/failed > 20% or train/probe_cosine < 0.5 for 2

A comparison is looked at whenever one of its metrics is journalled and each of them has been.
`max(m)`, `min(m)` and `first(m)` are of all values of m so far, the present one included; `for n`
asks that the comparison held n times running; `after t` leaves out what was journalled up to t.
`and` binds closer than `or`.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from .derived import is_accuracy
from .times import VALUE, Clock, Time

_TOKEN = re.compile(
    rf"\s*(?:(?P<time>{VALUE}\s*[kMGB]?(?:ep|step|tok)\b)"
    rf"|(?P<number>{VALUE})(?P<percent>%)?"
    r"|(?P<word>[A-Za-z_][A-Za-z0-9_./]*)"
    r"|(?P<sign><=|>=|<|>|[-+*()]))"
)
_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_COMBINE: Mapping[str, Callable[[float, float], float]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul,
}  # fmt: skip
_OVER_TIME: Mapping[str, Callable[[float, float], float]] = {
    "max": max, "min": min, "first": lambda earlier, present: earlier,
}  # fmt: skip
_BEGIN = Time(0, "step")
_KEYWORDS = ("and", "or", "for", "after")
_NO_METRICS = ("nan", "inf", "infinity")
EXAMPLE = "for example `test/acc < max(test/acc) - 10% for 2 after 3ep`"


@dataclass(frozen=True, slots=True)
class Number:
    """A constant; `10%` is 0.1."""

    value: float
    is_percent: bool = field(default=False, compare=False)
    """Whether it was written as one."""

    def __str__(self) -> str:
        return f"{self.value:.12g}"


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric's latest value, or its largest, smallest or first so far."""

    name: str
    over_time: str = ""

    def __str__(self) -> str:
        return f"{self.over_time}({self.name})" if self.over_time else self.name


@dataclass(frozen=True, slots=True)
class Combination:
    """Sum, difference or product."""

    left: Term
    sign: str
    right: Term

    def __str__(self) -> str:
        return f"({self.left} {self.sign} {self.right})"


Term = Number | Metric | Combination


@dataclass(frozen=True, slots=True)
class Comparison:
    """`left sign right`, held `times` times running, after the moment `after`."""

    left: Term
    sign: str
    right: Term
    times: int = 1
    after: Time = _BEGIN

    @property
    def metrics(self) -> frozenset[str]:
        return frozenset((*_metrics(self.left), *_metrics(self.right)))

    @property
    def percentages(self) -> tuple[float, ...]:
        """Numbers that accuracies, which are fractions, are compared with as if they were percent.

        A product may well turn a fraction into percent.
        """
        if not all(map(is_accuracy, self.metrics)):
            return ()
        terms = [part for side in (self.left, self.right) for part in _parts(side)]
        if any(isinstance(term, Combination) and term.sign == "*" for term in terms):
            return ()
        numbers = [term for term in terms if isinstance(term, Number) and not term.is_percent]
        return tuple(number.value for number in numbers if abs(number.value) > 1)

    def __str__(self) -> str:
        times = f" for {self.times}" if self.times > 1 else ""
        after = f" after {self.after}" if self.after.value or self.after.mark else ""
        return f"{self.left} {self.sign} {self.right}{times}{after}"


@dataclass(frozen=True, slots=True)
class Predicate:
    """Any of several alternatives, each of which is all of its comparisons."""

    alternatives: tuple[tuple[Comparison, ...], ...]

    @classmethod
    def parse(cls, text: object) -> Predicate:
        """Read a predicate as a recipe writes it.

        Raises:
            ValueError: it is not one; the message says where and what is wanted there.
        """
        if isinstance(text, Predicate):
            return text
        if not isinstance(text, str):
            raise ValueError(f"a predicate over metrics is wanted, {EXAMPLE}")
        return _Parser(text).predicate()

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Each once, however many alternatives it is part of."""
        return tuple(dict.fromkeys(one for every in self.alternatives for one in every))

    @property
    def metrics(self) -> frozenset[str]:
        return frozenset(name for comparison in self.comparisons for name in comparison.metrics)

    def is_tried_by(self, metrics: Set[str]) -> bool:
        """Whether any of the alternatives can be looked at where these metrics are journalled."""
        return any(all(one.metrics <= metrics for one in every) for every in self.alternatives)

    def resolved(self, clock: Clock) -> Predicate:
        """The same with every time in steps.

        Raises:
            ValueError: an unknown mark, or tokens where there are none.
        """
        return Predicate(
            tuple(
                tuple(replace(one, after=clock.resolved(one.after)) for one in every)
                for every in self.alternatives
            )
        )

    def __str__(self) -> str:
        return " or ".join(" and ".join(map(str, every)) for every in self.alternatives)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.parse, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "examples": ["test/acc < max(test/acc) - 10% for 2"]}


@dataclass
class Watch:
    """A predicate held against metrics as they are journalled; its times must be in steps."""

    predicate: Predicate
    _known: dict[str, dict[str, float]] = field(default_factory=dict)
    """By way over time (`` for the latest), by metric."""
    _held: dict[Comparison, int] = field(default_factory=dict)
    _noted: dict[str, int] = field(default_factory=dict)
    """By metric: the step at which it was last journalled."""

    def note(self, step: int, values: Mapping[str, float]) -> bool:
        """Take `values`, journalled after `step` steps; whether the predicate is true now.

        A metric counts once a step: a run that is resumed at its end is evaluated there again.
        """
        known = values.keys() & self.predicate.metrics
        fresh = {name for name in known if self._noted.get(name) != step}
        for name in fresh:
            self._noted[name] = step
            self._learn(name, values[name])
        for comparison in self.predicate.comparisons:
            if fresh & comparison.metrics and step > comparison.after.value:
                self._look(comparison)
        return any(
            all(self._held.get(one, 0) >= one.times for one in every)
            for every in self.predicate.alternatives
        )

    @property
    def unseen(self) -> frozenset[str]:
        """Metrics that were never journalled."""
        return self.predicate.metrics - self._known.get("", {}).keys()

    def _learn(self, name: str, value: float) -> None:
        self._known.setdefault("", {})[name] = value
        if math.isnan(value):
            return
        for way, combine in _OVER_TIME.items():
            of_way = self._known.setdefault(way, {})
            of_way[name] = combine(of_way.get(name, value), value)

    def _look(self, comparison: Comparison) -> None:
        if comparison.metrics <= self._known.get("", {}).keys():
            left, right = self._value(comparison.left), self._value(comparison.right)
            is_held = _COMPARE[comparison.sign](left, right)
            self._held[comparison] = self._held.get(comparison, 0) + 1 if is_held else 0

    def _value(self, term: Term) -> float:
        if isinstance(term, Number):
            return term.value
        if isinstance(term, Metric):
            return self._known.get(term.over_time, {}).get(term.name, math.nan)
        return _COMBINE[term.sign](self._value(term.left), self._value(term.right))


def _parts(term: Term) -> Iterator[Term]:
    yield term
    if isinstance(term, Combination):
        yield from _parts(term.left)
        yield from _parts(term.right)


def _metrics(term: Term) -> Iterator[str]:
    return (part.name for part in _parts(term) if isinstance(part, Metric))


class _Parser:
    """Recursive descent, one method per rule of the grammar."""

    def __init__(self, text: str) -> None:
        self.text, self.position = text, 0

    def predicate(self) -> Predicate:
        alternatives = [self.every()]
        while self.accept("or"):
            alternatives.append(self.every())
        if self.text[self.position :].strip():
            raise self.fault("and, or, for, after, or the end")
        return Predicate(tuple(alternatives))

    def every(self) -> tuple[Comparison, ...]:
        comparisons = [self.comparison()]
        while self.accept("and"):
            comparisons.append(self.comparison())
        return tuple(comparisons)

    def comparison(self) -> Comparison:
        left = self.sum()
        found = self.peek()
        if found is None or found["sign"] not in _COMPARE:
            raise self.fault("<, <=, > or >=")
        sign = self.take()["sign"]
        made = Comparison(left, sign, self.sum())
        if not made.metrics:
            raise ValueError(f"{made} compares no metric, {EXAMPLE}")
        given = set[str]()
        while word := self.accept("for", "after"):
            if word in given:
                raise ValueError(f"{made} has `{word}` twice; write it once, {EXAMPLE}")
            given.add(word)
            made = replace(made, times=self.count()) if word == "for" else self.after(made)
        return made

    def count(self) -> int:
        found = self.peek()
        digits = (found["number"] or "").replace("_", "") if found and not found["percent"] else ""
        if not digits.isdecimal() or not int(digits):
            raise self.fault("a whole number of times")
        self.take()
        return int(digits)

    def after(self, comparison: Comparison) -> Comparison:
        found = self.peek()
        if found is None or found["sign"]:
            raise self.fault("a time, such as 3ep, 10% or a mark")
        return replace(comparison, after=Time.parse(self.take()[0].strip()))

    def sum(self) -> Term:
        term = self.product()
        while sign := self.accept("+", "-"):
            term = Combination(term, sign, self.product())
        return term

    def product(self) -> Term:
        term = self.factor()
        while sign := self.accept("*"):
            term = Combination(term, sign, self.factor())
        return term

    def factor(self) -> Term:
        if self.accept("("):
            term = self.sum()
            self.expect(")")
            return term
        negative = self.accept("-") is not None
        found = self.peek()
        if found is not None and found["number"]:
            value = float(found["number"].replace("_", "")) * (0.01 if found["percent"] else 1.0)
            if math.isinf(value):
                raise self.fault("a finite number")
            token = self.take()
            return Number(-value if negative else value, bool(token["percent"]))
        if negative or found is None or not found["word"] or found["word"] in _KEYWORDS:
            raise self.fault("a metric, a number or max(metric)")
        if found["word"].lower() in _NO_METRICS:
            raise self.fault("a metric or a finite number")
        word = self.take()["word"]
        if word not in _OVER_TIME or not self.accept("("):
            return Metric(word)
        inner = self.peek()
        if inner is None or not inner["word"] or inner["word"].lower() in _NO_METRICS:
            raise self.fault("the name of a metric")
        metric = Metric(self.take()["word"], word)
        self.expect(")")
        return metric

    def peek(self) -> re.Match[str] | None:
        return _TOKEN.match(self.text, self.position)

    def take(self) -> re.Match[str]:
        found = self.peek()
        assert found is not None, "was looked at"
        self.position = found.end()
        return found

    def accept(self, *wanted: str) -> str | None:
        """Go on if one of `wanted` comes next, and say which."""
        found = self.peek()
        text = (found["word"] or found["sign"]) if found else None
        if text not in wanted:
            return None
        self.take()
        return text

    def expect(self, sign: str) -> None:
        if self.accept(sign) is None:
            raise self.fault(repr(sign))

    def fault(self, wanted: str) -> ValueError:
        found = self.peek()
        rest = self.text[self.position :].strip()
        here = repr(found[0].strip()) if found else repr(rest[:12]) if rest else "the end"
        column = len(self.text) - len(self.text[self.position :].lstrip()) + 1
        return ValueError(f"column {column}: {wanted} is wanted, not {here}; {EXAMPLE}")
