"""Taking the measurements that a plan asks for from a trained model."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from labctl.data.batches import Batches
from labctl.measure.measurement import MeasureContext
from labctl.plan.plan import Plan
from labctl.registry.card import MeasurementCard
from labctl.store.atomic import storage, write_json
from labctl.store.journal import JournalWriter
from labctl.store.run import Run

from .assembly import Assembly, chosen
from .knobs import KnobBoard
from .streams import seed_global


def take_measurements(
    plan: Plan,
    assembly: Assembly,
    model: nn.Module,
    splits: Mapping[str, Batches],
    board: KnobBoard,
    run: Run,
    journal: JournalWriter,
) -> None:
    """Take those not yet taken; each leaves its numbers in the journal, its files in
    `measurements/<name>/`."""
    model.eval()
    for part in plan.measures:
        folder = run.folder / "measurements" / part.name
        if (folder / "values.json").exists():
            continue
        with storage(folder):
            folder.mkdir(parents=True, exist_ok=True)
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
        )
        values: dict[str, float] = measurement.card.run(measurement.config, context)
        journal.metrics(
            plan.work.steps, {f"{part.name}/{name}": value for name, value in values.items()}
        )
        write_json(folder / "values.json", values)
