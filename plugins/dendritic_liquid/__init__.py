"""DendriticLiquid-ViT: dendritic importance, a liquid gate and sparse attention in a vision
transformer, each to be switched on by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labctl.api import Architecture, DataSpec, Empty, LearnerCard, LossTerm, MeasurementCard

from .config import DendriticLiquidConfig, TokenBudgetConfig, fault, knobs
from .cost import realised
from .measurements.config import (
    ImportanceMapsConfig,
    InferenceCostConfig,
    TokenCourseConfig,
    TokenFlowConfig,
)

if TYPE_CHECKING:
    from labctl.api import LearnerParts, MeasureContext

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


def _token_flow(config: TokenFlowConfig, context: MeasureContext) -> dict[str, float]:
    from .measurements.flow import token_flow

    return token_flow(config, context)


def _token_course(config: TokenCourseConfig, context: MeasureContext) -> dict[str, float]:
    from .measurements.course import token_course

    return token_course(config, context)


def _importance_maps(config: ImportanceMapsConfig, context: MeasureContext) -> dict[str, float]:
    from .measurements.maps import importance_maps

    return importance_maps(config, context)


def _inference_cost(config: InferenceCostConfig, context: MeasureContext) -> dict[str, float]:
    from .measurements.inference import inference_cost

    return inference_cost(config, context)


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
    MeasurementCard(
        name="token_flow",
        summary="patches left out, gates and winning branches, block by block: figure and arrays",
        config=TokenFlowConfig,
        run=_token_flow,
        only_for=("dendritic_liquid_vit",),
    ),
    MeasurementCard(
        name="token_course",
        summary="gates, importance and patches kept, block by block over training: figure, arrays",
        config=TokenCourseConfig,
        run=_token_course,
        only_for=("dendritic_liquid_vit",),
    ),
    MeasurementCard(
        name="importance_maps",
        summary="importance of patches and attention of CLS over images: figure and arrays",
        config=ImportanceMapsConfig,
        run=_importance_maps,
        only_for=("dendritic_liquid_vit",),
    ),
    MeasurementCard(
        name="inference_cost",
        summary="what is executed per image and images a second, beside the plain transformer",
        config=InferenceCostConfig,
        run=_inference_cost,
        only_for=("dendritic_liquid_vit",),
    ),
)
