"""What a recipe can say of the one-token system and of the rule that trains it."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from labctl.api import Config, DataSpec, Knob


class SeedConfig(Config):
    """A transformer block iterated on one token, which attends to the embedded image.

    The defaults are those of the system that was reported at 92.09 % on MNIST.
    """

    embed_dim: int = Field(default=256, ge=1)
    """Width of the token."""
    num_heads: int = Field(default=8, ge=1)
    """Attention heads; must divide embed_dim."""
    hidden_dim: int = Field(default=1024, ge=1)
    """Width of the hidden layer of the MLP."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Of the hidden layer of the MLP, in training."""
    dropout_mode: Literal["resampled", "frozen", "off"] = "resampled"
    """`resampled` draws a mask for every application of the block, so that the field has no fixed
    point; `frozen` draws one for each example and batch and keeps it in all phases."""
    damping: float = Field(default=0.8, gt=0, le=1)
    """a of h <- (1 - a) h + a f(h)."""
    max_steps: int = Field(default=50, ge=1)
    """Applications of the block in a phase, at most; exactly so many where autograd is on."""
    tol: float = Field(default=1e-5, ge=0)
    """A phase ends when no entry of f(h) - h, of the whole batch, is larger."""
    check_every: int = Field(default=5, ge=1)
    """Steps between two looks at the tolerance."""

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.embed_dim % self.num_heads:
            wide = -(-self.embed_dim // self.num_heads) * self.num_heads
            raise ValueError(
                f"num_heads {self.num_heads} does not divide embed_dim {self.embed_dim}; "
                f"num_heads 1 does, or embed_dim {wide}"
            )
        return self


class SeedLearnerConfig(Config):
    """A free phase from 0, a nudged one from where it ends, and an update of one block from both.

    The nudge is the gradient of the mean over the batch: in a batch of B each example feels
    `beta` / B. The head is trained at the free state by the loss itself.
    """

    update: Literal["mse_proxy", "vector_field", "descending_field"] = "mse_proxy"
    """`mse_proxy` minimises the mean square of f(h_free) - h_nudged over beta. `vector_field`
    back-propagates (h_nudged - h_free) / beta as if it were a gradient, which ascends the loss: it
    is kept as it was written. `descending_field` has its sign mended and is of the loss's scale."""
    noise: bool = False
    """Whether a second free phase is run before the first step of each epoch, from which `noise` is
    told."""


def seed_knobs(config: SeedLearnerConfig, spec: DataSpec) -> tuple[Knob, ...]:
    """The strength of the nudge."""
    return (Knob("beta", 0.25, "strength of the nudge", low=1e-6),)


def seed_fault(config: SeedConfig, spec: DataSpec) -> str | None:
    """Why the system cannot be trained on these data."""
    if spec.inputs != "image":
        return f"eqprop_seed reads images, and {spec.name} holds {spec.inputs}"
    return None
