"""What is measured of trained models: in no key, for it decides no number of a training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labctl.api import MeasurementCard

from .config import (
    ImportanceMapsConfig,
    InferenceCostConfig,
    TokenCourseConfig,
    TokenFlowConfig,
)

if TYPE_CHECKING:
    from labctl.api import MeasureContext


def _token_flow(config: TokenFlowConfig, context: MeasureContext) -> dict[str, float]:
    from .flow import token_flow

    return token_flow(config, context)


def _token_course(config: TokenCourseConfig, context: MeasureContext) -> dict[str, float]:
    from .course import token_course

    return token_course(config, context)


def _importance_maps(config: ImportanceMapsConfig, context: MeasureContext) -> dict[str, float]:
    from .maps import importance_maps

    return importance_maps(config, context)


def _inference_cost(config: InferenceCostConfig, context: MeasureContext) -> dict[str, float]:
    from .inference import inference_cost

    return inference_cost(config, context)


cards = (
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
