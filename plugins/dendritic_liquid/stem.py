"""What makes patches: one convolution as large as a patch, or several smaller ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import StemConfig
from .cost import stem_strides


class Patches(nn.Conv2d):
    """A convolution as large as its stride, as the one product that it is."""

    def __init__(self, channels: int, patch_size: int, width: int) -> None:
        super().__init__(channels, width, patch_size, patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """(B, n, D) of images (B, C, H, W)."""
        channels, (size, _) = self.in_channels, self.kernel_size
        rows, columns = images.shape[2] // size, images.shape[3] // size
        parted = images.reshape(-1, channels, rows, size, columns, size)
        pixels = parted.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        return F.linear(pixels, self.weight.flatten(1), self.bias)


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
        # Channels innermost, as tensor cores read them and as tokens have them in the end.
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels, width, 1)).to(
            memory_format=torch.channels_last
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, n, D) of images (B, C, H, W)."""
        features: Tensor = self.layers(images.contiguous(memory_format=torch.channels_last))
        return features.flatten(2).transpose(1, 2)
