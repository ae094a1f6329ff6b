"""Operations on images that policies of augmentation are made of, each sample its own.

They are those of torchvision's `AutoAugment`, `RandAugment` and `TrivialAugmentWide`, sampling the
nearest pixel, zero outside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from labctl.errors import RecipeError

from . import pixelwise
from .affine import centred, normalised, resampled
from .transfer import sent

GEOMETRIC = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
PIXELWISE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Brightness": pixelwise.brightness,
    "Color": pixelwise.color,
    "Contrast": pixelwise.contrast,
    "Sharpness": pixelwise.sharpness,
    "Posterize": pixelwise.posterize,
    "Solarize": pixelwise.solarize,
    "AutoContrast": pixelwise.autocontrast,
    "Equalize": pixelwise.equalize,
    "Invert": pixelwise.invert,
}
OPERATIONS = (*GEOMETRIC, *PIXELWISE)
"""Names by code."""
NOTHING = len(OPERATIONS)
"""The code of an operation that leaves a sample as it is."""
SIGNED = frozenset({*GEOMETRIC, "Brightness", "Color", "Contrast", "Sharpness"})


@dataclass(frozen=True, slots=True)
class Program:
    """What is done to each of B samples, K operations in order; on the host."""

    codes: Tensor
    """int64 (B, K): places in `OPERATIONS`, or `NOTHING`."""
    magnitudes: Tensor
    """float32 (B, K): slopes of shears, pixels, degrees, weights of blends, bits kept, or the value
    to solarize from; 0 where there is none."""


def operated(pixels: Tensor, program: Program) -> tuple[Tensor, Tensor]:
    """Do to each of uint8 (B, C, H, W) what its program says.

    Returns:
        The images, uint8 (B, C, H, W), and on the host how they were moved, float64 (B, 3, 3) from
        output to input in centred pixels.

    Raises:
        RecipeError: if the images have neither one channel nor three.
    """
    channels, height, width = pixels.shape[1:]
    if channels not in (1, 3):
        raise RecipeError(
            f"a policy is for images of 1 or 3 channels, not {channels}",
            hint="policy: none  (crop, flip and erase take any number of channels)",
        )
    pixels = pixels.clone()
    geometry = torch.eye(3, dtype=torch.float64)
    columns = zip(program.codes.unbind(1), program.magnitudes.unbind(1), strict=True)
    for code, magnitude in columns:
        motion = motions(code, magnitude, height, width)
        _operate(pixels, code, magnitude, motion)
        geometry = geometry @ motion
    return pixels, geometry


def motions(code: Tensor, magnitude: Tensor, height: int, width: int) -> Tensor:
    """Maps float64 (B, 3, 3) in centred pixels of operations by code (B,) and magnitude (B,).

    Shears are slopes and keep the upper or left edge in place, translations are cut to whole
    pixels, rotations are in degrees, counter-clockwise. Other operations give the identity.
    """
    # At most one of the five is not zero for a sample, so their sum is that one.
    shear_x, shear_y, right, down, degrees = (
        torch.where(code == OPERATIONS.index(name), magnitude.double(), 0) for name in GEOMETRIC
    )
    angle = degrees.deg2rad()
    return centred(
        [
            [angle.cos(), shear_x - angle.sin(), shear_x * height / 2 - right.trunc()],
            [shear_y + angle.sin(), angle.cos(), shear_y * width / 2 - down.trunc()],
        ]
    )


def _operate(pixels: Tensor, code: Tensor, magnitude: Tensor, motion: Tensor) -> None:
    """Do one operation to each sample, in place; samples that share one are done together."""
    # The host knows the groups, so nothing here waits for the device.
    order = code.argsort(stable=True)
    counts = code.bincount(minlength=len(OPERATIONS) + 1).tolist()
    rows = sent(order, pixels.device)
    amounts = sent(magnitude[order], pixels.device)[:, None, None, None]

    start = sum(counts[: len(GEOMETRIC)])
    if start:
        height, width = pixels.shape[2:]
        matrix = normalised(motion[order[:start]], height, width, pixels.device)
        done = resampled(pixels.index_select(0, rows[:start]), matrix)
        pixels.index_copy_(0, rows[:start], done)
    for operation, count in zip(PIXELWISE.values(), counts[len(GEOMETRIC) : -1], strict=True):
        if count:
            group = slice(start, start + count)
            done = operation(pixels.index_select(0, rows[group]), amounts[group])
            pixels.index_copy_(0, rows[group], done)
        start += count
