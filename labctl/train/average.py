"""The moving average of a model that a recipe may ask to be evaluated instead of the model."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class Average(AveragedModel):
    """Exponential moving average of weights and buffers; its first update copies.

    Buffers that are not floating-point (counters, indices, masks) are copied: a mean of them,
    rounded towards zero, would drift.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model, use_buffers=True)
        self._mix = get_ema_multi_avg_fn(decay)

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Take the model of the moment in. Torch's own way would wait for a GPU at each step."""
        is_first = int(self.n_averaged) == 0  # stays on the CPU, whatever the model is on
        floating: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
        for mean, value in zip(_tensors(self.module), _tensors(model), strict=True):
            if is_first or not (mean.is_floating_point() or mean.is_complex()):
                mean.copy_(value)
            else:
                means, values = floating.setdefault(mean.dtype, ([], []))
                means.append(mean)
                values.append(value)
        for means, values in floating.values():
            self._mix(means, values, self.n_averaged)
        self.n_averaged += 1


def _tensors(model: nn.Module) -> list[Tensor]:
    return [tensor.detach() for tensor in (*model.parameters(), *model.buffers())]
