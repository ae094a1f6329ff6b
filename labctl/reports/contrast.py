"""What differs between two runs, recipes or published results, and what came of it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from labctl.errors import PluginError
from labctl.execute.trace import Trace, losses_until, told_apart
from labctl.plans.fields import fields_of, measure_fields
from labctl.plans.plan import differences, landmarks
from labctl.plans.stored import schedule_of
from labctl.registry.config import Config
from labctl.registry.digest import code_digest, edited, sources
from labctl.registry.registry import Registry
from labctl.store.status import Status

from .bundle import without_paths
from .entry import trace_of
from .items import Items, items
from .quantity import in_order, value_of
from .result import Number, Result
from .side import Side
from .statistics import summary

STEP_TIME = "seconds per step"
BESIDE = (STEP_TIME, "flops", "parameters")
"""Quantities of a result beside its metrics."""


class Change(Config):
    """A field that differs."""

    path: str
    a: Any
    b: Any


class Point(Config):
    """Where a knob stands from a step on."""

    step: int
    value: float | int | str


class Realised(Config):
    """A knob that is turned otherwise."""

    knob: str
    a: tuple[Point, ...]
    """Every value of a structural knob; of a continuous one begin, quarters, end. Empty where there
    is no such knob."""
    b: tuple[Point, ...]


class Code(Config):
    """A plugin whose code differs."""

    plugin: str
    a: str
    """Digest, without comments; empty if the plugin takes no part."""
    b: str
    files: tuple[str, ...] = ()
    """That differ, where both codes are here."""
    is_known: bool = True
    """Whether both codes are here."""
    is_equal: bool = False
    """Whether what is here differs in comments only, whatever the plans say."""
    diff: str = ""


class Amount(Config):
    """A value, or its mean over seeds."""

    mean: Number
    sd: Number | None
    n: int


class Measured(Config):
    """A quantity that both have; accuracies in percent."""

    metric: str
    a: Amount
    b: Amount
    difference: Amount | None
    """b minus a, paired by seed; None if they share none."""


class Parting(Config):
    """The first training loss that is not the same in both."""

    seeds: tuple[int, int]
    compared: int
    """Losses that both recorded: of single steps, and means over as many."""
    step: int | None
    """None if all are equal."""
    metric: str = ""
    a: str = ""
    b: str = ""


class Compared(Config):
    """A side, in words."""

    name: str
    keys: dict[str, str]
    """By seed."""
    statuses: dict[str, Status]
    """By seed, of those with a result."""


class Contrast(Config):
    """All that differs; `a` and `b` everywhere."""

    a: Compared
    b: Compared
    fields: tuple[Change, ...]
    schedules: tuple[Realised, ...]
    code: tuple[Code, ...]
    data: tuple[Change, ...]
    environment: tuple[Change, ...]
    results: tuple[Measured, ...]
    items: tuple[Items, ...]
    """Of pairs of seeds whose predictions are here."""
    partings: tuple[Parting, ...]
    notes: tuple[str, ...]


def compare(registry: Registry, a: Side, b: Side, *, with_code: bool = False) -> Contrast:
    """Hold two sides against each other.

    Args:
        registry: finds the kinds of schedules.
        with_code: keep a unified diff of the plugins' code.
    """
    pairs = _pairs(a, b)
    is_cut = a.is_published or b.is_published
    then, now = (_fields(one, is_cut, has_seed=_are_single(a, b)) for one in (a, b))
    notes = [*a.notes, *b.notes]
    for one in (a, b):
        if not one.results:
            notes.append(f"{one.name} has no result: environment and results are not compared")
    if _conditions(a) != _conditions(b) and a.results and b.results:
        notes.append("trained under different conditions: times are not comparable")
    return Contrast(
        a=_compared(a),
        b=_compared(b),
        fields=_changes(then, now),
        schedules=tuple(_schedules(registry, a, b)),
        code=tuple(_code(a, b, with_code)),
        data=_changes(_data(a), _data(b)),
        environment=_changes(_environment(a), _environment(b)) if a.results and b.results else (),
        results=tuple(_measured(a, b, pairs)),
        items=tuple(_items(a, b, pairs)),
        partings=tuple(_partings(a, b, pairs)),
        notes=tuple(notes),
    )


def _compared(one: Side) -> Compared:
    return Compared(
        name=one.name,
        keys={str(seed): plan["key"] for seed, plan in sorted(one.plans.items())},
        statuses={str(seed): result.status for seed, result in sorted(one.results.items())},
    )


def _are_single(a: Side, b: Side) -> bool:
    return len(a.plans) == len(b.plans) == 1


def _pairs(a: Side, b: Side) -> list[tuple[int, int]]:
    """Seeds with results: the same, or the two that there are."""
    if _are_single(a, b) and a.results and b.results:
        return [(min(a.results), min(b.results))]
    return [(seed, seed) for seed in sorted(a.results.keys() & b.results.keys())]


def _changes(then: Any, now: Any) -> tuple[Change, ...]:
    """Nothing and no field are the same here."""
    found = differences(then, now)
    return tuple(
        Change(path=path, a=old, b=new) for path, (old, new) in found.items() if old != new
    )


def _fields(one: Side, is_cut: bool, *, has_seed: bool) -> dict[str, Any]:
    """What its recipe comes to, but for what has a section of its own."""
    plan = one.plan
    own = {"digests", "labctl_numerics", "ladders", "constants"} | (set() if has_seed else {"seed"})
    work = {name: value for name, value in fields_of(plan["work"]).items() if name not in own}
    work["data"] = {name: value for name, value in work["data"].items() if name != "version"}
    measure = measure_fields(plan["measures"])
    fields = {**work, "measure": measure, "runtime": plan["runtime"]}
    cut: dict[str, Any] = without_paths(fields) if is_cut else fields
    return cut


def _data(one: Side) -> dict[str, Any]:
    data = one.plan["work"]["data"]
    return {"name": data["name"], "version": data["version"]}


def _schedules(registry: Registry, a: Side, b: Side) -> Iterator[Realised]:
    then, now = (_realised(registry, one.plan["work"]) for one in (a, b))
    for knob in sorted(then.keys() | now.keys()):
        old, new = then.get(knob, ()), now.get(knob, ())
        if old != new:
            yield Realised(knob=knob, a=old, b=new)


def _realised(registry: Registry, work: Mapping[str, Any]) -> dict[str, tuple[Point, ...]]:
    steps = work["steps"]
    found: dict[str, tuple[Point, ...]] = {
        name: (Point(step=0, value=value),) for name, value in work["constants"].items()
    }
    for name, rungs in work["ladders"].items():
        found[name] = tuple(Point(step=rung["step"], value=rung["value"]) for rung in rungs)
    for name, block in work["schedules"].items():
        try:
            schedule = schedule_of(registry, block)
        except (PluginError, ValidationError):  # its fields are compared all the same
            continue
        found[name] = tuple(Point(step=step, value=schedule.at(step)) for step in landmarks(steps))
    return found


def _code(a: Side, b: Side, with_code: bool) -> Iterator[Code]:
    for plugin in sorted(a.digests.keys() | b.digests.keys()):
        old, new = a.digests.get(plugin, ""), b.digests.get(plugin, "")
        then, now = a.sources.get(plugin), b.sources.get(plugin)
        is_known = then is not None and now is not None
        files = edited(then, now) if is_known else []
        if old == new and not files:
            continue
        diff = "".join(_diff(plugin, files, then, now)) if with_code else ""
        yield Code(
            plugin=plugin, a=old, b=new, files=tuple(files), is_known=is_known,
            is_equal=_are_equal(then, now), diff=diff,
        )  # fmt: skip


def _are_equal(then: Path | None, now: Path | None) -> bool:
    if then is None or now is None:
        return False
    try:
        return code_digest(then) == code_digest(now)
    except SyntaxError:
        return False


def _diff(plugin: str, files: Sequence[str], then: Path | None, now: Path | None) -> Iterator[str]:
    old, new = sources(then), sources(now)
    for name in files:
        before, after = (
            one.get(name, b"").decode(errors="replace").splitlines(keepends=True)
            for one in (old, new)
        )
        heads = (f"a/{plugin}/{name}", f"b/{plugin}/{name}")
        for line in difflib.unified_diff(before, after, *heads):
            yield line if line.endswith("\n") else f"{line}\n"


def _environment(one: Side) -> dict[str, Any]:
    """What its results were computed on and by; several values where they differ."""
    kept: dict[str, dict[str, Any]] = {}
    for result in one.results.values():
        conditions, provenance = result.conditions, result.provenance
        facts = {
            **{name: value for c in conditions[:1] for name, value in c.model_dump().items()},
            **provenance.model_dump(exclude={"packages"}),
            **{f"packages.{name}": value for name, value in provenance.packages.items()},
            "labctl_numerics": result.work.get("labctl_numerics"),
        }
        for name, value in facts.items():
            kept.setdefault(name, {})[str(value)] = value
    return {name: _one(list(values.values())) for name, values in kept.items()}


def _one(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else sorted(map(str, values))


def _conditions(one: Side) -> set[Any]:
    return {condition for result in one.results.values() for condition in result.conditions}


def _measured(a: Side, b: Side, pairs: Sequence[tuple[int, int]]) -> Iterator[Measured]:
    found = {name for result in a.results.values() for name in result.metrics}
    names = sorted(found, key=in_order)
    for name in [*(name for name in names if not name.startswith("knob/")), *BESIDE]:
        ours, theirs = (_values(one, name) for one in (a, b))
        if not ours or not theirs:
            continue
        apart = [theirs[y] - ours[x] for x, y in pairs if x in ours and y in theirs]
        yield Measured(
            metric=name,
            a=_amount(list(ours.values())),
            b=_amount(list(theirs.values())),
            difference=_amount(apart) if apart else None,
        )


def _values(one: Side, name: str) -> dict[int, float]:
    found = {seed: _value(result, name) for seed, result in one.results.items()}
    return {seed: value for seed, value in found.items() if value is not None}


def _value(result: Result, name: str) -> float | None:
    return result.seconds_per_step if name == STEP_TIME else value_of(result, name)


def _amount(values: Sequence[float]) -> Amount:
    found = summary(values)
    return Amount(mean=found.mean, sd=found.sd, n=found.n)


def _items(a: Side, b: Side, pairs: Sequence[tuple[int, int]]) -> Iterator[Items]:
    for x, y in pairs:
        if x in a.runs and y in b.runs and (found := items(a.runs[x], b.runs[y])) is not None:
            yield found


def _partings(a: Side, b: Side, pairs: Sequence[tuple[int, int]]) -> Iterator[Parting]:
    for x, y in pairs:
        then, now = (_training_losses(one) for one in (a.results[x], b.results[y]))
        shared = then.keys() & now.keys()
        if not shared:
            continue
        first = next(told_apart({place: then[place] for place in shared}, now), None)
        if first is None:
            yield Parting(seeds=(x, y), compared=len(shared), step=None)
        else:
            yield Parting(
                seeds=(x, y), compared=len(shared), step=first.step, metric=first.metric,
                a=first.then, b=str(first.now),
            )  # fmt: skip


def _training_losses(result: Result) -> Trace:
    """Single losses, and means over stretches of training."""
    trace = losses_until(trace_of(result))
    return {
        (step, name): text for (step, name), text in trace.items() if name not in result.evaluations
    }
