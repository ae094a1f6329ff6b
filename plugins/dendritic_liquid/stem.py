"""Convolutions that make patches, instead of one as large as a patch."""

from __future__ import annotations

from torch import Tensor, nn

from .config import StemConfig
from .cost import stem_strides


class Stem(nn.Module):
    """3x3 convolutions without bias, each with batch norm and ReLU, then one of 1x1 with bias, as
    Xiao et al. 2021 (arXiv:2106.14881)."""

    def __init__(self, config: StemConfig, channels: int, patch_size: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        strides = stem_strides(config, patch_size)
        for after, stride in zip(config.widths, strides, strict=True):
            layers += [
                nn.Conv2d(channels, after, 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
            channels = after
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels, width, 1))

    def forward(self, images: Tensor) -> Tensor:
        """(B, D, rows, columns), a column of features per patch, of images (B, C, H, W)."""
        features: Tensor = self.layers(images)
        return features
