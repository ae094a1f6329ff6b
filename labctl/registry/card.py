"""Cards: the torch-free descriptions with which a plugin announces what it brings.

A plugin is a package whose `__init__` holds `cards = (...)`. Reading a card imports no torch; the
functions on it do, when they are called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from .config import Config

if TYPE_CHECKING:
    import torch
    from torch import nn

    from labctl.data.examples import Examples
    from labctl.measure.measurement import MeasureContext
    from labctl.project import Project
    from labctl.recipe.recipe import Recipe
    from labctl.train.learner import Learner, LearnerParts, Term

    from .registry import Registry

KnobValue = float | int | str
"""Where a knob stands."""


@dataclass(frozen=True, slots=True)
class DataSpec:
    """What a plan and a model need to know of a data set without opening it."""

    name: str
    version: str
    """Changes when the data change; part of every run's key."""
    inputs: Literal["image", "tokens"]
    """`image`: uint8 (channels, height, width). `tokens`: int64 (context,)."""
    shape: tuple[int, ...]
    """Shape of one input: (C, H, W) for images, (context,) for tokens."""
    num_classes: int
    """Classes, or the size of the vocabulary for tokens."""
    sizes: Mapping[str, int]
    """Examples per split, before a validation part is carved from `train`."""
    mean: tuple[float, ...] = ()
    """Per channel, of inputs scaled to [0, 1]."""
    std: tuple[float, ...] = ()

    def splits(self, val: int) -> list[str]:
        """Names of the splits, once `val` examples of `train` are a validation part."""
        return sorted({*self.sizes, "val"} if val else self.sizes)

    @property
    def tokens_per_item(self) -> int | None:
        """Tokens in one example; None for images, whose tokens are the model's affair."""
        return self.shape[0] if self.inputs == "tokens" else None

    @property
    def faults(self) -> tuple[str, ...]:
        """What no plan or model can do with."""
        return tuple(self._strange()) or tuple(self._faults())

    def _strange(self) -> Iterator[str]:
        """Fields of other types than they are declared with."""
        kinds: dict[str, type] = {
            "name": str, "version": str, "shape": tuple, "num_classes": int, "sizes": Mapping,
            "mean": tuple, "std": tuple,
        }  # fmt: skip
        for name, kind in kinds.items():
            if not isinstance(value := getattr(self, name), kind):
                yield f"{name} is {value!r}, and should be a {kind.__name__.lower()}"
        if self.inputs not in ("image", "tokens"):
            yield f"inputs is {self.inputs!r}, and should be 'image' or 'tokens'"

    def _faults(self) -> Iterator[str]:
        if not self.version:
            yield "version is empty; it is part of every run's key"
        if "train" not in self.sizes:
            yield f"sizes has {', '.join(self.sizes) or 'nothing'}; it must have `train`"
        if self.num_classes < 2:
            yield f"num_classes is {self.num_classes}; two are the least"
        if self.inputs == "tokens":
            if len(self.shape) != 1:
                yield f"shape of tokens is (context,), not {self.shape}"
            return
        if len(self.shape) != 3:
            yield f"shape of images is (channels, height, width), not {self.shape}"
            return
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.shape[0]:
                yield f"{name} has {len(values)} values; there are {self.shape[0]} channels"
        if not all(value > 0 for value in self.std):
            yield f"std {self.std} must be positive"


@dataclass(frozen=True, slots=True)
class Knob:
    """A value of a running model, learner or loss that a curriculum may turn.

    A continuous knob reaches the model as a 0-d tensor on its device. A structural knob (an
    integer, a choice, or a number that changes shapes) reaches it as a Python value, and changes
    only at the edges of epochs.
    """

    name: str
    default: KnobValue
    summary: str = ""
    kind: Literal["continuous", "structural"] = "continuous"
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    """The allowed values of a knob that is a choice."""
    integer: bool = False
    at_eval: KnobValue | None = None
    """Where evaluation puts the knob. None: where training has it."""
    ladder: Callable[[Sequence[float]], Sequence[float]] | None = None
    """For a structural number: the values asked at each epoch -> those that training will use."""

    def __post_init__(self) -> None:
        if (self.choices or self.integer or self.ladder) and self.kind != "structural":
            raise ValueError(
                f"knob {self.name!r}: choices, integer and ladder need kind='structural'"
            )

    def fault(self, value: KnobValue) -> str | None:
        """Why the knob cannot stand at `value`; None if it can."""
        if self.choices:
            return (
                None
                if value in self.choices
                else f"{value!r} is not one of {', '.join(self.choices)}"
            )
        if isinstance(value, str):
            return f"{value!r} is not a number"
        if self.integer and value != round(value):
            return f"{value:g} is not a whole number"
        if self.low is not None and value < self.low:
            return f"{value:g} is below {self.low:g}"
        if self.high is not None and value > self.high:
            return f"{value:g} is above {self.high:g}"
        return None


def no_knobs(config: Any, spec: DataSpec) -> tuple[Knob, ...]:
    """Of a card that declares none."""
    return ()


def nothing_realised(
    config: Any, spec: DataSpec, knobs: Mapping[str, KnobValue]
) -> dict[str, float]:
    """Of an architecture that has no figures to journal."""
    return {}


def no_fault(config: Any, spec: DataSpec) -> str | None:
    """Of a card that takes any data."""
    return None


class Empty(Config):
    """A card without options."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What all cards share: a name in recipes, one line of help, a config."""

    kind: ClassVar[str] = ""
    field: ClassVar[str] = "kind"
    """The field of a recipe's block that names the card."""

    name: str
    summary: str = ""
    config: type[Config] = Empty


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture(Card):
    """A model family.

    `build(config, spec)` returns the module; its `forward(inputs, knobs)` takes inputs on the
    device (float images (B, C, H, W), normalised, or int64 tokens (B, N)) and the knobs by name,
    and returns logits (B, classes) or (B, N, vocabulary), or an `Output` that carries auxiliary
    tensors as well.
    """

    kind: ClassVar[str] = "architecture"
    field: ClassVar[str] = "architecture"

    build: Callable[[Any, DataSpec], nn.Module]
    knobs: Callable[[Any, DataSpec], tuple[Knob, ...]] = no_knobs
    realised: Callable[[Any, DataSpec, Mapping[str, KnobValue]], dict[str, float]] = (
        nothing_realised
    )
    """Torch-free: what the structural knobs come to (tokens alive, ...), journalled at a change."""
    fault: Callable[[Any, DataSpec], str | None] = no_fault
    """Torch-free: why this config cannot train on this data; None if it can."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where a data card looks for files, in order; the last is the user's cache."""

    roots: tuple[Path, ...]

    def find(self, relative: str) -> Path | None:
        """The first `root/relative` that exists."""
        return next((root / relative for root in self.roots if (root / relative).exists()), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset(Card):
    """A data set.

    `spec` is torch-free and, for a published set, needs no files; it raises ValueError over files
    that the config does not fit. `load` returns the splits, `train` among them. `missing` says how
    to obtain what `load` needs; None when all is there. `fetch` downloads into a folder; None for
    data that only the user has.
    """

    kind: ClassVar[str] = "dataset"
    field: ClassVar[str] = "name"

    spec: Callable[[Any, Places], DataSpec]
    load: Callable[[Any, Places], Mapping[str, Examples]]
    missing: Callable[[Any, Places], str | None]
    fetch: Callable[[Any, Path], None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerCard(Card):
    """A learning rule: back-propagation of an objective, or another.

    Architectures, loss terms and precisions that it is limited to stand in `learners.yaml` beside
    the plugin's code, see `labctl.recipe.reach`.
    """

    kind: ClassVar[str] = "learner"

    build: Callable[[Any, LearnerParts], Learner]
    knobs: Callable[[Any, DataSpec], tuple[Knob, ...]] = no_knobs
    takes_mixtures: bool = False
    """Whether it heeds `Batch.other_targets` and `Batch.share`, itself or by calling the
    objective."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossTerm(Card):
    """One term of an objective.

    `build(config, spec)` returns `term(output, batch, knobs) -> scalar`. The objective is the sum
    of the terms in the recipe's `loss` block. A config may have a `weight`: the term multiplies by
    it, nobody else does.
    """

    kind: ClassVar[str] = "loss"

    build: Callable[[Any, DataSpec], Term]
    knobs: Callable[[Any, DataSpec], tuple[Knob, ...]] = no_knobs
    takes_mixtures: bool = False
    """Whether it heeds `Batch.other_targets` and `Batch.share`, or reads no targets at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerCard(Card):
    """An optimizer over groups `{"params": [...], "lr": 0-d tensor, "lr_scale": float,
    "weight_decay": float}`.

    Its `param_groups` are those that it is given: labctl writes each step's learning rate, times
    `lr_scale`, into the very tensor.
    """

    kind: ClassVar[str] = "optimizer"

    build: Callable[[Any, list[dict[str, Any]]], torch.optim.Optimizer]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleCard(Card):
    """A kind of schedule; its config has `at(step)`, see `labctl.recipe.schedule.Schedule`."""

    kind: ClassVar[str] = "schedule"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurementCard(Card):
    """A figure or array taken from a trained model: `run(config, context)` returns named numbers.

    Arrays and figures are written into `context.folder`. A field `split` of the config names one of
    `context.splits`, and is refused before anything is trained if there is no such.
    """

    kind: ClassVar[str] = "measurement"

    run: Callable[[Any, MeasureContext], dict[str, float]]
    only_for: tuple[str, ...] = field(default=())
    """Architectures that the measurement knows how to open; empty for all."""
    fault: Callable[[Any, DataSpec], str | None] = no_fault
    """Torch-free: why it cannot be taken on this data, said before anything is trained; None if it
    can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostCard(Card):
    """What one run of a recipe costs, for budgets that match another recipe's.

    `total(recipe, project, registry)` is about proportional to the recipe's steps. The card has no
    options.
    """

    kind: ClassVar[str] = "cost"
    field: ClassVar[str] = "match"

    total: Callable[[Recipe, Project, Registry], float]


KINDS: tuple[type[Card], ...] = (
    Architecture, Dataset, LearnerCard, LossTerm, OptimizerCard, ScheduleCard, MeasurementCard,
    CostCard,
)  # fmt: skip
