"""The form of a recipe: every field that labctl itself reads.

Blocks that name a card (`model`, `data`, `learner`, `optimizer`, `loss.*`, `schedules.*`,
`measure.*`) keep the card's own fields aside; `labctl.recipe.recipe` validates those by the card.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
)

from labctl.registry.config import Config

from .augment import Augment
from .budget import Budget
from .claim import Claim
from .predicate import Predicate
from .seeds import Growing, SeedChoice
from .times import Interval, Length, Time


class Block(BaseModel):
    """A part of a recipe whose remaining fields belong to the card that it names."""

    model_config = ConfigDict(
        extra="allow", frozen=True, defer_build=True, strict=True, allow_inf_nan=False
    )

    def options(self) -> dict[str, Any]:
        """The card's own fields."""
        return dict(self.model_extra or {})


class ModelBlock(Block):
    """What is trained."""

    architecture: str
    """Name of an architecture: `labctl ls architectures`."""


class DataBlock(Block):
    """What it is trained on."""

    name: str
    """Name of a data set: `labctl data`."""
    val: int = Field(default=0, ge=0)
    """Training examples set aside for validation, the same for every seed."""
    augment: Augment = Augment()


class LearnerBlock(Block):
    """The learning rule."""

    kind: str = "backprop"
    """Name of a learner: `labctl ls learners`."""


class ParameterGroup(Config):
    """Parameters treated differently from the others."""

    match: tuple[str, ...] = Field(min_length=1)
    """Glob patterns over parameter names, such as `blocks.*.norm1.*`; each must match something."""
    lr_scale: float = Field(default=1.0, ge=0)
    """Factor on the learning rate."""
    weight_decay: float | None = Field(default=None, ge=0)


class OptimizerBlock(Block):
    """What changes the parameters."""

    kind: str
    """Name of an optimizer: `labctl ls optimizers`."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled where the optimizer decouples it; for parameters of two or more dimensions."""
    clip_norm: float | None = Field(default=None, gt=0)
    """Largest global L2 norm of the gradient."""
    groups: tuple[ParameterGroup, ...] = ()


class ScheduleBlock(Block):
    """Where a knob stands during training."""

    kind: str
    """Name of a kind of schedule: `labctl ls schedules`."""
    every: Interval | None = None
    """How often a structural knob may change; one epoch if not given."""


class MeasureBlock(Block):
    """A measurement to take."""

    at: Literal["end"] = "end"
    """When it is taken."""


Precision = Literal["fp32", "tf32", "bf16", "fp64"]


class Numerics(Config):
    """What decides the arithmetic; part of a run's key, never changed silently."""

    precision: Precision = "fp32"
    """`fp32` is IEEE single throughout; `bf16` is autocast over fp32 weights; `tf32` needs CUDA."""
    compiled: bool = Field(default=False, exclude_if=lambda compiled: not compiled)
    """Fuse model and loss into few kernels with torch.compile, anew for each value that structural
    knobs take: other last bits and dropout masks. Seeds that share a worker share what was
    compiled."""

    def __str__(self) -> str:
        return f"{self.precision}, compiled" if self.compiled else self.precision


class Evaluate(Config):
    """When the model is evaluated. The last step always is."""

    every: Interval = Time(1, "ep")
    tail: Length = Time(0, "ep")
    """Length of the final stretch in which every epoch is evaluated."""
    batch_size: int = Field(default=500, gt=0)
    train: bool = True
    """At the end, also on the training examples, without augmentation: for the gap to test."""


class Ema(Config):
    """Exponential moving average of the weights, used for evaluation."""

    decay: float = Field(default=0.999, gt=0, lt=1)


EngineName = Literal["auto", "eager", "graphed"]


class Runtime(Config):
    """How a run is carried out; not part of its key, for it changes no result. `log_every` is part
    of it where a rule of `stop` reads metrics of training: it looks when they are journalled."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    log_every: Interval | None = None
    """Stretch over which training metrics are averaged; if not given, a tenth of an epoch, in runs
    of more than 50 epochs longer, so that there are some 500, and of more than 500 an epoch."""
    checkpoint_seconds: float = Field(default=60.0, ge=0)
    """Longest time between checkpoints."""
    engine: EngineName = "auto"
    """How a step is carried out: kernel by kernel (`eager`), or recorded once as a CUDA graph and
    replayed (`graphed`); `auto` records on CUDA what can be recorded. Results are the same."""

    @field_validator("engine", mode="before")
    @classmethod
    def _check_engine(cls, name: Any) -> Any:
        if name == "compiled":
            raise ValueError("what is compiled has other numbers: write numerics.compiled: true")
        return name


def _entry_kind(value: Any) -> str:
    return "<block>" if isinstance(value, dict | ScheduleBlock) else "<value>"


ScheduleEntry = Annotated[
    Annotated[ScheduleBlock, Tag("<block>")] | Annotated[float | str, Tag("<value>")],
    Discriminator(_entry_kind),
]


class Document(Config):
    """A recipe as written, after `extends`, preset and overrides."""

    title: str = ""
    """One line, for lists and tables."""
    tags: tuple[str, ...] = ()
    """Words to find runs by."""
    data: DataBlock
    """What to train on: `{name: digits}`."""
    model: ModelBlock
    """What to train: `{architecture: NAME}`, and the architecture's own fields."""
    learner: LearnerBlock = LearnerBlock()
    """The learning rule; back-propagation if not given."""
    loss: dict[str, dict[str, Any]] = Field(default={"cross_entropy": {}}, min_length=1)
    """Terms of the objective by name; their sum is minimised."""
    optimizer: OptimizerBlock
    """What changes the parameters: `{kind: adamw, weight_decay: 0.05}`."""
    batch_size: int = Field(gt=0)
    """Examples per step; an epoch drops the last, incomplete batch."""
    budget: Budget
    """How long to train: 50ep, 20000step or 20Mtok; or at the cost of another recipe,
    `{match: executed_flops, of: RECIPE}`."""
    marks: dict[str, Time] = {}
    """Named moments that schedules refer to."""
    schedules: dict[str, ScheduleEntry]
    """By knob; a bare value is a constant."""
    numerics: Numerics = Numerics()
    """What decides the arithmetic."""
    evaluate: Evaluate = Evaluate()
    """When the model is evaluated, and on what."""
    ema: Ema | None = None
    """Evaluate an average of the weights: `{decay: 0.999}`."""
    stop: dict[str, Predicate] = {}
    """Rules that end a run early, by what the run is called then:
    `{collapsed: "test/acc < max(test/acc) - 10% for 2"}`."""
    seeds: SeedChoice = (0,)
    """One run each; a bare number n means 0 to n-1. Or as many as it takes to know a mean:
    `{min: 3, max: 10, until: ci_halfwidth <= 0.3}`."""
    measure: dict[str, MeasureBlock] = {}
    """Measurements to take, by name: `labctl ls measurements`."""
    claims: dict[str, Claim] = {}
    """What the author expects of the results, by name; `labctl check` judges them."""
    runtime: Runtime = Runtime()
    """How a run is carried out."""

    @property
    def growing(self) -> Growing | None:
        """The rule by which seeds are added, if there is one."""
        return self.seeds if isinstance(self.seeds, Growing) else None

    @property
    def first_seeds(self) -> tuple[int, ...]:
        """Seeds that are trained in any case."""
        return self.seeds.first if isinstance(self.seeds, Growing) else self.seeds

    @property
    def further_seeds(self) -> tuple[int, ...]:
        """Seeds that may join them."""
        return self.growing.further if self.growing is not None else ()
