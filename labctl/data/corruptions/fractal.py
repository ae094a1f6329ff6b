"""Clouds: the diamond-square algorithm, many at once."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Generator, Tensor


def draw_wibbles(count: int, size: int, generator: Generator) -> Tensor:
    """float32 (count, S, S), uniform from -1 to 1, with S the least power of two that is no less
    than `size`: one for each point of a cloud."""
    side = 1 << max(size - 1, 1).bit_length()
    return torch.rand(count, side, side, generator=generator) * 2 - 1


def plasma(wibbles: Tensor, decay: float) -> Tensor:
    """Clouds (B, S, S) from 0 to 1, which wrap around (Fournier et al. 1982).

    A point is the mean of four around it and a random number; from one scale to the next, half as
    large, these shrink by `decay`.

    Args:
        wibbles: (B, S, S) from -1 to 1; the one at the origin is not used.
    """
    clouds = torch.zeros_like(wibbles)
    # As published: the random numbers of a scale reach from -wibble^2 to wibble^2.
    step, wibble = wibbles.shape[-1], 100.0
    while step >= 2:
        half = step // 2
        for rows, columns, around in _points(clouds, step, half):
            clouds[:, rows, columns] = around / 4 + wibble**2 * wibbles[:, rows, columns]
        step, wibble = half, wibble / decay
    clouds -= clouds.amin((1, 2), keepdim=True)
    return clouds / clouds.amax((1, 2), keepdim=True)


def _points(clouds: Tensor, step: int, half: int) -> Iterator[tuple[slice, slice, Tensor]]:
    """Middles of squares, then of their edges: where, and the sum of the four points around."""
    corner, middle = slice(0, None, step), slice(half, None, step)
    corners = clouds[:, corner, corner]
    pairs = corners + corners.roll(-1, 1)
    yield middle, middle, pairs + pairs.roll(-1, 2)
    middles = clouds[:, middle, middle]
    yield corner, middle, middles + middles.roll(1, 1) + corners + corners.roll(-1, 2)
    yield middle, corner, middles + middles.roll(1, 2) + corners + corners.roll(-1, 1)
