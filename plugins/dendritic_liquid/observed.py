"""Back-propagation that notes, epoch by epoch, what gates, importance and masks have come to."""

from __future__ import annotations

import torch
from torch import Tensor

from labctl.api import Backprop, Batch, Knobs, LabctlError, LearnerParts, Metrics

from .model import DendriticLiquidViT
from .watching import look, openness


class ObservedBackprop(Backprop):
    """Back-propagation, with the numbers of the plain one; before the first step of every epoch it
    looks at what the model does with that step's batch, as evaluation would."""

    def __init__(self, parts: LearnerParts) -> None:
        """Raises:
        LabctlError: the model is of another family.
        """
        super().__init__(parts)
        if not isinstance(parts.model, DendriticLiquidViT):
            name = type(parts.model).__name__
            raise LabctlError(
                f"observed_backprop looks into dendritic_liquid_vit, and this is {name}",
                hint="learner: {kind: backprop}",
            )
        self.model = parts.model

    def look(self, batch: Batch, knobs: Knobs) -> Metrics:
        """Of each block l, from 1, as far as the model has such parts: `gate_block<l>`, mean of 1 -
        gamma over channels and the tokens that are left; `importance_block<l>`, mean of the
        dendrites' over the patches that come in; `kept_block<l>`, share of all patches that it
        attends to, or that count for more than half."""
        config = self.model.config
        if not (config.dendrites or config.liquid or config.sparse):
            return {}
        self.model.eval()
        try:
            with self.parts.autocast():
                found = look(self.model, batch.inputs, knobs)
        finally:
            self.model.train()
        metrics: Metrics = {}
        patches = len(batch.inputs) * self.model.num_patches
        for place, seen in enumerate(found.seen, start=1):
            if found.gates:
                metrics[f"gate_block{place}"] = openness(seen, found.gates[place - 1])
            if not config.ranked_by_cls and seen.scores is not None:
                metrics[f"importance_block{place}"] = _mean(seen.scores, seen.scores.numel())
            if config.sparse is not None:
                metrics[f"kept_block{place}"] = _mean(seen.kept, patches)
        return metrics


def _mean(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    total = values.sum().float()
    return total, torch.full_like(total, count)
