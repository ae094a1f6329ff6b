"""The loss terms that labctl brings."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from labctl.data.examples import Batch
from labctl.errors import LabctlError
from labctl.registry.card import DataSpec

from .learner import Knobs, Output, Term


def cross_entropy(config: Any, spec: DataSpec) -> Term:
    """Cross-entropy over classes, or over the vocabulary at every position; targets of -100 are
    left out. Of targets that are mixed, by their shares."""

    def term(output: Output, batch: Batch, knobs: Knobs) -> Tensor:
        classes = output.logits.shape[-1]
        if classes != spec.num_classes:
            raise LabctlError(
                f"the model's logits are of {classes} classes, and {spec.name} has "
                f"{spec.num_classes}",
                hint="spec.num_classes, which build() is given, says how many to make",
            )
        logits = output.logits.flatten(0, -2).float()
        of = partial(F.cross_entropy, logits, label_smoothing=config.smoothing)
        if batch.share is None:
            loss = of(batch.targets.flatten())
        else:
            loss = batch.blended(partial(of, reduction="none")).mean()
        weighed: Tensor = loss * config.weight
        return weighed

    return term
