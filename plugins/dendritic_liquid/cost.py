"""What a forward pass costs, in multiply-accumulates. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping

from labctl.api import DataSpec, KnobValue

from .config import DendriticLiquidConfig, StemConfig


def patches_of(config: DendriticLiquidConfig, spec: DataSpec) -> int:
    """Of one image."""
    return math.prod(side // config.patch_size for side in spec.shape[1:])


def kept(share: float, patches: int) -> int:
    """How many of so many patches a share comes to."""
    return max(1, math.ceil(share * patches - 1e-9))


def patches_in_blocks(
    config: DendriticLiquidConfig, spec: DataSpec, knobs: Mapping[str, KnobValue]
) -> list[int]:
    """How many patches each block computes in training."""
    patches, sparse = patches_of(config, spec), config.sparse
    if sparse is None or sparse.execution != "topk" or knobs.get("mask") != "hard":
        return [patches] * config.depth
    first = 1 if config.ranked_by_cls else 0  # attention must have been before it can rank
    chain = []
    for place, share in enumerate(sparse.keep):
        if place >= first:
            patches = kept(share, patches_of(config, spec))
        chain.append(patches)
    return chain


def stem_strides(config: StemConfig, patch_size: int) -> list[int]:
    """Of its convolutions of 3x3."""
    if config.strides is not None:
        return list(config.strides)
    halvings = patch_size.bit_length() - 1
    return [1] * (len(config.widths) - halvings) + [2] * halvings


def patches_macs(config: DendriticLiquidConfig, spec: DataSpec) -> int:
    """Of one image, for what makes its patches.

    n C P^2 D of one convolution as large as a patch; of a stem, the sum over its convolutions of 9
    times pixels that come out, channels before and channels after, and of 1x1 n times channels D.
    """
    channels, patches, width = spec.shape[0], patches_of(config, spec), config.embed_dim
    if config.stem is None:
        return patches * channels * config.patch_size**2 * width
    pixels, total = math.prod(spec.shape[1:]), 0
    strides = stem_strides(config.stem, config.patch_size)
    for after, stride in zip(config.stem.widths, strides, strict=True):
        pixels //= stride**2
        total += 9 * pixels * channels * after
        channels = after
    return total + patches * channels * width


def forward_macs(
    config: DendriticLiquidConfig, spec: DataSpec, knobs: Mapping[str, KnobValue]
) -> int:
    """Of one image: patches, blocks, what chooses tokens, the gate, the head.

    A block of N tokens costs 4 N D^2 + 2 N^2 D + 2 N D W with an MLP W wide; dendrites of N tokens
    that come in cost N D b h; a gate N (2 D c + 3 c D); where CLS ranks, its row of the N tokens of
    the block before N D.
    """
    width = config.embed_dim
    hidden = max(1, round(width * config.mlp_ratio))
    entering = patches_of(config, spec)
    total = patches_macs(config, spec) + width * spec.num_classes
    chain = patches_in_blocks(config, spec, knobs)
    if config.ranked_by_cls:
        total += sum((1 + patches) * width for patches in chain[:-1])
    for patches in chain:
        tokens = 1 + patches
        total += 4 * tokens * width**2 + 2 * tokens**2 * width + 2 * tokens * width * hidden
        if config.dendrites is not None:
            total += (1 + entering) * width * config.dendrites.branches * config.dendrites.hidden
        if config.liquid is not None:
            total += 5 * tokens * width * config.liquid.hidden
        entering = patches
    return total


def realised(
    config: DendriticLiquidConfig, spec: DataSpec, knobs: Mapping[str, KnobValue]
) -> dict[str, float]:
    """What the structural knobs come to.

    `tokens_block<l>`: patches, without CLS, that block l computes, from 1. `tokens_mean`: their
    mean over the blocks. `mac_ratio`: multiply-accumulates of a forward pass over those of the same
    transformer without any of the three parts.
    """
    chain = patches_in_blocks(config, spec, knobs)
    plain = config.model_copy(update={"dendrites": None, "liquid": None, "sparse": None})
    blocks = {f"tokens_block{place}": float(n) for place, n in enumerate(chain, start=1)}
    return blocks | {
        "tokens_mean": sum(chain) / len(chain),
        "mac_ratio": forward_macs(config, spec, knobs) / forward_macs(plain, spec, {}),
    }
