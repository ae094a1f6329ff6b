"""Marginalia: a small plugin that keeps labctl's contracts honest.

It reads text, not images; it brings a data set, an architecture, a loss term and a learner of its
own; and it goes through the same trainer as everything else. Of labctl it imports `labctl.api`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import Field

from labctl.api import (
    Architecture,
    Config,
    Dataset,
    DataSpec,
    Empty,
    Knob,
    KnobValue,
    LearnerCard,
    LossTerm,
    Places,
)

from .text import ALPHABET, SIZES, encoded

if TYPE_CHECKING:
    from torch import Tensor

    from labctl.api import Batch, Knobs, Learner, LearnerParts, Output, Windows

    from .model import Reader

NEAR = 4
"""Characters that a position sees while the knob `reach` stands at `near`, itself included."""


class MarginsConfig(Config):
    """How the text is cut."""

    context: int = Field(default=32, ge=2)
    """Characters in a window."""


class ReaderConfig(Config):
    """One layer of causal attention over characters."""

    width: int = Field(default=32, ge=1)
    """Channels of a character."""


class SignumConfig(Config):
    """Momentum, then its sign."""

    nesterov: bool = False
    """Whether the newest gradient counts twice."""


def _spec(config: MarginsConfig, places: Places) -> DataSpec:
    windows = {split: (size - 1) // config.context for split, size in SIZES.items()}
    return DataSpec("margins", "1", "tokens", (config.context,), len(ALPHABET), windows)


def _load(config: MarginsConfig, places: Places) -> Mapping[str, Windows]:
    import torch

    from labctl.api import Windows

    return {split: Windows.of(torch.tensor(encoded(split)), config.context) for split in SIZES}


def _missing(config: MarginsConfig, places: Places) -> str | None:
    return None


def _build(config: ReaderConfig, spec: DataSpec) -> Reader:
    from .model import Reader

    return Reader(config, spec)


def _fault(config: ReaderConfig, spec: DataSpec) -> str | None:
    return (
        None
        if spec.inputs == "tokens"
        else f"the reader reads tokens, and {spec.name} holds {spec.inputs}s"
    )


def _knobs(config: ReaderConfig, spec: DataSpec) -> tuple[Knob, ...]:
    return (
        Knob("reach", "far", "how far back it attends", kind="structural", choices=("near", "far")),
    )


def _realised(
    config: ReaderConfig, spec: DataSpec, knobs: Mapping[str, KnobValue]
) -> dict[str, float]:
    """`seen`: characters that a position sees, on average over the window."""
    context = spec.shape[0]
    limit = NEAR if knobs["reach"] == "near" else context
    return {"seen": sum(min(place, limit) for place in range(1, context + 1)) / context}


def _activation_decay(config: Empty, spec: DataSpec) -> object:
    def term(output: Output, batch: Batch, knobs: Knobs) -> Tensor:
        loss: Tensor = knobs["activation_decay"] * output.aux["hidden"].float().square().mean()
        return loss

    return term


def _activation_knobs(config: Empty, spec: DataSpec) -> tuple[Knob, ...]:
    return (
        Knob(
            "activation_decay",
            0.0,
            "weight of the mean square of the activations",
            low=0.0,
            at_eval=0.0,
        ),
    )


def _signum(config: SignumConfig, parts: LearnerParts) -> Learner:
    from .learner import Signum

    return Signum(config, parts)


def _signum_knobs(config: SignumConfig, spec: DataSpec) -> tuple[Knob, ...]:
    return (Knob("inertia", 0.9, "share of the momentum that a step keeps", low=0.0, high=1.0),)


cards = (
    Dataset(
        name="margins",
        summary="made-up notes, by character",
        config=MarginsConfig,
        spec=_spec,
        load=_load,
        missing=_missing,
    ),
    Architecture(
        name="marginalia",
        summary="one layer of causal attention over characters",
        config=ReaderConfig,
        build=_build,
        knobs=_knobs,
        realised=_realised,
        fault=_fault,
    ),
    LossTerm(
        name="activation_decay",
        summary="mean square of the hidden activations (Merity et al. 2017)",
        build=_activation_decay,
        knobs=_activation_knobs,
    ),
    LearnerCard(
        name="signum",
        summary="sign of the momentum (Bernstein et al. 2018)",
        config=SignumConfig,
        build=_signum,
        knobs=_signum_knobs,
    ),
)
