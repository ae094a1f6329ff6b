"""What a recipe can say about the energy transformer and about equilibrium propagation."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from labctl.api import Config, DataSpec, Knob

from .patches import count_patches, misfit

Activation = Literal["logcosh", "relu2", "softplus2"]
Memory = Literal["attractive", "repulsive"]
Readout = Literal["cls", "mean", "flatten"]
Estimator = Literal["centered", "one_sided", "random_sign", "richardson"]


class RelaxConfig(Config):
    """When a relaxation stops, and how far it steps."""

    max_steps: int = Field(default=40, ge=0)
    """Steps after which a sample stops, settled or not."""
    tol: float = Field(default=1e-5, ge=0)
    """A sample stops once its step is shorter than this share of its state; 0 never stops early."""
    step_size: float = Field(default=1.0, gt=0, le=1)
    """Share of the way to the field's value that a step goes; halved for a sample that steps over
    its goal, further and further."""


class NudgeConfig(Config):
    """When a nudged relaxation stops: `tol` is the step's share of the distance from the free
    state, since that distance is the signal."""

    max_steps: int = Field(default=25, ge=0)
    """Steps after which a sample stops, settled or not."""
    tol: float = Field(default=1e-3, ge=0)
    """A sample stops once its step is shorter than this share of its way from the free state; 0
    never stops early."""
    step_size: float | None = Field(default=None, gt=0, le=1)
    """Share of the way to the field's value that a step goes; null is that of `relax`."""

    def after(self, free: RelaxConfig) -> RelaxConfig:
        """The rule of a relaxation that follows a free one."""
        step_size = free.step_size if self.step_size is None else self.step_size
        return RelaxConfig(max_steps=self.max_steps, tol=self.tol, step_size=step_size)


class EnergyTransformerConfig(Config):
    """An energy over tokens (Hoover et al. 2023, in Lagrangian form), driven by image patches."""

    patch_size: int = Field(default=4, ge=1)
    """Side of a square patch in pixels; must divide the image's sides."""
    embed_dim: int = Field(default=128, ge=2)
    """Width d of a token."""
    num_heads: int = Field(default=4, ge=1)
    """Attention heads; must divide embed_dim."""
    hidden: int = Field(default=512, ge=1)
    """Patterns M of the associative memory, the width of its hidden layer."""
    activation: Activation = "logcosh"
    """Potential of the memory: `logcosh` (slope tanh), `relu2` (relu^2/2, slope relu) or
    `softplus2` (softplus^2/2, smooth)."""
    memory: Memory = "attractive"
    """Patterns draw tokens (`attractive`, as in a Hopfield network) or push them away
    (`repulsive`). The latter's energy is convex: relaxation has one goal however strong the
    patterns, if `relax.step_size` and the nudge's are small enough."""
    norm_eps: float = Field(default=1.0, gt=0)
    """Added to a token's variance; 1/sqrt of it bounds how steep the normalisation is."""
    inverse_temperature: float | None = Field(default=None, gt=0)
    """Of the attention's softmax; null is 1/sqrt(embed_dim / num_heads)."""
    attention: bool = True
    """Whether tokens see each other at all."""
    drive_scale: float = Field(default=1.0, gt=0)
    """Of embedding and positions before training. The normalisation divides by how far a token is
    driven, so the further, the larger the weights that still contract."""
    readout: Readout = "cls"
    """What the head reads: the extra tokens, the mean of the patches, or all of them."""
    cls_tokens: int = Field(default=1, ge=1)
    """Extra tokens of `readout: cls`, which see no image but through attention; the head reads them
    side by side."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of patterns left out for a sample in training, the same ones in all of its phases."""
    relax: RelaxConfig = RelaxConfig()
    """The free relaxation, in training and evaluation."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.embed_dim % self.num_heads:
            divisors = [n for n in range(1, self.embed_dim + 1) if self.embed_dim % n == 0]
            raise ValueError(
                f"num_heads {self.num_heads} does not divide embed_dim {self.embed_dim}; "
                f"{', '.join(map(str, divisors))} do"
            )
        if self.readout == "cls" and not self.attention:
            raise ValueError(
                "readout: cls without attention reads a token that sees nothing; "
                "readout: mean or flatten works"
            )
        return self

    @property
    def extra_tokens(self) -> int:
        """Tokens that no patch drives."""
        return self.cls_tokens if self.readout == "cls" else 0

    @property
    def beta_attention(self) -> float:
        """The inverse temperature of the attention's softmax."""
        if self.inverse_temperature is not None:
            return self.inverse_temperature
        return float((self.embed_dim // self.num_heads) ** -0.5)


class ContractionConfig(Config):
    """What keeps the relaxation a contraction while weights are learnt."""

    memory_norm: float | None = Field(default=1.0, gt=0)
    """Largest spectral norm of the patterns; null lets it grow."""
    attention_norm: float | None = Field(default=0.5, gt=0)
    """Largest spectral norm of the queries' and of the keys' weights, heads stacked; null lets it
    grow."""
    max_gain: float | None = Field(default=1.0, gt=0)
    """Largest gain of the normalisation; null lets it grow."""
    max_radius: float = Field(default=0.95, gt=0)
    """A spectral radius above this, measured once an epoch, is brought back to it by scaling
    patterns, queries and keys."""
    max_busy: float = Field(default=0.7, gt=0)
    """A batch whose free relaxations take more than this share of `relax.max_steps`, on average,
    makes them decay."""
    decay: float = Field(default=5.0, ge=0)
    """Of them then, times the learning rate; as it falls, what was learnt stays."""


class ProbeConfig(Config):
    """A look, before the first step of each epoch, at how good the estimate is."""

    samples: int = Field(default=64, ge=0)
    """Samples of the batch whose estimate is compared with the implicit gradient; 0 is off."""
    radius_steps: int = Field(default=20, ge=1)
    """Power iterations for the spectral radius."""


class FailureConfig(Config):
    """When a sample's relaxation has failed, so that it is left out of the update."""

    growth: float = Field(default=10.0, gt=1)
    """A step this many times as long as the first."""
    residual: float = Field(default=1e-2, gt=0)
    """A last step that is a larger share of the state."""
    energy_rise: float | None = Field(default=1e-4, ge=0)
    """An energy that rose by more than this share of its size; null does not look."""
    skip_above: float = Field(default=0.05, ge=0, le=1)
    """A larger share of failed samples skips the whole update."""


class EqPropConfig(Config):
    """Equilibrium propagation (Scellier & Bengio 2017; Laborieux et al. 2021)."""

    estimator: Estimator = "centered"
    """`centered` (+beta and -beta, bias beta^2), `one_sided` (+beta and free, bias beta),
    `random_sign` (one-sided, its sign drawn for each batch), `richardson` (two centered pairs, bias
    beta^4)."""
    nudge: NudgeConfig = NudgeConfig()
    """The nudged relaxations."""
    sequential: bool = False
    """Relax +beta and -beta one after the other, not as one batch: slower, with less memory."""
    contraction: ContractionConfig = ContractionConfig()
    """Limits of the weights after each step."""
    probe: ProbeConfig = ProbeConfig()
    """The look at the estimate once an epoch."""
    failure: FailureConfig = FailureConfig()
    """What counts as a failed relaxation."""


def eqprop_knobs(config: EqPropConfig, spec: DataSpec) -> tuple[Knob, ...]:
    """Of the learner eqprop: beta."""
    return (Knob("beta", 0.05, "strength of the nudge towards a lower cost", low=1e-6, high=10.0),)


def num_tokens(config: EnergyTransformerConfig, spec: DataSpec) -> int:
    """Tokens N of one image, those that no patch drives among them."""
    return config.extra_tokens + count_patches(config.patch_size, spec)


def fault(config: EnergyTransformerConfig, spec: DataSpec) -> str | None:
    """Why this model cannot be built for this data; None if it can."""
    if spec.inputs != "image":
        return f"energy_transformer reads images; {spec.name} has {spec.inputs}"
    if reason := misfit(config.patch_size, spec):
        return reason
    if config.attention and num_tokens(config, spec) < 2:
        return "attention needs two tokens; a smaller patch_size, or attention: false, works"
    return None
