"""The model. B images, N patches, D channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from labctl.api import DataSpec, Knobs

from .config import MixerConfig


def _mlp(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))


class Layer(nn.Module):
    """Mixes first across patches, then across channels."""

    def __init__(self, patches: int, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.across, self.within = _mlp(patches), _mlp(width)

    def forward(self, x_BND: Tensor) -> Tensor:
        """(B, N, D) to (B, N, D)."""
        mixed: Tensor = x_BND + self.across(self.norms[0](x_BND).mT).mT
        mixed = mixed + self.within(self.norms[1](mixed))
        return mixed


class Mixer(nn.Module):
    """Patches, mixing layers, their mean, and a linear readout."""

    def __init__(self, config: MixerConfig, spec: DataSpec) -> None:
        super().__init__()
        channels, height, width = spec.shape
        patches = (height // config.patch) * (width // config.patch)
        self.embed = nn.Conv2d(channels, config.width, config.patch, stride=config.patch)
        self.layers = nn.Sequential(*(Layer(patches, config.width) for _ in range(config.depth)))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, spec.num_classes)

    def forward(self, inputs: Tensor, knobs: Knobs) -> Tensor:
        """Logits (B, classes) of float images (B, C, H, W).

        `noise` is a 0-d tensor; evaluation puts it at 0.
        """
        noisy = inputs + knobs["noise"] * torch.randn_like(inputs)
        x_BND = self.layers(self.embed(noisy).flatten(2).mT)
        logits: Tensor = self.head(self.norm(x_BND).mean(dim=1))
        return logits
