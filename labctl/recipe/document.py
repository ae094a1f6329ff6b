"""The form of a recipe: every field that labctl itself reads.

Blocks that name a card (`model`, `data`, `learner`, `optimizer`, `loss.*`, `schedules.*`,
`measure.*`) keep the card's own fields aside; `labctl.recipe.recipe` validates those by the card.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from labctl.registry.config import Config

from .augment import Augment
from .times import Time


class Block(BaseModel):
    """A part of a recipe whose remaining fields belong to the card that it names."""

    model_config = ConfigDict(
        extra="allow", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    def options(self) -> dict[str, Any]:
        """The card's own fields."""
        return dict(self.model_extra or {})


class ModelBlock(Block):
    architecture: str
    """Name of an architecture: `labctl ls architectures`."""


class DataBlock(Block):
    name: str
    """Name of a data set: `labctl data`."""
    val: int = Field(default=0, ge=0)
    """Training examples set aside for validation, the same for every seed."""
    augment: Augment = Augment()


class LearnerBlock(Block):
    kind: str = "backprop"


class ParameterGroup(Config):
    """Parameters treated differently from the others."""

    match: tuple[str, ...] = Field(min_length=1)
    """Glob patterns over parameter names, such as `blocks.*.norm1.*`; each must match something."""
    lr_scale: float = Field(default=1.0, ge=0)
    """Factor on the learning rate."""
    weight_decay: float | None = Field(default=None, ge=0)


class OptimizerBlock(Block):
    kind: str
    """Name of an optimizer: `labctl ls optimizers`."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled where the optimizer decouples it. Not applied to parameters of fewer than two dimensions."""
    clip_norm: float | None = Field(default=None, gt=0)
    """Largest global L2 norm of the gradient."""
    groups: tuple[ParameterGroup, ...] = ()


class ScheduleBlock(Block):
    kind: str
    every: Time | None = None
    """How often a structural knob may change; one epoch if not given."""


class MeasureBlock(Block):
    at: Literal["end"] = "end"
    """When it is taken."""


class Numerics(Config):
    """What decides the arithmetic; part of a run's key, never changed silently."""

    precision: Literal["fp32", "tf32", "bf16", "fp64"] = "fp32"
    """`fp32` is IEEE single throughout; `bf16` is autocast over fp32 weights; `tf32` needs CUDA."""


class Evaluate(Config):
    """When the model is evaluated. The last step always is."""

    every: Time = Time(1, "ep")
    tail: Time = Time(0, "ep")
    """Length of the final stretch in which every epoch is evaluated."""
    batch_size: int = Field(default=500, gt=0)
    train: bool = True
    """At the end, also on the training examples, without augmentation: for the gap between train and test."""


class Ema(Config):
    """Exponential moving average of the weights, used for evaluation."""

    decay: float = Field(default=0.999, gt=0, lt=1)


class Runtime(Config):
    """How a run is carried out; not part of its key, for it changes no result."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    log_every: Time | None = None
    """Length of the stretch over which training metrics are averaged; about ten per epoch if not given."""
    checkpoint_seconds: float = Field(default=60.0, ge=0)
    """Longest time between checkpoints."""


class Sourced(Config):
    """What every claim has."""

    data: str | None = None
    """Data set that the claim is about; the recipe's own if not given."""
    source: str = ""
    """Who claims it, and where."""
    known: Literal["refuted"] | None = None
    """`refuted`: the claim is known to be false."""


class ReferenceClaim(Sourced):
    """A published value: shown beside ours with the difference, not judged."""

    reference: str
    """Metric, such as `test/acc`."""
    value: float
    """In the metric's unit; accuracies in percent."""


class BoundedClaim(Sourced):
    """A claim that names a bound, or two."""

    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _has_a_bound(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError("a claim needs at_least, at_most or both")
        return self


class DifferenceClaim(BoundedClaim):
    """A bound on a metric minus the same metric of another recipe, paired by seed."""

    difference: str
    to: str
    """The other recipe."""


class RatioClaim(BoundedClaim):
    """A bound on another recipe's metric over this one's: a speed-up, for a time."""

    ratio: str
    to: str
    """The other recipe."""


def _claim_kind(value: Any) -> str | None:
    if isinstance(value, dict):
        return next((kind for kind in ("reference", "difference", "ratio") if kind in value), None)
    return str(type(value).__name__).removesuffix("Claim").lower()


Claim = Annotated[
    Annotated[ReferenceClaim, Tag("reference")]
    | Annotated[DifferenceClaim, Tag("difference")]
    | Annotated[RatioClaim, Tag("ratio")],
    Discriminator(
        _claim_kind,
        custom_error_type="claim_kind",
        custom_error_message="a claim has one of the fields reference, difference, ratio",
    ),
]


ScheduleEntry = Annotated[
    Annotated[ScheduleBlock, Tag("block")] | Annotated[float | str, Tag("value")],
    Discriminator(lambda value: "block" if isinstance(value, dict | ScheduleBlock) else "value"),
]


class Document(Config):
    """A recipe as written, after `extends`, preset and overrides."""

    title: str = ""
    tags: tuple[str, ...] = ()
    data: DataBlock
    model: ModelBlock
    learner: LearnerBlock = LearnerBlock()
    loss: dict[str, dict[str, Any]] = Field(default={"cross_entropy": {}}, min_length=1)
    """Terms of the objective by name; their sum is minimised."""
    optimizer: OptimizerBlock
    batch_size: int = Field(gt=0)
    """Examples per step; an epoch drops the last, incomplete batch."""
    budget: Time
    """How long to train: 50ep, 20000step or 20Mtok."""
    marks: dict[str, Time] = {}
    """Named moments that schedules refer to."""
    schedules: dict[str, ScheduleEntry]
    """By knob; a bare value is a constant."""
    numerics: Numerics = Numerics()
    evaluate: Evaluate = Evaluate()
    ema: Ema | None = None
    seeds: tuple[int, ...] = (0,)
    """One run each; a bare number n means 0 to n-1."""
    measure: dict[str, MeasureBlock] = {}
    """Measurements to take, by name: `labctl ls measurements`."""
    claims: dict[str, Claim] = {}
    runtime: Runtime = Runtime()

    @field_validator("seeds", mode="before")
    @classmethod
    def _count_of_seeds(cls, seeds: Any) -> Any:
        if isinstance(seeds, int) and not isinstance(seeds, bool) and seeds > 0:
            return tuple(range(seeds))
        return tuple(seeds) if isinstance(seeds, list) else seeds

    @field_validator("seeds")
    @classmethod
    def _distinct_seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
            raise ValueError("seeds must be distinct non-negative numbers, at least one")
        return seeds

    @field_validator("budget")
    @classmethod
    def _absolute_budget(cls, budget: Time) -> Time:
        if budget.unit not in ("ep", "step", "tok") or budget.value <= 0:
            raise ValueError(f"a budget is a positive number of ep, step or tok, not {budget}")
        return budget
