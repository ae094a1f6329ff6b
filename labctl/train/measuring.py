"""Taking the measurements that a plan asks for from a trained model."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from typing import Any

from torch import nn

from labctl.data.batches import Batches
from labctl.errors import PluginError
from labctl.measure.measurement import MeasureContext
from labctl.plans.derive import measured_by
from labctl.plans.plan import Plan
from labctl.registry.card import MeasurementCard
from labctl.registry.digest import measurements_digest
from labctl.store.atomic import storage, write_json
from labctl.store.journal import JournalWriter
from labctl.store.run import Run

from .assembly import Assembly, chosen
from .knobs import KnobBoard
from .numerics import Arithmetic
from .streams import seed_global

EDITED = "edited while it was taken"
"""Said of a measurement's code in the place of a digest."""


def take_measurements(
    plan: Plan,
    assembly: Assembly,
    model: nn.Module,
    splits: Mapping[str, Batches],
    board: KnobBoard,
    run: Run,
    journal: JournalWriter,
) -> None:
    """Take those not yet taken as they are asked for; each leaves its numbers in the journal, its
    files in `measurements/<name>/`. What it had left when asked something else, or by other code,
    gives way, also if it fails now."""
    model.eval()
    for part in run.unmeasured(plan):
        folder = run.folder / "measurements" / part.name
        loaded = assembly.registry.load(part.plugin)
        asked = measured_by(part, loaded, plan.work.digests)
        with storage(folder):
            if run.asked(part.name) != asked:
                if run.measured(part.name):
                    journal.metrics(plan.work.steps, {}, measurement=part.name)
                shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "asked.json", asked.model_dump(mode="json"))
        seed_global(plan.work.seed, f"measure/{part.name}")
        measurement = chosen(assembly.registry, MeasurementCard, part)
        context = MeasureContext(
            model=model,
            model_config=assembly.architecture.config,
            spec=assembly.spec,
            splits=splits,
            knobs=board.for_evaluation(plan.work.steps - 1),
            device=board.device,
            folder=folder,
            seed=plan.work.seed,
            places=assembly.places,
            curves=run.journal.curves,
            autocast=Arithmetic(plan.work.numerics, board.device).autocast,
        )
        values = _numbers(part.name, measurement.card.run(measurement.config, context))
        if measurements_digest(loaded.plugin.folder) != asked.code:  # what of it was run?
            edited = asked.model_copy(update={"code": EDITED})
            write_json(folder / "asked.json", edited.model_dump(mode="json"))
        named = {f"{part.name}/{name}": value for name, value in values.items()}
        journal.metrics(plan.work.steps, named, measurement=part.name)
        # JSON has no number for a correlation of what does not vary.
        told = {name: v if math.isfinite(v) else repr(v) for name, v in values.items()}
        write_json(folder / "values.json", told)


def _numbers(name: str, found: Any) -> dict[str, float]:
    """What a measurement returned, as floats.

    Raises:
        PluginError: it is something else than numbers by name.
    """
    try:
        return {str(key): float(value) for key, value in found.items()}
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise PluginError(
            f"measurement {name!r} returned no numbers by name: {error}",
            hint="return {'share': 0.5}, of floats, and write arrays into context.folder",
        ) from None
