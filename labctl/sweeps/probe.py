"""A boundary search at work: which runs it asks for next, and what their ends mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from pydantic import ValidationError

from labctl.errors import UsageError
from labctl.project import Project
from labctl.registry.registry import Registry
from labctl.store.status import Status

from .arguments import refuse_replaced
from .bisection import Trial, next_trials
from .boundary import Boundary
from .config import BoundaryBlock, faults_of
from .jobs import Cell, cells
from .sweep import Sweep
from .values import parse_values, written

RANGE = "--values LOW:HIGH, or `boundary: {low: 1e-4, high: 1}` in the sweep's file"


def with_range(sweep: Sweep, given: Sequence[str]) -> Sweep:
    """The sweep with the range of its boundary search, that of the command line first.

    Raises:
        UsageError: several fields, an override of theirs, no range, or one that cannot be read.
    """
    if len(sweep.fields) != 1:
        raise UsageError(
            f"a boundary of {', '.join(sweep.fields)}?", hint="search it in one field at a time"
        )
    refuse_replaced(sweep.fixed, sweep.fields)
    config = sweep.config.boundary
    if given:
        low, high = _ends(given)
        known = config.model_dump(exclude={"low", "high"}) if config else {}
        try:
            config = BoundaryBlock(**{**known, "low": low, "high": high})
            config = config.of_integers() if sweep.axes[0].is_integer else config
        except ValidationError as error:
            raise UsageError(f"--values {given[0]}: {faults_of(error)}", hint=RANGE) from None
    if config is None:
        raise UsageError(f"between which values of {sweep.fields[0]}?", hint=RANGE)
    return replace(sweep, config=sweep.config.model_copy(update={"boundary": config}))


def _ends(given: Sequence[str]) -> tuple[float, float]:
    low, colon, high = given[0].partition(":")
    try:
        if len(given) != 1 or not colon:
            raise ValueError
        (first,), (last,) = parse_values(low), parse_values(high)
        return float(first), float(last)
    except ValueError:
        raise UsageError(f"--values {' '.join(given)} is no range", hint=RANGE) from None


@dataclass(frozen=True, slots=True)
class Probe:
    """The search over one field of a recipe."""

    project: Project
    registry: Registry
    sweep: Sweep

    @property
    def config(self) -> BoundaryBlock:
        assert self.sweep.config.boundary is not None, "a probe is made of a sweep with a range"
        return self.sweep.config.boundary

    def next(self, trials: Sequence[Trial]) -> list[Cell]:
        """The runs that would tell more; none when the ends are found."""
        budget = (f"budget={self.config.budget}",) if self.config.budget else ()
        shortened = replace(self.sweep, fixed=(*self.sweep.fixed, *budget))
        wanted: dict[Decimal, list[int]] = {}
        for value, seed in next_trials(self.config, self.sweep.seeds, trials):
            wanted.setdefault(value, []).append(seed)
        return self._cells(shortened, wanted)

    def at_length(self, found: Boundary) -> list[Cell]:
        """The values on either side of each end, at the recipe's own budget; none if the search had
        that budget."""
        if self.config.budget is None:
            return []
        seeds = list(self.sweep.seeds)
        ends = [end.bracket for end in (found.low, found.high) if end.bracket]
        return self._cells(self.sweep, {tally.value: seeds for pair in ends for tally in pair})

    def judged(self, done: Sequence[Cell]) -> list[Trial]:
        """What became of runs that have an answer."""
        (field,) = self.sweep.fields
        return [
            Trial(
                Decimal(cell.point[field]),
                cell.job.plan.work.seed,
                cell.run(self.project).status is Status.DONE,
            )
            for cell in done
        ]

    def confirmations(self, found: Boundary, at_length: Sequence[Cell]) -> Iterator[str]:
        """Whether the values on either side of each end are at full length what they were."""
        trials = self.judged(at_length)
        for end in (found.low, found.high):
            if end.bracket is None or not trials:
                continue
            for tally, was in zip(end.bracket, ("unstable", "stable"), strict=True):
                of_value = [trial.is_stable for trial in trials if trial.value == tally.value]
                share = sum(of_value) / len(of_value)
                now = "stable" if share >= found.probability else "unstable"
                word = "confirmed" if now == was else "NOT confirmed"
                yield (
                    f"{end.name} end, {written(tally.value)}: {was} within {self.config.budget}, "
                    f"{word} at full length ({sum(of_value)} of {len(of_value)} stable)"
                )

    def _cells(self, sweep: Sweep, wanted: dict[Decimal, list[int]]) -> list[Cell]:
        (field,) = sweep.fields
        return [
            cell
            for value, seeds in wanted.items()
            for cell in cells(self.project, self.registry, sweep, [{field: written(value)}], seeds)
        ]
