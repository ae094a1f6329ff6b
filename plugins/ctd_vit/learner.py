"""Back-propagation that shows the model its loss before patches are dropped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

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

from .config import SaliencyGradientEmaConfig
from .memory import SaliencyMemory
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
        drop = float(knobs["token_drop"])
        tokens = model.until_drop(batch.inputs)
        if not model.drops(drop):
            return self._after(model, tokens, batch, knobs)
        chosen = model.best(self._scores(model, tokens, batch, knobs), drop)
        return self._after(model, keep_patches(tokens, chosen.index), batch, knobs)

    def _scores(self, model: CtdVit, tokens: Tensor, batch: Batch, knobs: Knobs) -> Tensor:
        return model.gradient_scores(tokens, lambda leaf: self._after(model, leaf, batch, knobs)[0])

    def _after(
        self, model: CtdVit, tokens: Tensor, batch: Batch, knobs: Knobs
    ) -> tuple[Tensor, Metrics]:
        return super().__call__(_Rest(partial(model.after_drop, tokens)), batch, knobs)


@dataclass(frozen=True)
class MemoryRanked(LossRanked):
    """The same, of patches ranked by what a memory holds of each image.

    Of every batch the first of `refresh` parts is scored anew, whether patches are dropped or not.
    """

    memory: SaliencyMemory
    refresh: int

    def __call__(self, model: nn.Module, batch: Batch, knobs: Knobs) -> tuple[Tensor, Metrics]:
        assert isinstance(model, CtdVit)
        drop = float(knobs["token_drop"])
        tokens = model.until_drop(batch.inputs)
        part = _first(batch, -(-len(tokens) // self.refresh))
        scores = self._scores(model, tokens[: len(part.inputs)], part, knobs)
        self.memory.write(part.index, part.geometry, scores)
        if not model.drops(drop):
            return self._after(model, tokens, batch, knobs)
        chosen = model.best(self.memory.read(batch.index, batch.geometry), drop)
        return self._after(model, keep_patches(tokens, chosen.index), batch, knobs)


def _first(batch: Batch, count: int) -> Batch:
    held = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return replace(batch, **{k: tensor[:count] for k, tensor in held.items() if tensor is not None})


class Remembering(Backprop):
    """Back-propagation of an objective that has a memory."""

    def __init__(self, parts: LearnerParts, memory: SaliencyMemory) -> None:
        super().__init__(parts)
        self.memory = memory

    def state_dict(self) -> dict[str, Any]:
        return {"saliency": self.memory.scores}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.memory.scores.copy_(state["saliency"])


def gradient_learner(parts: LearnerParts) -> Learner:
    """Back-propagation of `LossRanked`.

    Raises:
        LabctlError: the model does not rank by the gradient.
    """
    _require_gradient(parts, "saliency_gradient")
    return Backprop(replace(parts, objective=LossRanked(parts.objective.terms)))


def gradient_ema_learner(config: SaliencyGradientEmaConfig, parts: LearnerParts) -> Learner:
    """Back-propagation of `MemoryRanked`.

    Raises:
        LabctlError: the model does not rank by the gradient.
    """
    model = _require_gradient(parts, "saliency_gradient_ema")
    images, device = model.spec.sizes["train"], model.positions.device
    memory = SaliencyMemory(images, model.grid, config.momentum, device)
    objective = MemoryRanked(parts.objective.terms, memory, config.refresh)
    return Remembering(replace(parts, objective=objective), memory)


def _require_gradient(parts: LearnerParts, learner: str) -> CtdVit:
    if not isinstance(parts.model, CtdVit) or parts.model.config.saliency != "gradient":
        raise LabctlError(
            f"learner {learner} is for architecture ctd_vit with saliency: gradient",
            hint="learner: {kind: backprop}, or model: {architecture: ctd_vit, saliency: gradient}",
        )
    return parts.model
