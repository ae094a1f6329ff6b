"""What a recipe can say of an ordinary looped transformer, and of training it by contrast."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from labctl.api import Config, DataSpec, Knob

from .config import NudgeConfig, RelaxConfig
from .patches import count_patches, misfit


class LoopedTransformerConfig(Config):
    """Pre-norm transformer blocks applied over and over to tokens that an image drives."""

    patch_size: int = Field(default=4, ge=1)
    """Side of a square patch in pixels; must divide the image's sides."""
    embed_dim: int = Field(default=128, ge=2)
    """Width d of a token."""
    num_heads: int = Field(default=4, ge=1)
    """Attention heads; must divide embed_dim."""
    hidden: int = Field(default=512, ge=1)
    """Width of the hidden layer of a block's MLP."""
    depth: int = Field(default=2, ge=1)
    """Blocks, each with its own weights, in one application of the loop's body."""
    norm_eps: float = Field(default=1.0, gt=0)
    """Added to a token's variance; 1/sqrt of it bounds how steep a normalisation is."""
    init_scale: float = Field(default=0.3, gt=0)
    """Weights begin with a deviation of this over the root of their inputs."""
    max_norm: float | None = Field(default=1.0, gt=0)
    """Largest spectral norm that learner aep leaves a weight of the blocks; null lets it grow."""
    readout: Literal["cls", "mean", "flatten"] = "cls"
    """What the head reads: an extra token, the mean of the patches, or all of them."""
    relax: RelaxConfig = RelaxConfig()
    """The free relaxation, in training and evaluation."""

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.embed_dim % self.num_heads:
            divisors = [n for n in range(1, self.embed_dim + 1) if self.embed_dim % n == 0]
            raise ValueError(
                f"num_heads {self.num_heads} does not divide embed_dim {self.embed_dim}; "
                f"{', '.join(map(str, divisors))} do"
            )
        return self


class AepConfig(Config):
    """Equilibrium propagation in fields that descend no energy (Scurria et al. 2026).

    A nudged field is made, in the linear order, the transpose of the free one, so that the contrast
    of +beta and -beta is the adjoint. That takes products with the Jacobian and its transpose: no
    local rule, but as much memory whatever the number of steps.
    """

    correction: bool = True
    """false leaves the transposition out: equilibrium propagation of a vector field, whose error
    does not vanish with beta."""
    nudge: NudgeConfig = NudgeConfig()
    """The nudged relaxations."""


def aep_knobs(config: AepConfig, spec: DataSpec) -> tuple[Knob, ...]:
    """The strength of the nudge that each example feels."""
    return (Knob("beta", 0.05, "strength of the nudge of an example", low=1e-6),)


def looped_tokens(config: LoopedTransformerConfig, spec: DataSpec) -> int:
    """Tokens N of one image, the extra one of `readout: cls` among them."""
    return count_patches(config.patch_size, spec) + (config.readout == "cls")


def looped_fault(config: LoopedTransformerConfig, spec: DataSpec) -> str | None:
    """Why this model cannot be built for these data; None if it can."""
    if spec.inputs != "image":
        return f"looped_transformer reads images, and {spec.name} holds {spec.inputs}"
    return misfit(config.patch_size, spec)
