"""The loss terms that labctl brings."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from labctl.data.examples import Batch
from labctl.registry.card import DataSpec

from .learner import Knobs, Output, Term


def cross_entropy(config: Any, spec: DataSpec) -> Term:
    """Cross-entropy over classes, or over the vocabulary at every position; targets of -100 are
    left out."""

    def term(output: Output, batch: Batch, knobs: Knobs) -> Tensor:
        logits = output.logits.flatten(0, -2).float()
        loss = F.cross_entropy(logits, batch.targets.flatten(), label_smoothing=config.smoothing)
        weighed: Tensor = loss * config.weight
        return weighed

    return term
