"""AutoAugment's policy for CIFAR-10 (Cubuk et al. 2018, arXiv:1805.09501).

A sub-policy is two operations in order, each with a probability and a level, 0 to 9, of magnitude.
A sample draws one of the 25, and for each of the two whether it is done and with which sign. Table
and magnitudes are those of torchvision's `AutoAugment`, sampling the nearest pixel, zero outside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from labctl.errors import RecipeError

from . import pixelwise
from .affine import centred, normalised, resampled
from .transfer import sent

CIFAR10: tuple[tuple[tuple[str, float, int | None], tuple[str, float, int | None]], ...] = (
    (("Invert", 0.1, None), ("Contrast", 0.2, 6)),
    (("Rotate", 0.7, 2), ("TranslateX", 0.3, 9)),
    (("Sharpness", 0.8, 1), ("Sharpness", 0.9, 3)),
    (("ShearY", 0.5, 8), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.5, None), ("Equalize", 0.9, None)),
    (("ShearY", 0.2, 7), ("Posterize", 0.3, 7)),
    (("Color", 0.4, 3), ("Brightness", 0.6, 7)),
    (("Sharpness", 0.3, 9), ("Brightness", 0.7, 9)),
    (("Equalize", 0.6, None), ("Equalize", 0.5, None)),
    (("Contrast", 0.6, 7), ("Sharpness", 0.6, 5)),
    (("Color", 0.7, 7), ("TranslateX", 0.5, 8)),
    (("Equalize", 0.3, None), ("AutoContrast", 0.4, None)),
    (("TranslateY", 0.4, 3), ("Sharpness", 0.2, 6)),
    (("Brightness", 0.9, 6), ("Color", 0.2, 8)),
    (("Solarize", 0.5, 2), ("Invert", 0.0, None)),
    (("Equalize", 0.2, None), ("AutoContrast", 0.6, None)),
    (("Equalize", 0.2, None), ("Equalize", 0.6, None)),
    (("Color", 0.9, 9), ("Equalize", 0.6, None)),
    (("AutoContrast", 0.8, None), ("Solarize", 0.2, 8)),
    (("Brightness", 0.1, 3), ("Color", 0.7, 0)),
    (("Solarize", 0.4, 5), ("AutoContrast", 0.9, None)),
    (("TranslateY", 0.9, 9), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.9, None), ("Solarize", 0.8, 3)),
    (("Equalize", 0.8, None), ("Invert", 0.1, None)),
    (("TranslateY", 0.7, 9), ("AutoContrast", 0.9, None)),
)
"""The sub-policies: (operation, probability, level) twice."""

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
"""Names by code; the code `len(OPERATIONS)` does nothing."""
SIGNED = frozenset({*GEOMETRIC, "Brightness", "Color", "Contrast", "Sharpness"})


@dataclass(frozen=True, slots=True)
class Choices:
    """What each of B samples drew, on the host."""

    policy: Tensor
    """int64 (B,): a row of `CIFAR10`."""
    chance: Tensor
    """float32 (B, 2), uniform in [0, 1): an operation is done if this is below its probability."""
    sign: Tensor
    """int64 (B, 2): 0 for a negative magnitude, 1 for a positive one."""

    @classmethod
    def drawn(cls, count: int, draws: torch.Generator) -> Choices:
        """Choices of `count` samples from a CPU generator."""
        return cls(
            torch.randint(len(CIFAR10), (count,), generator=draws),
            torch.rand(count, 2, generator=draws),
            torch.randint(2, (count, 2), generator=draws),
        )

    @classmethod
    def joined(cls, parts: Sequence[Choices]) -> Choices:
        """Those of all samples of several."""
        columns = ([part.policy, part.chance, part.sign] for part in parts)
        return cls(*(torch.cat(column) for column in zip(*columns, strict=True)))


def autoaugmented(pixels: Tensor, choices: Choices) -> tuple[Tensor, Tensor]:
    """Apply the sub-policies that B samples drew to uint8 (B, C, H, W).

    Returns:
        The images, uint8 (B, C, H, W), and on the host how they were moved, float64 (B, 3, 3) from
        output to input in centred pixels.

    Raises:
        RecipeError: if the images have neither one channel nor three.
    """
    channels, height, width = pixels.shape[1:]
    if channels not in (1, 3):
        raise RecipeError(
            f"policy 'autoaugment_cifar10' is for images of 1 or 3 channels, not {channels}",
            hint="policy: none  (crop, flip and erase take any number of channels)",
        )
    table = _table(height, width)
    codes, probability, magnitude, signed = (column[choices.policy] for column in table)
    codes = torch.where(choices.chance < probability, codes, len(OPERATIONS))
    magnitude = torch.where(signed & (choices.sign == 0), -magnitude, magnitude)

    pixels = pixels.clone()
    geometry = torch.eye(3, dtype=torch.float64)
    for code, amount in zip(codes.unbind(1), magnitude.unbind(1), strict=True):
        motion = motions(code, amount, height, width)
        _operate(pixels, code, amount, motion)
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


@cache
def _table(height: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`CIFAR10` as (25, 2) tensors: code, probability, magnitude, whether that gets a sign."""
    operations = [operation for pair in CIFAR10 for operation in pair]
    magnitudes = [magnitude_of(name, level, height, width) for name, _, level in operations]
    return (
        torch.tensor([OPERATIONS.index(name) for name, _, _ in operations]).view(-1, 2),
        torch.tensor([probability for _, probability, _ in operations]).view(-1, 2),
        torch.tensor(magnitudes).view(-1, 2),
        torch.tensor([name in SIGNED for name, _, _ in operations]).view(-1, 2),
    )


def magnitude_of(name: str, level: int | None, height: int, width: int) -> float:
    """Magnitude, without sign, at a level of 0 to 9; 0 for an operation that has none.

    Slopes of shears, pixels, degrees, weights of blends, bits kept, or the value to solarize from.
    """
    if level is None:
        return 0.0
    if name == "Posterize":
        return 8.0 - round(level / 9 * 4)
    first, last = {
        "ShearX": (0.0, 0.3),
        "ShearY": (0.0, 0.3),
        "TranslateX": (0.0, 150 / 331 * width),
        "TranslateY": (0.0, 150 / 331 * height),
        "Rotate": (0.0, 30.0),
        "Solarize": (255.0, 0.0),
    }.get(name, (0.0, 0.9))
    return float(torch.linspace(first, last, 10)[level])
