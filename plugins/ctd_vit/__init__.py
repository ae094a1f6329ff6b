"""CTD-ViT: a hybrid vision transformer that drops more and more patch tokens as it trains."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from labctl.api import Architecture, DataSpec, Empty, Knob, LearnerCard, MeasurementCard

from .config import CtdVitConfig, MapsConfig, SaliencyGradientEmaConfig, SaliencyMapsConfig
from .cost import realised
from .fault import fault
from .tokens import ladder, num_patches

if TYPE_CHECKING:
    from labctl.api import Learner, LearnerParts, MeasureContext

    from .model import CtdVit


def _build(config: CtdVitConfig, spec: DataSpec) -> CtdVit:
    from .model import CtdVit

    return CtdVit(config, spec)


def _knobs(config: CtdVitConfig, spec: DataSpec) -> tuple[Knob, ...]:
    patches = max(num_patches(config, spec), 2)
    token_drop = Knob(
        "token_drop",
        0.0,
        "share of the patch tokens that is dropped in training",
        kind="structural",
        low=0.0,
        high=1 - 1 / patches,
        at_eval=0.0,
        ladder=partial(ladder, config, patches),
    )
    return (token_drop,)


def _gradient_learner(config: Empty, parts: LearnerParts) -> Learner:
    from .learner import gradient_learner

    return gradient_learner(parts)


def _gradient_ema_learner(config: SaliencyGradientEmaConfig, parts: LearnerParts) -> Learner:
    from .learner import gradient_ema_learner

    return gradient_ema_learner(config, parts)


def _saliency_maps(config: SaliencyMapsConfig, context: MeasureContext) -> dict[str, float]:
    from .maps import saliency_maps

    return saliency_maps(config, context)


def _attention_maps(config: MapsConfig, context: MeasureContext) -> dict[str, float]:
    from .maps import attention_maps

    return attention_maps(config, context)


cards = (
    Architecture(
        name="ctd_vit",
        summary="convolutional stem and transformer; drops patches of low saliency while it trains",
        config=CtdVitConfig,
        build=_build,
        knobs=_knobs,
        realised=realised,
        fault=fault,
    ),
    LearnerCard(
        name="saliency_gradient",
        summary="back-propagation that ranks the patches of ctd_vit by the gradient of the loss",
        build=_gradient_learner,
    ),
    LearnerCard(
        name="saliency_gradient_ema",
        summary="the same, reusing what it found for each image in earlier epochs",
        config=SaliencyGradientEmaConfig,
        build=_gradient_ema_learner,
    ),
    MeasurementCard(
        name="saliency_maps",
        summary="which patches ctd_vit finds salient and keeps: figure and arrays",
        config=SaliencyMapsConfig,
        run=_saliency_maps,
        only_for=("ctd_vit",),
    ),
    MeasurementCard(
        name="attention_maps",
        summary="what CLS attends to in each block of ctd_vit: figure, arrays and entropies",
        config=MapsConfig,
        run=_attention_maps,
        only_for=("ctd_vit",),
    ),
)
