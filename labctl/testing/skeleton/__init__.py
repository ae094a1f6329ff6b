"""skeleton: an MLP-mixer over the patches of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labctl.api import Architecture, DataSpec, Knob

from .config import MixerConfig

if TYPE_CHECKING:
    from .model import Mixer


def _build(config: MixerConfig, spec: DataSpec) -> Mixer:
    # Here, not above: a recipe is read and planned without torch.
    from .model import Mixer

    return Mixer(config, spec)


def _knobs(config: MixerConfig, spec: DataSpec) -> tuple[Knob, ...]:
    """What a recipe's schedules may turn while the model trains."""
    return (
        Knob("noise", 0.0, "standard deviation of the noise on the pixels", low=0.0, at_eval=0.0),
    )


def _fault(config: MixerConfig, spec: DataSpec) -> str | None:
    """Why a recipe's model and data do not fit; None if they do."""
    if spec.inputs != "image":
        return f"skeleton reads images, and {spec.name} holds {spec.inputs}"
    _, height, width = spec.shape
    if height % config.patch or width % config.patch:
        return f"patch {config.patch} does not divide {height}x{width} pixels"
    return None


cards = (
    Architecture(
        name="skeleton",
        summary="MLP-mixer over the patches of an image",
        config=MixerConfig,
        build=_build,
        knobs=_knobs,
        fault=_fault,
    ),
)
