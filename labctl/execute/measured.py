"""Steps that were timed before, in past runs and published benches, and what they say of a plan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labctl.errors import UsageError
from labctl.measure.speed import COMPILED, read_speed
from labctl.plans.plan import Plan, Work, form_of
from labctl.project import Project
from labctl.store.run import Run, all_runs


@dataclass(frozen=True, slots=True)
class Measured:
    """Steps of one form that were timed together."""

    source: str
    """What people call the run or the file."""
    device: str
    together: int
    """Seeds that took turns."""
    form: str
    """Where the structural knobs stood, see `form_of`."""
    step_flops: int
    """0 if they were not counted."""
    steps: int
    seconds: float
    """Of all of them."""
    numerics: str
    engine: str
    """As `runtime.engine` asked for it."""


def measured(project: Project, plan: Plan) -> Iterator[Measured]:
    """Timed steps of the same model, learner, data and batch, in runs of the project and in the
    published benches."""
    for run in all_runs(project):
        if _is_alike(run.plan.work, plan.work):
            yield from _of_run(run)
    for path in sorted(project.benches.glob("*.json")):
        try:
            speed = read_speed(path)
        except UsageError:  # another JSON file
            continue
        if speed.key != plan.key:
            continue
        for case in speed.cases:
            is_compiled = case.engine == COMPILED
            numerics = plan.work.numerics.model_copy(update={"compiled": is_compiled})
            yield Measured(
                path.name, str(speed.environment.get("device_name", "?")), case.together,
                form_of(case.structural), case.step_flops, case.steps,
                case.step_seconds.median * case.steps, str(numerics),
                "auto" if is_compiled else case.engine,
            )  # fmt: skip


def _is_alike(work: Work, other: Work) -> bool:
    return (work.architecture, work.learner, work.data.name, work.batch_size) == (
        other.architecture, other.learner, other.data.name, other.batch_size
    )  # fmt: skip


def _of_run(run: Run) -> Iterator[Measured]:
    """Its windows, but the first of each attempt, which warms up, and those across two phases."""
    journal, plan = run.journal, run.plan
    devices = {r.attempt: r.fields.get("device_name", "?") for r in journal.of("begin")}
    flops = {form_of(p["structural"]): p["step_flops"] for p in run.ledger.get("phases", ())}
    warm: set[int] = set()
    for record in journal.of("metrics"):
        if "seconds" not in record.fields:
            continue
        if record.attempt not in warm:
            warm.add(record.attempt)
            continue
        steps = record.fields["steps"]
        form = form_of(plan.work.structural_at(record.step - 1))
        if form == form_of(plan.work.structural_at(record.step - steps)):
            yield Measured(
                plan.name, devices.get(record.attempt, "?"), record.fields.get("replicas", 1),
                form, flops.get(form, 0), steps, record.fields["seconds"],
                str(plan.work.numerics), plan.runtime.engine,
            )  # fmt: skip


def estimates(
    found: Iterable[Measured], plan: Plan, phases: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Training time of one seed, for every device and number of seeds together that was measured.

    On each device only those count that are most like the plan: of the same numerics, then of the
    same engine. A phase that was measured takes what it took; another one what the phase with the
    closest FLOPs took, scaled by FLOPs if these differ.

    Args:
        phases: of the plan's ledger.
    """
    wanted = (str(plan.work.numerics), plan.runtime.engine)

    def likeness(steps: Measured) -> tuple[bool, bool]:
        return steps.numerics == wanted[0], steps.engine == wanted[1]

    kept = list(found)
    best = {m.device: max(map(likeness, (o for o in kept if o.device == m.device))) for m in kept}
    groups: dict[tuple[str, int], list[Measured]] = {}
    for steps in kept:
        if likeness(steps) == best[steps.device]:
            groups.setdefault((steps.device, steps.together), []).append(steps)
    return [
        _estimate(device, together, alike, wanted, phases)
        for (device, together), alike in sorted(groups.items())
    ]


@dataclass(slots=True)
class _Pace:
    step_flops: int
    steps: int = 0
    seconds: float = 0.0

    def seconds_per_step(self, flops: int) -> float:
        """Of a step that executes `flops`."""
        scale = flops / self.step_flops if flops and self.step_flops else 1.0
        return scale * self.seconds / self.steps


def _estimate(
    device: str,
    together: int,
    alike: Sequence[Measured],
    wanted: tuple[str, str],
    phases: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    paces: dict[str, _Pace] = {}
    for steps in alike:
        pace = paces.setdefault(steps.form, _Pace(steps.step_flops))
        pace.steps += steps.steps
        pace.seconds += steps.seconds
    seconds, scaled = 0.0, 0
    for phase in phases:
        flops = phase["step_flops"]
        own = paces.get(form_of(phase["structural"]))
        nearest = own or min(paces.values(), key=lambda p: abs(p.step_flops - flops))
        scaled += own is None and nearest.step_flops != flops
        step_seconds = nearest.seconds_per_step(0 if own else flops)
        seconds += step_seconds * (phase["end"] - phase["start"])
    total = sum(phase["end"] - phase["start"] for phase in phases)
    return {
        "device": device,
        "together": together,
        "seconds": seconds,
        "basis": _basis(alike, together, wanted, seconds / total, scaled, len(phases)),
    }


def _basis(
    alike: Sequence[Measured],
    together: int,
    wanted: tuple[str, str],
    pace: float,
    scaled: int,
    phases: int,
) -> str:
    sources = list(dict.fromkeys(steps.source for steps in alike))
    others = f" and {len(sources) - 1} more" if len(sources) > 1 else ""
    parts = [f"{pace:.3g} s a step, from {sources[0]}{others}"]
    parts.append(f"{together} seeds together" if together > 1 else "alone")
    for name, own, asked in zip(
        ("numerics", "engine"), (alike[0].numerics, alike[0].engine), wanted, strict=True
    ):
        if own != asked:
            parts.append(f"{name} {own}, not {asked}")
    if scaled:
        parts.append(f"{scaled} of {phases} phases scaled by FLOPs")
    return ", ".join(parts)
