"""A plugin for the tests of the rooms below torch: its cards can be planned, not trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from labctl.api import (
    Architecture,
    Config,
    CostCard,
    Dataset,
    DataSpec,
    Knob,
    KnobValue,
    LossTerm,
    MeasurementCard,
    Places,
    Schedule,
    ScheduleCard,
    Time,
)


class ToyConfig(Config):
    """What a recipe can say about the model."""

    width: int = Field(default=8, gt=0)
    """Width of a layer."""
    heads: int = Field(default=2, gt=0)
    """Must divide width."""
    rate: float = Field(default=0.5, ge=0, le=1)
    mode: Literal["plain", "gated"] = "plain"
    bucket: int | None = 4
    size: int | Literal["all"] = "all"

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.width == 13:
            raise ZeroDivisionError("thirteen")
        if self.width % self.heads:
            raise ValueError(f"heads {self.heads} does not divide width {self.width}")
        return self


def knobs(config: ToyConfig, spec: DataSpec) -> tuple[Knob, ...]:
    if config.width == 26:
        raise KeyError("knobs of twenty-six")
    return (
        Knob("heat", 1.0, low=0.1, high=10.0),
        Knob("drop", 0.0, kind="structural", low=0.0, high=0.9, ladder=quarters),
        Knob("mask", "dense", kind="structural", choices=("dense", "gather", "prune")),
        Knob("layers", 4, kind="structural", integer=True, low=1, high=8),
        Knob("share", 0.5, kind="structural", low=0.0, high=1.0),
        Knob("bad", 0.0, kind="structural", ladder=lambda values: values[:1]),
        Knob("worse", 0.0, kind="structural", ladder=lambda values: [1 / 0 for _ in values]),
    )


def quarters(values: Sequence[float]) -> Sequence[float]:
    return [round(value * 4) / 4 for value in values]


def realised(
    config: ToyConfig, spec: DataSpec, standing: Mapping[str, KnobValue]
) -> dict[str, float]:
    return {"alive": 16 * (1 - float(standing["drop"]))}


def fault(config: ToyConfig, spec: DataSpec) -> str | None:
    if config.width == 39:
        raise RuntimeError("no idea")
    return None if spec.inputs == "image" else "it needs images"


class TinyConfig(Config):
    """What a recipe can say about the images."""

    channels: int = 1


def images(config: TinyConfig, places: Places) -> DataSpec:
    if config.channels == 13:
        raise KeyError("thirteen channels")
    shape, sizes = (config.channels, 8, 8), {"train": 100, "test": 20}
    moments = (0.5,) * min(config.channels, 13)
    std = (0.5,) * config.channels
    return DataSpec("tiny", "1", "image", shape, 10, sizes, mean=moments, std=std)


def words(config: Any, places: Places) -> DataSpec:
    return DataSpec("words", "1", "tokens", (16,), 50, {"train": 100, "test": 20})


def nothing(*arguments: Any) -> Any:
    return None


class AuxConfig(Config):
    """What a recipe can say about the second term."""

    weight: float = Field(default=1.0, gt=0)
    names: dict[str, int] = {}
    pair: tuple[int, float] = (1, 0.5)


class BounceConfig(Schedule):
    """Up and down: a kind of schedule that labctl does not have."""

    peak: float
    middle: Time = Time(50, "%")

    def at(self, step: float) -> float:
        return self.peak / (1 + abs(step - self.middle.value))


def width_of(recipe: Any) -> float:
    width: float = recipe.architecture.config.width
    return width


def fault_of(recipe: Any, project: Any, registry: Any) -> float:
    raise ZeroDivisionError("no price")


cards = (
    Architecture(
        name="toy", config=ToyConfig, build=nothing, knobs=knobs, realised=realised, fault=fault
    ),
    Dataset(name="tiny", config=TinyConfig, spec=images, load=nothing, missing=nothing),
    Dataset(name="words", spec=words, load=nothing, missing=nothing),
    LossTerm(name="aux", config=AuxConfig, build=nothing),
    MeasurementCard(name="probe", run=nothing),
    MeasurementCard(name="stranger", run=nothing, only_for=("another",)),
    ScheduleCard(name="bounce", config=BounceConfig),
    CostCard(name="weights", total=lambda recipe, *_: recipe.clock.steps * width_of(recipe)),
    CostCard(name="nothing", total=lambda *_: 0.0),
    CostCard(name="faulty", total=fault_of),
)
