"""DendriticLiquid-ViT: dendritic importance, a liquid gate and sparse attention in a vision
transformer, each to be switched on by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labctl.api import Architecture, DataSpec, Empty, LearnerCard, LossTerm

from . import measurements
from .config import DendriticLiquidConfig, TokenBudgetConfig, fault, knobs
from .cost import realised

if TYPE_CHECKING:
    from labctl.api import LearnerParts

    from .budget import TokenBudget
    from .model import DendriticLiquidViT
    from .observed import ObservedBackprop


def _build(config: DendriticLiquidConfig, spec: DataSpec) -> DendriticLiquidViT:
    from .model import DendriticLiquidViT

    return DendriticLiquidViT(config, spec)


def _token_budget(config: TokenBudgetConfig, spec: DataSpec) -> TokenBudget:
    from .budget import TokenBudget

    return TokenBudget(config)


def _observed_backprop(config: Empty, parts: LearnerParts) -> ObservedBackprop:
    from .observed import ObservedBackprop

    return ObservedBackprop(parts)


cards = (
    Architecture(
        name="dendritic_liquid_vit",
        summary="vision transformer with dendritic importance, a liquid gate and sparse attention",
        config=DendriticLiquidConfig,
        build=_build,
        knobs=knobs,
        realised=realised,
        fault=fault,
    ),
    LearnerCard(
        name="observed_backprop",
        summary="back-propagation that notes gates, importance and patches kept once an epoch",
        build=_observed_backprop,
        takes_mixtures=True,
    ),
    LossTerm(
        name="token_budget",
        summary="what it costs a sparse model to keep other shares of its tokens than asked",
        config=TokenBudgetConfig,
        build=_token_budget,
        takes_mixtures=True,
    ),
    *measurements.cards,
)
