"""Policies of augmentation: which operations each sample draws, and how strong.

AutoAugment's for CIFAR-10 (Cubuk et al. 2018, arXiv:1805.09501): a sub-policy is two operations in
order, each with a probability and a level of magnitude; a sample draws one of the 25, and for each
of the two whether it is done. RandAugment (Cubuk et al. 2019, arXiv:1909.13719): some operations
with equal chances, all at one level. TrivialAugment, wide (Mueller & Hutter 2021,
arXiv:2103.10158): one operation at a level that is drawn too. Signs are drawn everywhere. Tables
and magnitudes are torchvision's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from labctl.recipe.augment import Augment

from .draws import Draws
from .operations import NOTHING, OPERATIONS, SIGNED, Program

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

ALIKE = (
    "Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color",
    "Contrast", "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize",
)  # fmt: skip
"""Among which RandAugment and TrivialAugment draw with equal chances."""
LEVELS = 31
"""Of RandAugment and TrivialAugment, counted from 0; AutoAugment has 10."""


@dataclass(frozen=True, slots=True)
class Reach:
    """Magnitudes at the highest level, for images of one size; levels are evenly spaced."""

    shear: float
    right: float
    down: float
    degrees: float
    blend: float
    bits: int
    """That posterizing takes away."""

    @classmethod
    def usual(cls, height: int, width: int) -> Reach:
        """Of AutoAugment and RandAugment."""
        return cls(0.3, 150 / 331 * width, 150 / 331 * height, 30.0, 0.9, 4)

    def at(self, name: str, level: int, levels: int) -> float:
        """Magnitude of an operation, without sign; 0 if it has none."""
        if name in ("Identity", "AutoContrast", "Equalize", "Invert"):
            return 0.0
        if name == "Posterize":
            return 8.0 - round(level / ((levels - 1) / self.bits))
        first, last = {
            "ShearX": (0.0, self.shear),
            "ShearY": (0.0, self.shear),
            "TranslateX": (0.0, self.right),
            "TranslateY": (0.0, self.down),
            "Rotate": (0.0, self.degrees),
            "Solarize": (255.0, 0.0),
        }.get(name, (0.0, self.blend))
        return float(torch.linspace(first, last, levels)[level])


WIDE = Reach(0.99, 32.0, 32.0, 135.0, 0.99, 6)
"""Of TrivialAugment, for images of every size."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What each of B samples drew of AutoAugment's policy, on the host."""

    policy: Tensor
    """int64 (B,): a row of `CIFAR10`."""
    chance: Tensor
    """float32 (B, 2), uniform in [0, 1): an operation is done if this is below its probability."""
    sign: Tensor
    """int64 (B, 2): 0 for a negative magnitude, 1 for a positive one."""

    @classmethod
    def drawn(cls, draws: Draws) -> Choices:
        """Choices of all samples."""
        return cls(
            draws.integers(len(CIFAR10)),
            draws.each(lambda count, generator: torch.rand(count, 2, generator=generator)),
            draws.integers(2, 2),
        )

    def program(self, height: int, width: int) -> Program:
        """What comes of them for images of a size."""
        columns = (column[self.policy] for column in _cifar10(height, width))
        codes, probability, magnitudes, signed = columns
        return Program(
            torch.where(self.chance < probability, codes, NOTHING),
            torch.where(signed & (self.sign == 0), -magnitudes, magnitudes),
        )


def drawn(draws: Draws, size: tuple[int, int], augment: Augment) -> Program | None:
    """What the policy does to images of `size` (height, width); None without a policy."""
    match augment.policy:
        case "none":
            return None
        case "autoaugment_cifar10":
            return Choices.drawn(draws).program(*size)
        case "randaugment":
            level = torch.full((draws.count, augment.operations), augment.magnitude)
            return _alike(draws, level, Reach.usual(*size))
        case "trivialaugment_wide":
            return _alike(draws, draws.integers(LEVELS, 1), WIDE)


def _alike(draws: Draws, level: Tensor, reach: Reach) -> Program:
    """Operations drawn among `ALIKE`, at given levels int64 (B, K)."""
    codes, magnitudes, signed = _table(reach)
    kind = draws.integers(len(ALIKE), level.shape[1])
    sign = draws.integers(2, level.shape[1])
    amount = magnitudes[kind, level]
    return Program(codes[kind], torch.where(signed[kind] & (sign == 1), -amount, amount))


@cache
def _table(reach: Reach) -> tuple[Tensor, Tensor, Tensor]:
    """Of `ALIKE`: codes (14,), magnitudes (14, LEVELS), whether they get a sign (14,)."""
    return (
        torch.tensor([_code(name) for name in ALIKE]),
        torch.tensor([[reach.at(name, i, LEVELS) for i in range(LEVELS)] for name in ALIKE]),
        torch.tensor([name in SIGNED for name in ALIKE]),
    )


def _code(name: str) -> int:
    return NOTHING if name == "Identity" else OPERATIONS.index(name)


@cache
def _cifar10(height: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`CIFAR10` as (25, 2) tensors: code, probability, magnitude, whether that gets a sign."""
    operations = [operation for pair in CIFAR10 for operation in pair]
    reach = Reach.usual(height, width)
    magnitudes = [reach.at(name, level or 0, 10) for name, _, level in operations]
    return (
        torch.tensor([OPERATIONS.index(name) for name, _, _ in operations]).view(-1, 2),
        torch.tensor([probability for _, probability, _ in operations]).view(-1, 2),
        torch.tensor(magnitudes).view(-1, 2),
        torch.tensor([name in SIGNED for name, _, _ in operations]).view(-1, 2),
    )
