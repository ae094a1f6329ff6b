"""What labctl itself brings, announced through the same door as any plugin's cards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, model_validator

from labctl.data import digits, own, published
from labctl.recipe import schedule
from labctl.registry.card import (
    Card,
    CostCard,
    Dataset,
    DataSpec,
    LearnerCard,
    LossTerm,
    MeasurementCard,
    OptimizerCard,
    ScheduleCard,
)
from labctl.registry.config import Config

if TYPE_CHECKING:
    import torch

    from labctl.measure.measurement import MeasureContext
    from labctl.project import Project
    from labctl.recipe.recipe import Recipe
    from labctl.registry.registry import Registry
    from labctl.train.learner import Learner, LearnerParts, Term


Share = Annotated[float, Field(ge=0, lt=1)]


class AdamWConfig(Config):
    """Moments of AdamW."""

    betas: tuple[Share, Share] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)


class SGDConfig(Config):
    """Momentum of SGD."""

    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False

    @model_validator(mode="after")
    def _check_nesterov(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs momentum, such as momentum: 0.9")
        return self


class CrossEntropyConfig(Config):
    """Cross-entropy, smoothed and weighed."""

    smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Label smoothing (Szegedy et al. 2016)."""
    weight: float = Field(default=1.0, gt=0)


class OfficialRobustnessConfig(Config):
    """How many of the published images: CIFAR-10-C/ or CIFAR-100-C/ in one of the data folders."""

    images: int | None = Field(default=None, ge=1)
    """Of each corruption at each severity, from the beginning of the test set; null for all."""


class RobustnessConfig(OfficialRobustnessConfig):
    """Which images labctl makes of the test set, the same ones for every model."""

    seed: int = 0
    """Of what is drawn for them; it has nothing to do with the run's."""


def _adamw(config: AdamWConfig, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    from labctl.train import optimizer

    return optimizer.adamw(config, groups)


def _sgd(config: SGDConfig, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    from labctl.train import optimizer

    return optimizer.sgd(config, groups)


def _backprop(config: Config, parts: LearnerParts) -> Learner:
    from labctl.train.learner import Backprop

    return Backprop(parts)


def _cross_entropy(config: CrossEntropyConfig, spec: DataSpec) -> Term:
    from labctl.train import losses

    return losses.cross_entropy(config, spec)


def _robustness(config: RobustnessConfig, context: MeasureContext) -> dict[str, float]:
    from labctl.measure import robustness

    return robustness.robustness(config, context)


def _official_robustness(
    config: OfficialRobustnessConfig, context: MeasureContext
) -> dict[str, float]:
    from labctl.measure import robustness

    return robustness.official_robustness(config, context)


def _robustness_fault(config: RobustnessConfig, spec: DataSpec) -> str | None:
    from labctl.measure.corrupted import fault

    return fault(spec)


def _official_robustness_fault(config: OfficialRobustnessConfig, spec: DataSpec) -> str | None:
    from labctl.data.corruptions.names import PUBLISHED

    if spec.name not in PUBLISHED:
        return (
            f"nobody has published corrupted files of {spec.name}; robustness, which makes them, "
            f"or the data of {', '.join(PUBLISHED)}"
        )
    return None


def _executed_flops(recipe: Recipe, project: Project, registry: Registry) -> float:
    from labctl.train import executed

    return executed.executed_flops(recipe, project, registry)


def _published(data: published.Published, summary: str) -> Dataset:
    return Dataset(
        name=data.facts.name,
        summary=summary,
        spec=data.spec,
        load=data.load,
        missing=data.missing,
        fetch=data.fetch,
    )


_DATA: tuple[Card, ...] = (
    Dataset(
        name="digits",
        summary="1,797 8x8 digits, embedded in scikit-learn",
        spec=digits.spec,
        load=digits.load,
        missing=digits.missing,
    ),
    _published(published.MNIST, "70,000 28x28 digits"),
    _published(published.CIFAR10, "60,000 32x32 images in 10 classes"),
    _published(published.CIFAR100, "60,000 32x32 images in 100 classes"),
    Dataset(
        name="npz",
        summary="your images and labels in an npz file",
        config=own.NpzConfig,
        spec=own.npz_spec,
        load=own.npz_load,
        missing=own.missing,
    ),
    Dataset(
        name="folder",
        summary="your images in train/<class>/ and test/<class>/",
        config=own.FolderConfig,
        spec=own.folder_spec,
        load=own.folder_load,
        missing=own.missing,
    ),
)

_TRAINING: tuple[Card, ...] = (
    LearnerCard(
        name="backprop",
        summary="back-propagation of the sum of the loss terms",
        build=_backprop,
        takes_mixtures=True,
    ),
    OptimizerCard(name="adamw", summary="AdamW, fused", config=AdamWConfig, build=_adamw),
    OptimizerCard(name="sgd", summary="SGD with momentum, fused", config=SGDConfig, build=_sgd),
    LossTerm(
        name="cross_entropy",
        summary="over classes or tokens",
        config=CrossEntropyConfig,
        build=_cross_entropy,
        takes_mixtures=True,
    ),
    CostCard(
        name="executed_flops",
        summary="FLOPs of all training steps, counted from what runs",
        total=_executed_flops,
    ),
)

_MEASUREMENTS: tuple[Card, ...] = (
    MeasurementCard(
        name="robustness",
        summary="accuracy on a test set that labctl corrupts in 15 ways at 5 severities",
        config=RobustnessConfig,
        run=_robustness,
        fault=_robustness_fault,
    ),
    MeasurementCard(
        name="official_robustness",
        summary="the same on the published files: CIFAR-10-C, CIFAR-100-C",
        config=OfficialRobustnessConfig,
        run=_official_robustness,
        fault=_official_robustness_fault,
    ),
)

_SCHEDULES: tuple[Card, ...] = tuple(
    ScheduleCard(name=name, summary=(kind.__doc__ or "").splitlines()[0], config=kind)
    for name, kind in schedule.KINDS.items()
)

cards = (*_DATA, *_TRAINING, *_MEASUREMENTS, *_SCHEDULES)
