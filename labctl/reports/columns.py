"""From rows to cells: what each kind of column shows of each row."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from labctl.recipe.derived import DERIVED
from labctl.recipe.seeds import listed_seeds

from .comparison import (
    REPEATABILITY,
    crowded,
    flops_bound,
    incomparable,
    is_beyond,
    other_data,
    unlike,
    values,
)
from .evidence import subject
from .grid import Cell, Heading
from .obstacles import lacks, meant, recorded
from .quantity import absent, axis_label, value_at
from .rows import UNSTABLE, Row
from .statistics import Summary, paired, summary
from .table import (
    ColumnConfig,
    DeviceTimeColumn,
    EnergyColumn,
    FlopsColumn,
    GapColumn,
    MetricColumn,
    ParametersColumn,
    Pick,
    SpeedupColumn,
    StableColumn,
    TimeColumn,
    TokensColumn,
    VerdictColumn,
)
from .verdicts import Verdict, Word, remark

PLUS_MINUS = "\u00b1"
NOT_COMPARABLE = "not comparable"
_TIMES = ((7200.0, 3600.0, "h"), (120.0, 60.0, "min"), (0.0, 1.0, "s"))
"""From this many seconds on, a column is shown in units of so many seconds."""
_LONG = 100
"""Of as many of a unit as its column begins with, the longest may be."""
_PREFIXES = ("", "k", "M", "G", "T", "P", "E")


@dataclass(frozen=True, slots=True)
class Columns:
    """Sets the columns of a table over `rows`."""

    rows: Sequence[Row]
    baseline: str | None
    counterpart: Callable[[Row, str], Row]
    """The row of another recipe that a row is compared with."""
    verdicts: Sequence[Sequence[Verdict]] = ()
    """On the claims of each row, if a column shows them."""

    def heading(self, column: ColumnConfig) -> Heading:
        """The head of a column, with its unit."""
        if isinstance(column, MetricColumn):
            pick = column.pick
            picked = f", at {pick.extreme} {pick.metric}" if pick else ""
            return Heading(column.label or f"{axis_label(column.metric)}{picked}")
        if isinstance(column, TimeColumn):
            return Heading(column.label or ("Wall time" if column.wall else "Training time"))
        return Heading(column.label, is_figure=not isinstance(column, VerdictColumn))

    def cells(self, column: ColumnConfig) -> list[Cell]:
        """One cell per row."""
        match column:
            case MetricColumn():
                return [_metric(column, row) for row in self.rows]
            case GapColumn():
                return [_seeds(row, "gap", column.digits) for row in self.rows]
            case TimeColumn():
                return self._times(column)
            case DeviceTimeColumn() | EnergyColumn():
                return self._totals(column.kind)
            case SpeedupColumn():
                return [self._speedup(row) for row in self.rows]
            case FlopsColumn():
                return self._counts("flops", "FLOP", 2)
            case ParametersColumn():
                return self._counts("parameters", "", 2)
            case TokensColumn():
                return [
                    _constant(row, "tokens", lambda tokens: f"{tokens:.2f}") for row in self.rows
                ]
            case StableColumn():
                return [_stable(row) for row in self.rows]
            case VerdictColumn():
                return [_claims(*of) for of in zip(self.rows, self.verdicts, strict=True)]

    def remark(self, column: ColumnConfig) -> str | None:
        """What a reader must know to read the column."""
        match column:
            case MetricColumn() if column.pick:
                return f"{self.heading(column).text}: {_picked(column.pick)}"
            case GapColumn():
                return f"{column.label}: {DERIVED['gap']}"
            case TimeColumn():
                how = f"{DERIVED[column.quantity]}{self._mixed_paces()}{self._crowded()}"
                return f"{self.heading(column).text}: {how}"
            case DeviceTimeColumn() | EnergyColumn():
                return f"{column.label}: sum over seeds; {DERIVED[column.kind]}"
            case SpeedupColumn():
                return (
                    f"{column.label}: training time of {self.baseline} over that of the row, "
                    "paired by seed; bound: the ratio of their executed training FLOPs; SUSPECT: "
                    f"above the bound by more than one sd and {100 * REPEATABILITY:g} % of it"
                    f"{self._crowded()}"
                )
            case FlopsColumn():
                return f"{column.label}: {DERIVED['flops']}"
            case TokensColumn():
                return f"{column.label}: {DERIVED['tokens']}"
            case StableColumn():
                return (
                    f"{column.label}: runs that came to their end over all that have an answer; "
                    "the others diverged, or were halted by a stop rule of their recipe"
                )
            case VerdictColumn():
                return f"{column.label}: {remark([v for row in self.verdicts for v in row])}"
            case _:
                return None

    def _times(self, column: TimeColumn) -> list[Cell]:
        means = [
            summary(list(v.values())).mean
            for row in self.rows
            if (v := values(row, column.quantity))
        ]
        seconds, unit = _time_unit(means)
        digits = 2 if unit == "h" else 1
        cells = []
        for row in self.rows:
            if len(row.conditions) > 1:
                note = f"{row.name}: seeds were trained under {unlike(row)}"
                cells.append(
                    Cell(NOT_COMPARABLE, seeds=values(row, column.quantity), notes=(note,))
                )
            else:
                cells.append(_seeds(row, column.quantity, digits, seconds, f" {unit}"))
        return [replace(cell, unit=" s") for cell in cells]

    def _crowded(self) -> str:
        how = crowded(self.rows)
        return f"; {how}" if how else ""

    def _mixed_paces(self) -> str:
        """Which rows were not trained as the others were, so that their times say nothing of each
        other; empty if all were."""
        found: dict[str, list[str]] = {}
        for row in self.rows:
            for conditions in row.conditions:
                found.setdefault(conditions.pace, []).append(row.name)
        if len(found) < 2:
            return ""
        parts = (f"{pace} ({', '.join(dict.fromkeys(names))})" for pace, names in found.items())
        return f"; not to be compared across: {'; '.join(parts)}"

    def _speedup(self, row: Row) -> Cell:
        assert self.baseline is not None, "checked when the table was read"
        other = self.counterpart(row, self.baseline)
        if _identity(other) == _identity(row):
            return Cell("baseline")
        pairs = paired(values(row, "time"), values(other, "time"))
        reason = other_data(row, other)
        if not pairs and not (reason and row.results and other.results):
            return _nothing(row, (_lacking(other),) if row.results else ())
        if reason := reason or incomparable(row, other) or "":
            return Cell(NOT_COMPARABLE, notes=(f"{row.name}: {reason}",))
        ratios = {
            seed: theirs / ours if ours else math.nan for seed, (ours, theirs) in pairs.items()
        }
        found = summary(list(ratios.values()))
        bound = flops_bound(row, other)
        text = _figure(found, row.expected, 2)
        notes = []
        if bound is None:
            text += ", bound unknown"
            notes.append(f"{row.name}: FLOPs were not counted, so nothing bounds the speed-up")
        else:
            text += f", bound {bound:.2f}"
        if is_beyond(list(ratios.values()), bound):
            text += f" {Word.SUSPECT}"
        elif bound is not None and found.sd is None and found.mean > bound:
            notes.append(f"{row.name}: above the bound, but one pair of seeds shows no spread")
        numbers = _numbers(found, row.expected) | ({} if bound is None else {"bound": bound})
        return Cell(text, numbers, ratios, tuple(notes))

    def _totals(self, quantity: str) -> list[Cell]:
        """Sums over seeds, of seconds or joules."""
        by_row = [values(row, quantity) for row in self.rows]
        totals = [math.fsum(found.values()) for found in by_row]
        scale, unit = _prefix(totals, "J") if quantity == "energy" else _time_unit(totals)
        cells = []
        for row, found, total in zip(self.rows, by_row, totals, strict=True):
            lacking = sorted(row.results.keys() - found.keys())
            why = f"{row.name}: no {quantity} is known of {listed_seeds(lacking)}"
            notes = (why,) if lacking else ()
            if not found:
                cells.append(_nothing(row, notes))
                continue
            text = f"{total / scale:.2f} {unit} {_count(len(found), row.expected)}"
            numbers = {"sum": total, "n": len(found), "of": row.expected}
            cells.append(Cell(text, numbers, found, notes))
        return cells

    def _counts(self, quantity: str, unit: str, digits: int) -> list[Cell]:
        scale, name = _prefix(
            [v for row in self.rows for v in values(row, quantity).values()], unit
        )

        def shown(value: float) -> str:
            return f"{value / scale:.{digits if scale > 1 else 0}f} {name}".rstrip()

        return [_constant(row, quantity, shown) for row in self.rows]


def _time_unit(seconds: Sequence[float]) -> tuple[float, str]:
    """Seconds in the unit in which these are shown, and its name: the largest of which the shortest
    is one at least, unless that takes many digits for the longest."""
    known = [value for value in seconds if math.isfinite(value) and value > 0]
    shortest, longest = min(known, default=0.0), max(known, default=0.0)
    fits = (of for of in _TIMES if shortest >= of[0] or longest >= _LONG * of[0])
    return next((size, unit) for _, size, unit in fits)


def _prefix(amounts: Sequence[float], unit: str) -> tuple[float, str]:
    """How many of `unit` are in the one in which these are shown, and its name: the largest of
    which the least is a tenth, unless that takes many digits for the most."""
    known = [amount for amount in amounts if amount > 0]
    least, most = min(known, default=0.0), max(known, default=0.0)
    power = max(_power(10 * least), _power(most / _LONG))
    return 1000.0**power, f"{_PREFIXES[power]}{unit}"


def _power(amount: float) -> int:
    """Of the largest prefix of which the amount is one at least."""
    return min(len(_PREFIXES) - 1, int(math.log10(amount) / 3)) if amount >= 1 else 0


def _claims(row: Row, verdicts: Sequence[Verdict]) -> Cell:
    if not verdicts:
        return Cell("none")
    here = [verdict for verdict in verdicts if verdict.word is not Word.ELSEWHERE]
    plain = tuple(verdict.plain() for verdict in verdicts)
    if not here:
        claims = row.recipe.document.claims.values()
        about = sorted({" for ".join(subject(claim, row.recipe)) for claim in claims})
        return Cell(f"claims are about {', '.join(about)}", claims=plain)
    if not row.results and not row.is_unstable:
        return Cell("no result yet", claims=plain)
    text = "; ".join(verdict.text for verdict in here)
    return Cell(text, notes=tuple(verdict.detail for verdict in here), claims=plain)


def _picked(pick: Pick) -> str:
    extreme = "largest" if pick.extreme == "max" else "smallest"
    text = f"at the evaluation where {pick.metric} is {extreme}, the first of several equal ones"
    if pick.is_on_test:
        text += "; picked on the test set itself, so better than on examples that nobody has seen"
    return text


def _metric(column: MetricColumn, row: Row) -> Cell:
    pick = column.pick
    if pick is None:
        return _seeds(row, column.metric, column.digits)
    found = {
        seed: value
        for seed, result in sorted(row.results.items())
        if (value := value_at(result, column.metric, pick.extreme, pick.metric)) is not None
    }
    why = f"{column.metric} was not evaluated where {pick.metric} is best"
    if not any(pick.metric in result.evaluations for result in row.results.values()):
        why = f"no {pick.metric} was evaluated"
        why += "; data.val carves a validation part" if not pick.is_on_test else ""
    return _over_seeds(row, column.metric, found, column.digits, why=why)


def _seeds(row: Row, quantity: str, digits: int, scale: float = 1.0, unit: str = "") -> Cell:
    """Mean and spread of a quantity over the row's seeds."""
    why = f"no {quantity} was recorded"
    known = recorded(row)
    if quantity not in DERIVED and quantity not in known:
        if (of := absent(quantity, known)) is None:
            why += f"; {meant(quantity, known)}"
        elif row.results:
            return _nothing(row, (lacks(row, of),))
    return _over_seeds(row, quantity, values(row, quantity), digits, scale, unit, why)


def _over_seeds(
    row: Row,
    quantity: str,
    found: dict[int, float],
    digits: int,
    scale: float = 1.0,
    unit: str = "",
    why: str = "",
) -> Cell:
    """`found` holds raw values; the text shows them divided by `scale`."""
    lacking = sorted(row.results.keys() - found.keys())
    notes = (f"{row.name}: {why} ({listed_seeds(lacking)})",) if lacking else ()
    if not found:
        return _nothing(row, notes)
    if broken := [seed for seed, value in found.items() if not math.isfinite(value)]:
        notes = (*notes, f"{row.name}: {quantity} is not finite for {listed_seeds(broken)}")
    raw = summary(list(found.values()))
    shown = summary([value / scale for value in found.values()])
    return Cell(
        _figure(shown, row.expected, digits, unit), _numbers(raw, row.expected), found, notes
    )


def _constant(row: Row, quantity: str, shown: Callable[[float], str]) -> Cell:
    """A figure that the plan decides, the same for every seed."""
    found = values(row, quantity)
    if not found:
        lacks = f"{row.name}: no {quantity} were counted"
        return _nothing(row, (lacks,) if row.results else ())
    value = next(iter(found.values()))
    uncounted = {
        name for result in row.results.values() for name in result.ledger.get("uncounted", [])
    }
    notes: tuple[str, ...] = ()
    if quantity == "flops" and uncounted:
        notes = (f"{row.name}: without {', '.join(sorted(uncounted))}, which nobody counts",)
    return Cell(shown(value), {"value": value}, found, notes)


def _stable(row: Row) -> Cell:
    """Share of stable runs among those that have an answer."""
    done = len(row.results)
    answered = done + len(row.seeds(*UNSTABLE))
    if not answered:
        return _nothing(row)
    numbers = {"value": done / answered, "stable": done, "n": answered, "of": row.expected}
    return Cell(f"{done / answered:.2f} ({done} of {answered})", numbers)


def _nothing(row: Row, notes: tuple[str, ...] = ()) -> Cell:
    """A row without the figure: seeds are missing or have no result, or it was not recorded."""
    if row.results:
        return Cell("-", notes=notes)
    for status in UNSTABLE:
        if len(row.seeds(status)) == row.expected:
            return Cell(f"{status.lower()} ({row.expected} of {row.expected})")
    return Cell(f"missing (0 of {row.expected})")


def _identity(row: Row) -> tuple[object, ...]:
    return row.recipe.path, row.recipe.point, row.edition


def _lacking(other: Row) -> str:
    return f"no seed in common with {other.recipe.label}; train: {other.command}"


def _figure(found: Summary, expected: int, digits: int, unit: str = "") -> str:
    """`94.01 +- 0.12 (n=3 of 5)`; without the spread for one value."""
    spread = "" if found.sd is None else f" {PLUS_MINUS} {found.sd:,.{digits}f}"
    return f"{found.mean:,.{digits}f}{spread}{unit} {_count(found.n, expected)}"


def _count(found: int, expected: int) -> str:
    return f"(n={found} of {expected})" if found < expected else f"(n={found})"


def _numbers(found: Summary, expected: int) -> dict[str, float]:
    spread = {} if found.sd is None else {"sd": found.sd}
    return {"mean": found.mean, **spread, "n": found.n, "of": expected}
