"""What a forward pass costs, in multiply-accumulates, and what a drop ratio comes to. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from labctl.api import DataSpec, KnobValue

from .config import CtdVitConfig
from .tokens import STEMS, num_patches, token_chain


def mlp_width(config: CtdVitConfig) -> int:
    """Hidden units of a block's MLP."""
    return max(1, round(config.embed_dim * config.mlp_ratio))


def stem_macs(config: CtdVitConfig, spec: DataSpec) -> int:
    """Of the three 3x3 convolutions, for one image."""
    height, width = spec.shape[-2:]
    channels = (spec.shape[0], *config.stem_widths, config.embed_dim)
    total = 0
    for stage, (before, after) in zip(STEMS[config.stem], pairwise(channels), strict=True):
        total += 9 * before * after * stage.convolved(height) * stage.convolved(width)
        height, width = stage.left(height), stage.left(width)
    return total


def _scoring_macs(config: CtdVitConfig, patches: int) -> int:
    """Of ranking `patches` once: rows of attention, each (1 + n) D."""
    rows = {"cls_attn": 1, "value_norm": 1, "entropy": patches}.get(config.saliency, 0)
    return rows * (1 + patches) * config.embed_dim


def forward_macs(config: CtdVitConfig, spec: DataSpec, drop: float) -> int:
    """Of one image at `token_drop` = `drop`: stem, blocks, ranking, head.

    A block whose attention sees N tokens and whose MLP, W wide, sees M costs 4 N D^2 + 2 N^2 D +
    2 M D W. The extra passes that `saliency: gradient` takes are not in it.
    """
    width = config.embed_dim
    entering = num_patches(config, spec)
    chain = token_chain(config, entering, drop)
    total = stem_macs(config, spec) + width * spec.num_classes
    for patches in chain:
        attended = 1 + (patches if config.where in ("input", "ltd") else entering)
        total += 4 * attended * width**2 + 2 * attended**2 * width
        total += 2 * (1 + patches) * width * mlp_width(config)
        if patches < entering and config.where not in ("input", "ltd"):
            total += _scoring_macs(config, entering)
        entering = patches
    return total


def realised(
    config: CtdVitConfig, spec: DataSpec, knobs: Mapping[str, KnobValue]
) -> dict[str, float]:
    """What `token_drop` comes to.

    `tokens_block<l>`: patches, without CLS, in the MLP of block l, from 1. `tokens_mean`: their
    mean over the blocks. `tokens_last`: those of the last block. `mac_ratio`: multiply-accumulates
    of a forward pass over those of one that drops nothing; its inverse bounds the speed-up.
    """
    drop = float(knobs["token_drop"])
    chain = token_chain(config, num_patches(config, spec), drop)
    blocks = {f"tokens_block{place}": float(left) for place, left in enumerate(chain, start=1)}
    return blocks | {
        "tokens_mean": sum(chain) / len(chain),
        "tokens_last": float(chain[-1]),
        "mac_ratio": forward_macs(config, spec, drop) / forward_macs(config, spec, 0.0),
    }
