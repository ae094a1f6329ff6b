"""What JPEG makes of images (ITU T.81), in the integer arithmetic of libjpeg, many at once.

As its defaults are: colours at half the resolution, the accurate integer transforms of Loeffler,
Ligtenberg and Moschytz 1989, colours interpolated between pixels. Huffman coding loses nothing, so
nothing is coded.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

MULTIPLE = 16
"""Pixels that sides must be a multiple of: two blocks of 8 for each of colours."""
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
HALF = 1 << 15
BITS, MORE = 13, 2
"""Fractional bits of the transforms' constants, and of numbers between their two passes."""


def recoded(pixels: Tensor, quality: int) -> Tensor:
    """uint8 (B, 3, H, W), encoded and decoded; sides are multiples of 16.

    Args:
        quality: 1 to 100, as libjpeg's.
    """
    luminance, blue, red = _of_rgb(pixels.int()).unbind(1)
    decoded = [_coded(luminance, _steps(LUMINANCE, quality, pixels))]
    table = _steps(CHROMINANCE, quality, pixels)
    decoded += [_enlarged(_coded(_halved(colour), table)) for colour in (blue, red)]
    return _to_rgb(*decoded)


def _of_rgb(pixels: Tensor) -> Tensor:
    """int32 (B, 3, H, W): Y, Cb and Cr of red, green and blue."""
    red, green, blue = pixels.unbind(1)
    middle = (128 << 16) + HALF - 1
    luminance = 19595 * red + 38470 * green + 7471 * blue + HALF
    of_blue = -11059 * red - 21709 * green + 32768 * blue + middle
    of_red = 32768 * red - 27439 * green - 5329 * blue + middle
    return torch.stack([luminance, of_blue, of_red], 1) >> 16


def _to_rgb(luminance: Tensor, blue: Tensor, red: Tensor) -> Tensor:
    """uint8 (B, 3, H, W) of planes (B, H, W)."""
    blue, red = blue - 128, red - 128
    channels = (
        luminance + ((91881 * red + HALF) >> 16),
        luminance + ((-22554 * blue - 46802 * red + HALF) >> 16),
        luminance + ((116130 * blue + HALF) >> 16),
    )
    return torch.stack(channels, 1).clamp(0, 255).to(torch.uint8)


def _halved(plane: Tensor) -> Tensor:
    """Means of 2x2 pixels; halves go down and up in turns of columns."""
    total = plane.unflatten(1, (-1, 2)).sum(2).unflatten(2, (-1, 2)).sum(3)
    turns = torch.arange(total.shape[2], device=plane.device) % 2 + 1
    halved: Tensor = (total + turns) >> 2
    return halved.int()


def _enlarged(plane: Tensor) -> Tensor:
    """Twice the resolution: three parts of the nearest and one of the next, in both directions."""
    height, width = plane.shape[1:]
    around = F.pad(plane[:, None].float(), (1, 1, 1, 1), mode="replicate")[:, 0].int()
    middle = around[:, 1:-1] * 3
    rows = torch.stack([middle + around[:, :-2], middle + around[:, 2:]], 2).flatten(1, 2)
    middle = rows[:, :, 1:-1] * 3
    left, right = middle + rows[:, :, :-2] + 8, middle + rows[:, :, 2:] + 7
    return (torch.stack([left, right], 3) >> 4).view(-1, 2 * height, 2 * width)


def _steps(table: Sequence[Sequence[int]], quality: int, like: Tensor) -> Tensor:
    """int32 (8, 8): by how much each coefficient is divided."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    steps = (torch.tensor(table, dtype=torch.int32) * scale + 50) // 100
    return steps.clamp(1, 255).to(like.device)


def _coded(plane: Tensor, steps: Tensor) -> Tensor:
    """A plane (B, H, W) whose 8x8 coefficients are rounded to multiples of their steps."""
    height, width = plane.shape[1:]
    blocks = plane.view(-1, height // 8, 8, width // 8, 8).transpose(2, 3) - 128
    coefficients = _forth(_forth(blocks, first=True).mT, first=False).mT
    step = 8 * steps  # the transform leaves a factor of 8
    size = (coefficients.abs() + step // 2).div(step, rounding_mode="floor")
    coefficients = coefficients.sign() * size * steps
    blocks = _back(_back(coefficients.mT, BITS - MORE).mT, BITS + MORE + 3)
    return (blocks + 128).clamp(0, 255).transpose(2, 3).reshape(-1, height, width)


def _forth(x: Tensor, *, first: bool) -> Tensor:
    """Cosine transform of lines (..., 8)."""
    a = x.unbind(-1)
    t0, t1, t2, t3 = (a[i] + a[7 - i] for i in range(4))
    t7, t6, t5, t4 = (a[i] - a[7 - i] for i in range(4))
    down = BITS - MORE if first else BITS + MORE
    even, odd = t0 + t3, t1 + t2
    ends = [even + odd, even - odd]
    ends = [end << MORE if first else _descaled(end, MORE) for end in ends]
    t13, t12 = t0 - t3, t1 - t2
    z = (t12 + t13) * 4433
    second, sixth = z + t13 * 6270, z - t12 * 15137
    t4, t5, t6, t7 = _rotated(t4, t5, t6, t7)
    inner = [_descaled(value, down) for value in (t7, second, t6, t5, sixth, t4)]
    return torch.stack([ends[0], *inner[:3], ends[1], *inner[3:]], -1)


def _back(x: Tensor, down: int) -> Tensor:
    """Inverse cosine transform of lines (..., 8), its results divided by 2^down."""
    a = x.unbind(-1)
    z = (a[2] + a[6]) * 4433
    t2, t3 = z - a[6] * 15137, z + a[2] * 6270
    t0, t1 = (a[0] + a[4]) << BITS, (a[0] - a[4]) << BITS
    even = (t0 + t3, t1 + t2, t1 - t2, t0 - t3)
    odd = _rotated(a[7], a[5], a[3], a[1])[::-1]
    sums = [e + o for e, o in zip(even, odd, strict=True)]
    differences = [e - o for e, o in zip(even, odd, strict=True)]
    return torch.stack([_descaled(value, down) for value in (*sums, *differences[::-1])], -1)


def _rotated(t0: Tensor, t1: Tensor, t2: Tensor, t3: Tensor) -> tuple[Tensor, ...]:
    """The odd half of the transform, which is the same forth and back."""
    z1, z2, z3, z4 = t0 + t3, t1 + t2, t0 + t2, t1 + t3
    z5 = (z3 + z4) * 9633
    z1, z2, z3, z4 = z1 * -7373, z2 * -20995, z3 * -16069 + z5, z4 * -3196 + z5
    return (
        t0 * 2446 + z1 + z3,
        t1 * 16819 + z2 + z4,
        t2 * 25172 + z2 + z3,
        t3 * 12299 + z1 + z4,
    )


def _descaled(value: Tensor, bits: int) -> Tensor:
    """Divided by 2^bits, rounded."""
    return (value + (1 << (bits - 1))) >> bits
