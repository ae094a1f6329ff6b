"""How well a run's model does on what it does not train on, and in the end on what it did."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from labctl.data.batches import Batches
from labctl.plans.plan import Work
from labctl.store.atomic import write_atomic

from .evaluation import Evaluation, evaluate
from .rig import Rig
from .streams import seed_global


class Appraisal:
    """Evaluations of a rig's model; the last one is kept."""

    def __init__(self, rig: Rig, work: Work) -> None:
        self.rig, self.work = rig, work
        self.step = -1
        """Of the last one."""
        self._latest: dict[str, Evaluation] = {}

    def at(self, step: int) -> dict[str, float]:
        """Metrics on the held-out splits after `step` steps; after the last one of training too,
        and with predictions."""
        board, splits = self.rig.board, self.rig.splits
        is_last = step >= self.work.steps
        names = [name for name in ("val", "test") if name in splits]
        if is_last and self.work.evaluate.train:
            names.append("train")
        values: dict[str, float] = {}
        kept: dict[str, Evaluation] = {}
        for name in names:
            prefix = "train/clean" if name == "train" else name
            result = self._of(splits[name], board.for_evaluation(step - 1), step, is_last)
            values |= {f"{prefix}/{metric}": value for metric, value in result.metrics.items()}
            kept[name] = result
            knobs = board.as_trained(step - 1)
            if knobs is not None and name != "train":
                result = self._of(splits[name], knobs, step, False)
                values |= {
                    f"{prefix}/as_trained/{metric}": value
                    for metric, value in result.metrics.items()
                }
        self.step, self._latest = step, kept
        return values

    def _of(self, batches: Batches, knobs: Mapping[str, Any], step: int, keep: bool) -> Evaluation:
        rig, size = self.rig, self.work.evaluate.batch_size
        seed_global(self.work.seed, "evaluate", step)
        return evaluate(
            rig.result, batches, rig.objective, knobs, rig.arithmetic, size, keep_predictions=keep
        )

    def skip_to(self, step: int) -> None:
        """Take it as known what comes out after `step` steps."""
        self.step, self._latest = step, {}

    def keep_predictions(self, path: Path) -> None:
        """Write what was predicted for each example, and what it is."""
        arrays: dict[str, Any] = {}
        small = np.uint16 if self.rig.splits["train"].spec.num_classes < 2**16 else np.int64
        for name, result in self._latest.items():
            if result.predictions is not None and result.targets is not None:
                arrays[name] = result.predictions.numpy().astype(small)
                arrays[f"{name}_targets"] = result.targets.numpy().astype(small)
        if arrays:
            write_atomic(path, lambda file: np.savez_compressed(file, **arrays))
