"""Back-propagation that shows the model its loss before patches are dropped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor, nn

from labctl.api import (
    Backprop,
    Batch,
    Knobs,
    LabctlError,
    Learner,
    LearnerParts,
    Metrics,
    Objective,
)

from .model import CtdVit
from .saliency import keep_patches


class _Rest(nn.Module):
    """What is left to do of a forward pass, in the place of the model."""

    def __init__(self, logits: Callable[[], Tensor]) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, inputs: Tensor, knobs: Knobs) -> Tensor:
        return self.logits()


@dataclass(frozen=True)
class LossRanked(Objective):
    """The objective of a model whose patches are ranked by the gradient of this very objective.

    The model runs to the place of the drop once. From there all tokens run to the loss, and its
    gradient comes back to that place and no further; then the tokens that are left run to the loss
    that is minimised. Each of the two draws its own dropout.
    """

    def __call__(self, model: nn.Module, batch: Batch, knobs: Knobs) -> tuple[Tensor, Metrics]:
        assert isinstance(model, CtdVit)

        def objective(tokens: Tensor) -> tuple[Tensor, Metrics]:
            return Objective.__call__(self, _Rest(partial(model.after_drop, tokens)), batch, knobs)

        drop = float(knobs["token_drop"])
        tokens = model.until_drop(batch.inputs)
        chosen = model.chosen_by_gradient(tokens, drop, lambda leaf: objective(leaf)[0])
        return objective(tokens if chosen is None else keep_patches(tokens, chosen.index))


def gradient_learner(parts: LearnerParts) -> Learner:
    """Back-propagation of `LossRanked`.

    Raises:
        LabctlError: the model does not rank by the gradient.
    """
    if not isinstance(parts.model, CtdVit) or parts.model.config.saliency != "gradient":
        raise LabctlError(
            "learner saliency_gradient is for architecture ctd_vit with saliency: gradient",
            hint="learner: {kind: backprop}, or model: {architecture: ctd_vit, saliency: gradient}",
        )
    return Backprop(replace(parts, objective=LossRanked(parts.objective.terms)))
