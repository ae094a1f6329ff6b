"""Rows: a recipe with its preset and data, and the results of its seeds. Read from files alone."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from labctl.errors import RunError
from labctl.plans.derive import measurements, plans
from labctl.plans.fields import codes_of, fields_of
from labctl.plans.plan import Plan, differences, leaves, settings_of
from labctl.project import Project
from labctl.recipe.recipe import Recipe, load
from labctl.recipe.seeds import listed_seeds
from labctl.registry.registry import Registry
from labctl.store.run import Run, all_runs, run_of
from labctl.store.status import Status

from .bundle import Bundle, without_paths
from .result import Conditions, Result, result_of

UNSTABLE = (Status.DIVERGED, Status.HALTED)
"""Ends of a run that are answers, and no result."""
_LISTED = 5
"""Differences between plans that a note lists."""


@dataclass(frozen=True, slots=True)
class Absent:
    """A seed without a result."""

    status: Status | None
    """None: never begun."""
    message: str = ""


@dataclass(frozen=True)
class Row:
    """What there is of one recipe."""

    recipe: Recipe
    results: Mapping[int, Result]
    """By seed: the runs that are done."""
    absent: Mapping[int, Absent]
    """By seed: the others, diverged and halted ones among them."""
    bundles: Mapping[int, str] = field(default_factory=dict)
    """By seed: the bundle that a result comes from, if from one."""
    edition: str = ""
    """Of a row of published results that the recipe as it is now would not repeat: their bundle."""
    sweep: str = ""
    """Of a point of a sweep: what trains it, after `labctl sweep`."""
    runs: Mapping[int, Run] = field(default_factory=dict)
    """By seed: the runs of this project that results were read from."""

    @property
    def data(self) -> str:
        """What the data call themselves, such as the name of a file of one's own."""
        return self.recipe.spec.name

    @property
    def groups(self) -> frozenset[str]:
        """Of its results: what they are the same work by, but for the seed."""
        return frozenset(result.group for result in self.results.values())

    @property
    def expected(self) -> int:
        """Seeds that the row should have."""
        return len(self.results) + len(self.absent)

    @property
    def named(self) -> frozenset[int]:
        """Seeds that the recipe names, with those of its further ones that joined; of an earlier
        edition those that were published."""
        found, document = {*self.results, *self.absent}, self.recipe.document
        if self.edition:
            return frozenset(found)
        return frozenset(document.first_seeds) | found & {*document.further_seeds}

    @property
    def is_begun(self) -> bool:
        """Whether there is anything of it."""
        return bool(self.results) or any(gone.status for gone in self.absent.values())

    @property
    def is_unstable(self) -> bool:
        """Whether every seed has an answer, and none a result: all diverged or were halted."""
        return bool(self.absent) and len(self.seeds(*UNSTABLE)) == self.expected

    def seeds(self, *statuses: Status | None) -> list[int]:
        """Seeds without a result that are in one of `statuses`."""
        return sorted(seed for seed, absent in self.absent.items() if absent.status in statuses)

    @property
    def command(self) -> str:
        """Trains what the row lacks."""
        words = ["labctl sweep", self.sweep]
        if not self.sweep:
            given = (self.recipe.name, *settings_of(self.recipe.point))
            words = ["labctl run", shlex.join(given)]
        if self.recipe.preset:
            words.append(f"--preset {self.recipe.preset}")
        return " ".join(words)

    @property
    def name(self) -> str:
        """The recipe's label, with what was set otherwise at this point."""
        return " ".join([self.recipe.label, *settings_of(self.recipe.point)])

    @property
    def conditions(self) -> tuple[Conditions, ...]:
        """Those that the row's results were trained under, each once."""
        found = (c for result in self.results.values() for c in result.conditions)
        return tuple(dict.fromkeys(found))

    @cached_property
    def train_flops(self) -> float | None:
        """Executed by the training of one seed; None if they were not counted."""
        ledgers = (result.ledger for result in self.results.values())
        counts = (ledger["train_flops"] for ledger in ledgers if "train_flops" in ledger)
        return next(map(float, counts), None)

    def notes(self) -> Iterator[str]:
        """What a reader must know: seeds that are missing, results that come from elsewhere."""
        for status in UNSTABLE:
            for seed in self.seeds(status):
                why = self.absent[seed].message or "no reason recorded"
                yield f"{status.lower()}: seed {seed} ({why})"
        for seed in self.seeds(Status.FAILED):
            first = (self.absent[seed].message.splitlines() or ["no reason recorded"])[0]
            retry = " --retry failed" if self.sweep else ""
            yield f"failed: seed {seed} ({first}); again: {self.command}{retry}"
        for status in (Status.RUNNING, Status.STOPPED, Status.LOST):
            if seeds := self.seeds(status):
                then = "" if status is Status.RUNNING else f"; go on: {self.command}"
                yield f"{status.lower()}: {listed_seeds(seeds)}{then}"
        if seeds := self.seeds(None, Status.PENDING):
            yield f"missing: {listed_seeds(seeds)}; train: {self.command}"
        document = self.recipe.document
        if (rule := document.growing) and len(self.results) > rule.min:
            yield (
                f"seeds joined until {rule.until}: so chosen, an interval that is said to cover "
                "the mean in 95 % of all cases does in 90 to 95 %"
            )
        if unasked := sorted({*self.results} - {*document.first_seeds, *document.further_seeds}):
            yield f"more than the recipe names: {listed_seeds(unasked)}"
        counts = {result.ledger["train_flops"] for result in self.results.values() if result.ledger}
        if len(counts) > 1:
            amounts = ", ".join(f"{count:.6g}" for count in sorted(counts))
            yield f"seeds executed different numbers of FLOPs: {amounts}"
        yield from self._measured_otherwise()
        yield from self._published_notes()

    def _measured_otherwise(self) -> Iterator[str]:
        """Measurements that were taken with other settings than the recipe has, or by other code
        than today's."""
        settings: dict[str, list[int]] = {}
        codes: dict[str, list[int]] = {}
        for seed, result in sorted(self.results.items()):
            parts = measurements(self.recipe, result.work.get("digests", {}))
            asked = {part.name: part for part in parts}
            for part in result.plan.get("measures", ()):
                if (today := asked.get(part["name"])) is None:
                    continue
                now, before = leaves(today.config), leaves(part["config"])
                for name in sorted(now.keys() & before.keys()):
                    if before[name] != now[name]:
                        text = f"{part['name']}.{name}={before[name]}, not {now[name]}"
                        settings.setdefault(text, []).append(seed)
                if (then := codes_of(part)) and then != codes_of(today.model_dump()):
                    codes.setdefault(part["name"], []).append(seed)
        for text, seeds in settings.items():
            yield f"measured with {text} as in the recipe: {listed_seeds(seeds)}"
        for name, seeds in () if self.edition else codes.items():
            again = "" if self.bundles.keys() & {*seeds} else f"; again: {self.command}"
            yield f"{name} was measured by other code than today's: {listed_seeds(seeds)}{again}"

    def _published_notes(self) -> Iterator[str]:
        for name in sorted(set(self.bundles.values())):
            seeds = sorted(seed for seed, bundle in self.bundles.items() if bundle == name)
            found = [self.results[seed] for seed in seeds if seed in self.results]
            hardware = "; ".join(dict.fromkeys(str(c) for r in found for c in r.conditions))
            versions = ", ".join(sorted({r.provenance.labctl or "unknown" for r in found}))
            dates = ", ".join(sorted({result.ended for result in found}))
            yield (
                f"published in {name}: {listed_seeds(seeds)}, n={len(found)}, "
                f"on {hardware or 'unknown hardware'}, labctl {versions}, {dates}"
            )
        if self.edition:
            changed = _changed(self)
            yield (
                f"published before the recipe changed ({', '.join(changed) or 'its group'}); "
                f"as it is now: {self.command}"
            )


def _changed(row: Row) -> list[str]:
    """Fields of the published plan that differ from the recipe as it is now."""
    now = without_paths(plans(row.recipe)[0].work.model_dump(mode="json", by_alias=True))
    then = next(iter(row.results.values())).work if row.results else now
    found = differences(fields_of(then), fields_of(now))
    names = [name.replace("digests.", "code of ") for name in found if name != "seed"]
    more = [f"and {len(names) - _LISTED} more"] if len(names) > _LISTED else []
    return names[:_LISTED] + more


class Rows:
    """The rows of a project under one preset, each read once."""

    def __init__(
        self, project: Project, registry: Registry, preset: str | None, bundles: Sequence[Bundle]
    ) -> None:
        self.project, self.registry, self.preset, self.bundles = project, registry, preset, bundles
        self._known: dict[str, tuple[Row, ...]] = {}

    def of(self, recipe: str) -> tuple[Row, ...]:
        """The recipe's row; before the recipe last changed, others may have been published.

        Raises:
            UsageError, RecipeError: no such recipe, or a faulty one.
        """
        if recipe not in self._known:
            self._known[recipe] = self._rows(load(self.project, self.registry, recipe, self.preset))
        return self._known[recipe]

    def lender(self, recipe: str) -> str:
        """A bundle that holds runs of a recipe; empty if none does."""
        holding = (b.name for b in self.bundles if any(r.recipe == recipe for r in b.results))
        return next(holding, "")

    def at(self, recipe: Recipe) -> tuple[Row, ...]:
        """Rows of a recipe with overrides: a point of a sweep."""
        return self._rows(recipe)

    def tried(self, recipe: str, fields: frozenset[str]) -> Iterator[tuple[Mapping[str, Any], int]]:
        """Points and seeds with which the recipe was tried with other values of exactly these
        fields, in runs of this project and in bundles."""
        label = f"{recipe}@{self.preset}" if self.preset else recipe
        runs = (run.plan for run in all_runs(self.project) if run.plan.label == label)
        results = (result for bundle in self.bundles for result in bundle.results)
        published = ((r.point, r.seed) for r in results if r.label == label)
        found = (*((plan.point, plan.work.seed) for plan in runs), *published)
        return ((point, seed) for point, seed in found if point.keys() == fields)

    def counterpart(self, row: Row, recipe: str) -> Row:
        """The row of `recipe` to compare `row` with: of the same edition where there is one."""
        rows = self.of(recipe)
        return next((other for other in rows if other.edition == row.edition), rows[0])

    def _rows(self, recipe: Recipe) -> tuple[Row, ...]:
        by_seed = {plan.work.seed: plan for plan in plans(recipe)}
        group = next(iter(by_seed.values())).group
        ours = [
            (bundle.name, result)
            for bundle in self.bundles
            for result in bundle.results
            if result.group == group  # the same work, whatever it was trained as
            or (
                result.label == recipe.label
                and result.data == recipe.document.data.name
                and result.point == recipe.point
            )
        ]
        results, absent, runs = self._own(by_seed | self._further(recipe))
        bundles: dict[int, str] = {}
        for name, result in ours:
            seed = result.seed
            answered = seed in absent and absent[seed].status in UNSTABLE
            decided = seed in results or answered
            if result.group == group and not decided:
                absent.pop(seed, None)
                _sort_in(result, results, absent)
                bundles[seed] = name
        now = Row(recipe, results, absent, bundles, runs=runs)
        earlier = [
            _edition(recipe, name, found, [r for n, r in ours if (n, r.group) == (name, found)])
            for name, found in dict.fromkeys((name, result.group) for name, result in ours)
            if found != group
        ]
        has_any = results or any(gone.status is not None for gone in absent.values())
        return (now, *earlier) if has_any or not earlier else tuple(earlier)

    def _own(
        self, by_seed: Mapping[int, Plan]
    ) -> tuple[dict[int, Result], dict[int, Absent], dict[int, Run]]:
        results: dict[int, Result] = {}
        absent: dict[int, Absent] = {}
        runs: dict[int, Run] = {}
        for seed, plan in by_seed.items():
            run = self._run_with(plan)
            status = run.status if run else None
            if run is None or status is not Status.DONE:
                message = str((run.end or {}).get("message", "")) if run else ""
                absent[seed] = Absent(status, message)
            else:
                results[seed], runs[seed] = result_of(run), run
        return results, absent, runs

    def _further(self, recipe: Recipe) -> dict[int, Plan]:
        """Seeds of a recipe that grows that have joined the first ones."""
        seeds = recipe.document.further_seeds
        found = plans(recipe, seeds) if seeds else ()
        joined = (plan for plan in found if (run := self._run_with(plan)) and run.is_begun)
        return {plan.work.seed: plan for plan in joined}

    def _run_with(self, plan: Plan) -> Run | None:
        """The run with the plan's key: in its own place, or under another recipe's name."""
        own = run_of(self.project, plan)
        try:
            if own.plan.key == plan.key:
                return own
        except RunError:
            pass
        return self._by_key.get(plan.key)

    @cached_property
    def _by_key(self) -> dict[str, Run]:
        return {run.plan.key: run for run in all_runs(self.project)}


def _sort_in(result: Result, results: dict[int, Result], absent: dict[int, Absent]) -> None:
    if result.status is Status.DONE:
        results[result.seed] = result
    else:
        absent[result.seed] = Absent(result.status, result.message)


def _edition(recipe: Recipe, name: str, group: str, found: Sequence[Result]) -> Row:
    results: dict[int, Result] = {}
    absent: dict[int, Absent] = {}
    for result in found:
        _sort_in(result, results, absent)
    return Row(recipe, results, absent, {result.seed: name for result in found}, edition=name)
