"""What a recipe can say of the measurements of gradients, memory and adaptive computation."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from labctl.api import Config

from .config import Estimator

Method = Literal["eqprop", "eqprop_sequential", "bptt", "bptt_checkpointed", "implicit"]


class GradientEquivalenceConfig(Config):
    """Which gradients are compared, on what, and how exactly fixed points are solved."""

    split: str = "test"
    """Name of the split."""
    samples: int = Field(default=16, ge=1)
    """How many examples, from its beginning."""
    estimators: tuple[Estimator, ...] = Field(
        default=("centered", "one_sided", "richardson"), min_length=1
    )
    """Contrasts to compare, as in learner eqprop."""
    betas: tuple[PositiveFloat, ...] = Field(default=(1e-3, 0.02, 0.2), min_length=1)
    """Strengths of the nudge."""
    tol: float = Field(default=1e-13, gt=0)
    """Relative residual, in double precision, of free states and of adjoints."""
    max_steps: int = Field(default=1000, ge=1)
    """Cap of a free relaxation, and of an adjoint's iteration before GMRES takes over."""
    nudge_tol: float = Field(default=1e-11, gt=0)
    """A nudged state is at rest when its step is so short beside its way from the free one."""
    nudge_steps: int = Field(default=500, ge=1)
    """Cap of a nudged relaxation."""
    bptt_steps: int | None = Field(default=None, ge=1)
    """Steps of back-propagation through time; null is the model's relax.max_steps."""


class ImpossibleConfig(Config):
    """A cell beyond the grid: running out of memory is a result."""

    methods: tuple[Method, ...] | None = Field(default=None, min_length=1)
    """Learning rules that try it; null is those of the grid."""
    width: int = Field(default=2048, ge=1)
    """Width of a token."""
    steps: int = Field(default=400, ge=1)
    """T."""
    batch: int = Field(default=64, ge=1)
    """Examples in a step."""
    repeats: int = Field(default=0, ge=0)
    """Steps that are timed; 0 times the one whose bytes are counted."""


class TrainingMemoryConfig(Config):
    """The grid of cells, each a training step of one method at one width and number of steps."""

    methods: tuple[Method, ...] = Field(
        default=("eqprop", "eqprop_sequential", "bptt", "bptt_checkpointed", "implicit"),
        min_length=1,
    )
    """Learning rules; `eqprop_sequential` nudges up and down one after the other."""
    steps: tuple[PositiveInt, ...] = Field(min_length=1)
    """T: steps of the free relaxation, and of every nudged one; none stops earlier."""
    widths: tuple[PositiveInt, ...] = Field(min_length=1)
    """Widths of a token, multiples of the model's num_heads; its memory has four times as many
    hidden units."""
    batch: int = Field(default=64, ge=1)
    """Examples in a step."""
    tokens: int | None = Field(default=49, ge=1)
    """Patches of an image, a square number; null is what the run's own data have. The extra token
    of `readout: cls` comes on top."""
    repeats: int = Field(default=3, ge=1)
    """Steps that are timed, after one that is not."""
    impossible: ImpossibleConfig | None = None
    """A cell that is meant to exceed a GPU's memory under back-propagation; left out on the CPU."""

    @model_validator(mode="after")
    def _check_tokens(self) -> Self:
        if self.tokens is not None and round(self.tokens**0.5) ** 2 != self.tokens:
            low = int(self.tokens**0.5)
            raise ValueError(
                f"tokens {self.tokens} fill no square image; {low**2} or {(low + 1) ** 2} do"
            )
        return self


class AdaptiveComputeConfig(Config):
    """How long examples relax, each by itself, and what that has to do with how hard they are."""

    split: str = "test"
    """Name of the split."""
    samples: int | None = Field(default=None, ge=2)
    """How many examples, from its beginning; null takes all."""
    batch: int = Field(default=256, ge=1)
    """Examples that relax together."""
    tol: float = Field(default=1e-4, gt=0)
    """Tolerance that the figures are of: the step's share of the state below which it rests."""
    tolerances: tuple[PositiveFloat, ...] = (1e-2, 1e-3, 1e-4, 1e-5)
    """Tolerances of the accuracy against work."""
    max_steps: int = Field(default=100, ge=2)
    """Cap of a relaxation."""
    budgets: tuple[int, ...] = (0, 1, 2, 4, 8, 16, 32)
    """Fixed numbers of steps to compare with."""
    patience: int = Field(default=3, ge=1)
    """Early exit: stop once the decision has stood for so many steps ..."""
    margin_growth: float = Field(default=1e-3, ge=0)
    """... and the margin of probabilities has grown by less than this in the last."""

    @model_validator(mode="after")
    def _check_budgets(self) -> Self:
        if beyond := [steps for steps in self.budgets if not 0 <= steps <= self.max_steps]:
            raise ValueError(f"budgets {beyond} are not between 0 and max_steps {self.max_steps}")
        return self


class RelaxationDepthConfig(Config):
    """Accuracy after how many steps."""

    split: str = "test"
    """Name of the split."""
    samples: int | None = Field(default=None, ge=1)
    """How many examples, from its beginning; null takes all."""
    batch: int = Field(default=256, ge=1)
    """Examples that relax together."""
    steps: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(0, 1, 2, 4, 8, 16, 32, 64), min_length=1
    )
    """Numbers of steps after which the state is read out; the largest is taken as final."""
