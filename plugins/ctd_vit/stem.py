"""The convolutional stem: images to patches."""

from __future__ import annotations

from torch import Tensor, nn

from .config import CtdVitConfig
from .tokens import STEMS


class Stem(nn.Module):
    """Three 3x3 convolutions without bias, each with batch norm; GELU after the first two."""

    def __init__(self, config: CtdVitConfig, in_channels: int) -> None:
        super().__init__()
        widths = (in_channels, *config.stem_widths, config.embed_dim)
        layers: list[nn.Module] = []
        for place, stage in enumerate(STEMS[config.stem]):
            before, after = widths[place : place + 2]
            layers.append(nn.Conv2d(before, after, 3, stage.stride, padding=1, bias=False))
            layers.append(nn.BatchNorm2d(after))
            if place < 2:
                layers.append(nn.GELU())
            if stage.pool:
                layers.append(nn.MaxPool2d(2))
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, n, D), patches in rows from the top left."""
        features: Tensor = self.layers(images)
        return features.flatten(2).mT
