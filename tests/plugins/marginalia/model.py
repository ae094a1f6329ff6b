"""B windows, N characters, D channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labctl.api import DataSpec, Knobs, Output

from . import NEAR, ReaderConfig


class Reader(nn.Module):
    """Characters and positions, one head of causal attention, one hidden layer, logits."""

    def __init__(self, config: ReaderConfig, spec: DataSpec) -> None:
        super().__init__()
        width = config.width
        self.letters = nn.Embedding(spec.num_classes, width)
        self.places = nn.Parameter(0.1 * torch.randn(spec.shape[0], width))
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.inner = nn.Linear(width, 4 * width)
        self.outer = nn.Linear(4 * width, width)
        self.head = nn.Linear(width, spec.num_classes)

    def forward(self, inputs: Tensor, knobs: Knobs) -> Output:
        """Logits (B, N, letters) of int64 (B, N), and as `hidden` the activations (B, N, 4 D)."""
        tokens = self.letters(inputs) + self.places[: inputs.shape[1]]
        scores = self.query(tokens) @ self.key(tokens).mT / tokens.shape[-1] ** 0.5
        attended = scores.masked_fill(
            ~self._visible(inputs, knobs["reach"]), float("-inf")
        ).softmax(-1)
        tokens = tokens + attended @ self.value(tokens)
        hidden = F.gelu(self.inner(tokens))
        return Output(self.head(tokens + self.outer(hidden)), {"hidden": hidden})

    def _visible(self, inputs: Tensor, reach: str) -> Tensor:
        """bool (N, N): whether a row's position sees the column's."""
        place = torch.arange(inputs.shape[1], device=inputs.device)
        back = place[:, None] - place
        return (back >= 0) & (back < NEAR) if reach == "near" else back >= 0
