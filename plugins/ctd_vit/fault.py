"""Why a model of some config cannot train on some data. No torch."""

from __future__ import annotations

from labctl.api import DataSpec

from .config import BEFORE_ATTENTION, CtdVitConfig
from .tokens import num_patches


def fault(config: CtdVitConfig, spec: DataSpec) -> str | None:
    """What does not fit and what would; None if all does."""
    if spec.inputs != "image":
        return f"ctd_vit reads images, and {spec.name} holds {spec.inputs}"
    if num_patches(config, spec) < 2:
        return (
            f"stem: {config.stem} makes {num_patches(config, spec)} patches of an image of "
            f"{spec.shape[1]}x{spec.shape[2]} pixels, and two are the least; "
            "stem: plain makes one of every pixel"
        )
    return _place_fault(config) or _saliency_fault(config)


def _place_fault(config: CtdVitConfig) -> str | None:
    if config.where == "once" and config.drop_at >= config.depth:
        last = config.depth - 1
        return f"drop_at {config.drop_at} is no block of depth {config.depth}; use 0 to {last}"
    least = {"ltd": 3, "stages": 4}.get(config.where, 1)
    if config.depth < least:
        return f"where: {config.where} needs depth {least} or more, not {config.depth}"
    return None


def _saliency_fault(config: CtdVitConfig) -> str | None:
    if config.where == "ltd" and config.saliency != "random":
        return f"where: ltd draws its patches, so {config.saliency} cannot rank; saliency: random"
    if config.where == "input" and config.saliency not in BEFORE_ATTENTION:
        known = " or ".join(BEFORE_ATTENTION)
        return (
            f"where: input drops before any attention, so {config.saliency} cannot rank; "
            f"saliency: {known}"
        )
    if config.saliency == "gradient" and config.where != "once":
        return f"saliency: gradient ranks in one place, where: {config.where} is more; where: once"
    return None
