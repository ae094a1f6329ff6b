"""A plan: one fully explicit piece of work, every default filled in, every number derived."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field

from labctl.errors import RecipeError
from labctl.recipe.augment import Augment
from labctl.recipe.document import Ema, EngineName, Numerics, ParameterGroup
from labctl.recipe.source import Mark, parse_value
from labctl.registry.card import KnobValue
from labctl.registry.config import Config


class Part(Config):
    """A card by name, with its whole config."""

    name: str
    plugin: str
    config: dict[str, Any]


class MeasurementPart(Part):
    """A measurement."""

    code: str = ""
    """Digest of its plugin's `measurements/`, which no key holds; empty if there is none."""
    plugin_code: str = ""
    """Of the other code of a plugin that takes no part in the training; else the key holds it."""


class DataPart(Part):
    """The data set, as all seeds see it."""

    version: str
    val: int
    augment: Augment


class OptimizerPart(Part):
    """The optimizer, and which parameters it treats how."""

    weight_decay: float
    clip_norm: float | None
    groups: tuple[ParameterGroup, ...]


class Rung(Config):
    """From `step` on, a structural knob stands at `value`."""

    step: int
    value: float | int | str


class Phase(Config):
    """A stretch of training in which no structural knob changes."""

    start: int
    end: int
    """First step that is no longer in the phase."""
    structural: dict[str, float | int | str]

    @property
    def form(self) -> str:
        """See `form_of`."""
        return form_of(self.structural)


def form_of(structural: Mapping[str, KnobValue]) -> str:
    """A name of where structural knobs stand: steps of one form do the same work."""
    return json.dumps(structural, sort_keys=True)


def landmarks(steps: int) -> list[int]:
    """The first step of each quarter of so many, and the last step of all."""
    return sorted({steps * quarter // 4 for quarter in range(4)} | {steps - 1})


class EvaluatePlan(Config):
    """When the model is evaluated, and on what."""

    every: int = Field(gt=0)
    """Steps between evaluations."""
    tail: int
    """In this many last steps every epoch is evaluated."""
    batch_size: int
    train: bool


class Work(Config):
    """What decides the result of a run; its digest is the run's key."""

    architecture: Part
    data: DataPart
    learner: Part
    losses: tuple[Part, ...]
    optimizer: OptimizerPart
    batch_size: int
    steps: int
    steps_per_epoch: int
    schedules: dict[str, dict[str, Any]]
    """Continuous knobs: schedules with every time in steps."""
    ladders: dict[str, tuple[Rung, ...]]
    """Structural knobs: the values that training uses, and from which step."""
    constants: dict[str, float | int | str]
    """Knobs that no schedule turns."""
    numerics: Numerics
    evaluate: EvaluatePlan
    ema: Ema | None
    stop: dict[str, str] = {}
    """Rules that end the run early, every time in steps, see `labctl.recipe.predicate`."""
    looks_every: int | None = Field(default=None, exclude_if=lambda steps: steps is None)
    """Steps between looks of these rules at metrics of training, where there are such rules and the
    recipe says how often it logs; else it follows from the length of training."""
    seed: int
    digests: dict[str, str]
    """Code of the plugins that take part."""
    labctl_numerics: int

    def structural_at(self, step: int) -> dict[str, KnobValue]:
        """Where the structural knobs stand at `step`."""
        values: dict[str, KnobValue] = {}
        for knob, rungs in self.ladders.items():
            if place := bisect_right(rungs, step, key=lambda rung: rung.step):
                values[knob] = rungs[place - 1].value
        return values

    def phases(self) -> Iterator[Phase]:
        """The run cut at every change of a structural knob."""
        starts = sorted({0} | {rung.step for rungs in self.ladders.values() for rung in rungs})
        for start, end in zip(starts, [*starts[1:], self.steps], strict=True):
            yield Phase(start=start, end=end, structural=self.structural_at(start))

    def is_evaluated(self, step: int) -> bool:
        """Whether the model is evaluated after `step` steps."""
        if step == self.steps or step % self.evaluate.every == 0:
            return True
        return step > self.steps - self.evaluate.tail and step % self.steps_per_epoch == 0


class RuntimePlan(Config):
    """How a run is carried out; it changes no result."""

    device: str
    log_every: int
    """Steps."""
    checkpoint_seconds: float
    engine: EngineName = "auto"


class Plan(Config):
    """A recipe for one seed: what to do (`work`), under which name, and how to carry it out."""

    recipe: str
    preset: str | None
    title: str
    tags: tuple[str, ...]
    point: dict[str, Any] = {}
    """Fields that were given other values than the recipe's, on the command line or by a sweep."""
    key: str
    """Digest of `work`: the same key is the same work."""
    group: str
    """Digest of `work` without the seed: the runs of one group are replicates."""
    work: Work
    measures: tuple[MeasurementPart, ...]
    runtime: RuntimePlan

    @property
    def label(self) -> str:
        """`recipe`, or `recipe@preset`."""
        return f"{self.recipe}@{self.preset}" if self.preset else self.recipe

    @property
    def name(self) -> str:
        """What people call the run: `recipe@preset schedules.beta=0.2 seed=0`."""
        return " ".join([self.label, *settings_of(self.point), f"seed={self.work.seed}"])


def settings_of(point: Mapping[str, Any]) -> list[str]:
    """A point as overrides, which mean the same values: `schedules.beta=0.2`."""
    return [
        f"{path}={value if _is_plain(value) else json.dumps(value)}"
        for path, value in point.items()
    ]


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """What a tree of mappings comes to: values by dotted path."""
    if isinstance(value, Mapping):
        parts = (leaves(part, f"{path}.{name}" if path else name) for name, part in value.items())
        return {name: leaf for part in parts for name, leaf in part.items()}
    return {path: value}


def differences(then: Any, now: Any, absent: Any = None) -> dict[str, tuple[Any, Any]]:
    """Old and new value by dotted path, of two trees of mappings; `absent` where there is none,
    which counts as a difference from any value."""
    old, new = leaves(then), leaves(now)
    return {
        path: (old.get(path, absent), new.get(path, absent))
        for path in sorted(old.keys() | new.keys())
        if (path in old) != (path in new) or old[path] != new[path]
    }


def _is_plain(value: Any) -> bool:
    """Whether it is a text that reads as itself, not as a number, a truth value or a list."""
    if not isinstance(value, str):
        return False
    try:
        return bool(parse_value(value, Mark(value)).plain() == value)
    except RecipeError:
        return False
