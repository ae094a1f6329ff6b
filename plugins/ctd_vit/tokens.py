"""How many tokens an image makes, and how many are left after each block. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor

from labctl.api import DataSpec

from .config import CtdVitConfig, StemKind

ROUNDING = 1e-9
"""Keeps a number of patches that is whole but for its float error from losing one."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One of the stem's 3x3 convolutions, of padding 1."""

    stride: int = 1
    pool: bool = False
    """Whether a 2x2 max-pool follows."""

    def convolved(self, side: int) -> int:
        """Pixels per side after the convolution."""
        return (side - 1) // self.stride + 1

    def left(self, side: int) -> int:
        """Pixels per side after the stage."""
        return self.convolved(side) // 2 if self.pool else self.convolved(side)


STEMS: dict[StemKind, tuple[Stage, Stage, Stage]] = {
    "pool": (Stage(pool=True), Stage(pool=True), Stage()),
    "late_pool": (Stage(), Stage(pool=True), Stage(pool=True)),
    "stride": (Stage(stride=2), Stage(stride=2), Stage()),
    "plain": (Stage(), Stage(), Stage()),
}


def grid(config: CtdVitConfig, spec: DataSpec) -> tuple[int, int]:
    """Rows and columns of patches that the stem makes; (0, 0) if the data have no pixels."""
    if spec.inputs != "image":
        return 0, 0
    height, width = spec.shape[-2:]
    for stage in STEMS[config.stem]:
        height, width = stage.left(height), stage.left(width)
    return height, width


def num_patches(config: CtdVitConfig, spec: DataSpec) -> int:
    """Patches per image, without CLS."""
    height, width = grid(config, spec)
    return height * width


def kept(num_patches: int, drop: float) -> int:
    """Patches left of `num_patches` when the ratio `drop` goes: max(1, floor(n (1 - d)))."""
    return max(1, floor(num_patches * (1 - drop) + ROUNDING))


def stage_blocks(depth: int) -> tuple[int, int, int]:
    """Blocks, from 0, in which `where: stages` drops: 2, 4, 6 of 8; 3, 6, 9 of 12 as in EViT."""
    return depth // 4, depth // 2, 3 * depth // 4


def token_chain(config: CtdVitConfig, num_patches: int, drop: float) -> tuple[int, ...]:
    """Patches, without CLS, in the MLP of each block when `token_drop` stands at `drop`.

    In every mode but `ltd` these enter the next block, and `input` has dropped before the first. In
    `ltd` the others bypass the block and are there again after it.
    """
    n, depth, k = num_patches, config.depth, kept(num_patches, drop)
    chain: list[int] = []
    match config.where:
        case "once":
            chain = [n] * config.drop_at + [k] * (depth - config.drop_at)
        case "input":
            chain = [k] * depth
        case "ltd":
            chain = [n if block in (0, depth - 1) else k for block in range(depth)]
        case "compound":
            for _ in range(depth):
                n = kept(n, drop)
                chain.append(n)
        case "spread":
            shares = ((1 - drop) ** (place / depth) for place in range(1, depth + 1))
            chain = [max(1, floor(n * share + 0.5)) for share in shares]
        case "stages":
            for block in range(depth):
                if block in stage_blocks(depth):
                    n = max(1, ceil(n * (1 - drop) - ROUNDING))
                chain.append(n)
    return tuple(chain)


def ladder(config: CtdVitConfig, num_patches: int, asked: Sequence[float]) -> list[float]:
    """The drop ratios that training uses for those asked at each epoch.

    With a bucket b, the numbers of patches are the largest and the smallest asked for and the
    multiples of b between them; each epoch gets the nearest, the larger of two. Returned as
    d = 1 - k/n, from which `kept` recovers k. Without a bucket, what was asked.
    """
    if config.bucket is None or not asked:
        return list(asked)
    wanted = [kept(num_patches, drop) for drop in asked]
    low, high = min(wanted), max(wanted)
    first = -(-low // config.bucket) * config.bucket
    rungs = {low, high, *range(first, high, config.bucket)}
    nearest = {k: min(rungs, key=lambda rung: (abs(rung - k), -rung)) for k in set(wanted)}
    return [1 - nearest[k] / num_patches for k in wanted]
