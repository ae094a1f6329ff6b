"""Affine maps of the image plane, one per sample, and nearest-neighbour sampling through them.

A map says for each *output* position (x, y), x to the right and y downwards, where in the *input*
its value is found. It is written in one of two frames, whose origin is the centre of the image:

- centred pixels, float64 (B, 3, 3) on the host: pixel (column, row) has its middle at
  (column - (W - 1) / 2, row - (H - 1) / 2). Maps are built and multiplied here;
- normalised, float32 (B, 2, 3) on the device: the former divided by (W / 2, H / 2), so that the
  outer edges of the image are at -1 and 1; what `torch.nn.functional.affine_grid` takes with
  `align_corners=False`.

Two moves done one after the other compose to `first @ second`: an output position is taken to the
image between them by `second`, and from there to the input by `first`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .transfer import sent


def centred(rows: list[list[Tensor]]) -> Tensor:
    """float64 (B, 3, 3) from two rows of three (B,) entries."""
    upper = torch.stack([torch.stack(row, -1) for row in rows], -2).double()
    last = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand(len(upper), 1, 3)
    return torch.cat([upper, last], 1)


def normalised(matrix: Tensor, height: int, width: int, device: torch.device) -> Tensor:
    """Normalised maps, float32 (B, 2, 3) on `device`, of float64 (B, 3, 3) in centred pixels."""
    scale = torch.tensor([width / 2, height / 2, 1.0], dtype=torch.float64)
    return sent((matrix * scale / scale[:, None])[:, :2].float(), device)


def resampled(pixels: Tensor, matrix: Tensor) -> Tensor:
    """Images uint8 (B, C, H, W) through normalised maps (B, 2, 3): nearest pixel, zero outside.

    H * W is at most 2^24, beyond which float32 skips positions.
    """
    height, width = pixels.shape[2:]
    # Written out, because a matrix product may run in TF32, whose 11 bits cannot tell pixels apart.
    x = (torch.arange(width, device=pixels.device) + 0.5) / (width / 2) - 1
    y = ((torch.arange(height, device=pixels.device) + 0.5) / (height / 2) - 1)[:, None]
    (a, b, c), (d, e, f) = (entries.unbind(1) for entries in matrix[..., None, None].unbind(1))
    column = (((a * x + c + 1) * width - 1) / 2 + b * y * (width / 2)).round()
    row = (((e * y + f + 1) * height - 1) / 2 + d * x * (height / 2)).round()
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    source = torch.where(inside, row * width + column, 0).long().flatten(1)[:, None]
    found = pixels.flatten(2).gather(2, source.expand(-1, pixels.shape[1], -1)).view_as(pixels)
    return found * inside[:, None]
