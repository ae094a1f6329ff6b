"""Values of rows side by side, and whether they can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from labctl.plans.fields import codes_of
from labctl.plans.plan import leaves

from .hardware import peak_flops
from .quantity import value_of
from .result import Conditions
from .rows import Row
from .statistics import summary

_NAMED = {
    "device": "backend", "device_name": "device", "threads": "CPU threads", "torch": "torch",
    "engine": "engine", "replicas": "runs together", "workers": "workers",
}  # fmt: skip
"""Conditions, as they are called."""

REPEATABILITY = 0.01
"""Of a time, that it may vary by from one training to the next; seeds that were trained together
have one time among them, and their spread says nothing of it. The same step of `ctd_baseline` took
4.5991 and 4.6109 ms on two days."""


def values(row: Row, quantity: str) -> dict[int, float]:
    """The row's values of a metric or derived quantity, by seed."""
    found = {seed: value_of(result, quantity) for seed, result in row.results.items()}
    return {seed: value for seed, value in sorted(found.items()) if value is not None}


def incomparable(row: Row, other: Row) -> str | None:
    """Why times of the two rows cannot be divided by one another; None if they can."""
    ours, theirs = row.conditions, other.conditions
    return None if len(ours) == 1 and ours == theirs else f"trained under {unlike(row, other)}"


def crowded(rows: Iterable[Row]) -> str:
    """How many workers shared the device while steps of the rows were timed; empty if none did."""
    most = max((c.workers for row in rows for c in row.conditions), default=1)
    return (
        f"timed while {most} workers shared the device; --jobs 1 times each alone"
        if most > 1
        else ""
    )


def other_data(row: Row, other: Row) -> str:
    """In what data the rows' seeds were trained on differ; empty if in none."""
    if row.data != other.data:
        return f"trained on {row.data}, {other.recipe.label} on {other.data}"
    ours, theirs = _versions(row), _versions(other)
    if not ours or not theirs or ours == theirs:
        return ""
    which = f"{row.data} {' and '.join(ours)}"
    return f"trained on {which}, {other.recipe.label} on {' and '.join(theirs)}"


def _versions(row: Row) -> list[str]:
    return sorted({str(r.work["data"]["version"]) for r in row.results.values() if r.work})


def unlike(*rows: Row) -> str:
    """In what the conditions differ that the rows' seeds were trained under."""
    unknown = [row.recipe.label for row in rows if not row.conditions]
    if unknown:
        return f"conditions unknown of {', '.join(unknown)}"
    found = {
        word: {row.recipe.label: _shown(row.conditions, name) for row in rows}
        for name, word in _NAMED.items()
    }
    return f"different conditions: {'; '.join(_parted(found))}"


def measured_unlike(metric: str, *rows: Row) -> str:
    """In what settings and code differ of the measurement that recorded `metric` of the rows'
    seeds; empty if in nothing."""
    name, found = metric.partition("/")[0], dict[str, dict[str, list[str]]]()
    for row in rows:
        for result in row.results.values():
            for part in result.plan.get("measures", ()):
                if part["name"] != name:
                    continue
                for setting, value in {**leaves(part["config"]), **codes_of(part)}.items():
                    of_row = found.setdefault(setting, {}).setdefault(row.recipe.label, [])
                    if (shown := str(value)) not in of_row:
                        of_row.append(shown)
    parts = "; ".join(_parted(found))
    return f"{name} was measured differently: {parts}" if parts else ""


def _parted(found: Mapping[str, Mapping[str, Sequence[str]]]) -> Iterator[str]:
    """By name, what rows have, by label; those that have all the same are left out."""
    for name, of_rows in found.items():
        if len({value for values in of_rows.values() for value in values}) > 1:
            shown = [(label, " and ".join(values)) for label, values in of_rows.items()]
            texts = [f"{label} {text}" if len(shown) > 1 else text for label, text in shown]
            yield f"{name} ({', '.join(texts)})"


def _shown(conditions: Sequence[Conditions], name: str) -> list[str]:
    return list(dict.fromkeys(str(getattr(one, name) or "unknown") for one in conditions))


def flops_bound(row: Row, other: Row) -> float | None:
    """The speed-up over `other` that the executed FLOPs allow; None if they were not counted."""
    ours, theirs = row.train_flops, other.train_flops
    return theirs / ours if ours and theirs else None


def is_beyond(ratios: list[float], bound: float | None) -> bool:
    """Whether a measured speed-up lies above its bound by more than its spread (one sd) and what
    time varies by between two trainings.

    Of more FLOPs nothing bounds it: larger operators keep a device busier, so that they may take
    no more time.
    """
    if not ratios or bound is None or bound < 1:
        return False
    found, most = summary(ratios), bound * (1 + REPEATABILITY)
    return found.sd is not None and found.mean - found.sd > most


def do_pair(row: Row, other: Row) -> bool:
    """Whether the rows are meant to have seeds in common, though results may be missing yet, or
    others may have been trained as well."""
    ours, theirs = row.named, other.named
    return len(ours & theirs) > 1 or min(len(ours), len(theirs)) < 2


def too_fast(row: Row) -> str:
    """What a row's training time says that its hardware cannot do; empty if it can."""
    seconds = list(values(row, "time").values())
    if not row.train_flops or not seconds or len(row.conditions) != 1:
        return ""
    device = row.conditions[0].device_name
    peak, rate = peak_flops(device), row.train_flops / summary(seconds).mean
    if peak is None or not rate > peak:
        return ""
    shown = f"{rate / 1e12:,.0f} TFLOP/s, above the {peak / 1e12:,.0f}"
    return f"{row.recipe.label} would have executed {shown} that one {device} can do"
