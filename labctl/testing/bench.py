"""A plugin on the bench: a recipe that uses it, and what its first plan is made of, on the CPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from labctl.data.batches import Batches
from labctl.data.examples import Batch
from labctl.plans.derive import plans
from labctl.plans.plan import Plan
from labctl.project import Project
from labctl.recipe.recipe import Recipe, Selected, load
from labctl.registry.card import Card, Knob, KnobValue, Places
from labctl.registry.registry import Loaded, Registry
from labctl.train.assembly import Assembly
from labctl.train.learner import Learner
from labctl.train.numerics import Arithmetic

CPU = torch.device("cpu")
SAMPLE = 8
"""Examples of a small batch."""
SAMPLED = 9
"""Places at which the range of a knob is looked at."""
C = TypeVar("C", bound=Card)


def project_around(file: Path) -> Project:
    """The project that `file` lies in: the nearest folder above with `plugins/` or `recipes/`.

    The working folder, or LABCTL_PROJECT, if there is none.
    """
    for folder in file.resolve().parents:
        if (folder / "plugins").is_dir() or (folder / "recipes").is_dir():
            return Project(folder)
    return Project.at()


@dataclass
class Bench:
    """One plugin, named by `plugin`, in a recipe; `folder` takes the runs that are made."""

    plugin: str
    project: Project
    folder: Path
    name: str
    """The recipe: a name, or a path."""
    preset: str | None = None
    overrides: tuple[str, ...] = ()

    @cached_property
    def registry(self) -> Registry:
        return Registry(self.project.plugins, is_quiet=True)

    @cached_property
    def loaded(self) -> Loaded:
        """The plugin, imported.

        Raises:
            PluginError: it is not there, or cannot be imported.
        """
        return self.registry.load(self.plugin)

    @property
    def source(self) -> Path:
        """The plugin's folder."""
        return self.loaded.plugin.folder

    def cards(self, kind: type[C]) -> list[C]:
        """The plugin's cards of a kind."""
        return [card for card in self.loaded.cards if isinstance(card, kind)]

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe, read and checked.

        Raises:
            LabctlError: with everything that is wrong with it.
        """
        return load(self.project, self.registry, self.name, self.preset, self.overrides)

    @property
    def parts(self) -> dict[str, Selected]:
        """The cards that the recipe names, by the block that names them."""
        recipe = self.recipe
        return {
            "model": recipe.architecture,
            "data": recipe.data,
            "learner": recipe.learner,
            "optimizer": recipe.optimizer,
            **{f"loss.{name}": part for name, part in recipe.losses.items()},
            **{f"measure.{name}": part for name, part in recipe.measures.items()},
        }

    def own_parts(self) -> Iterator[tuple[str, Selected]]:
        """Those of `parts` that the plugin itself brings."""
        for block, part in self.parts.items():
            if part.plugin.plugin.name == self.plugin:
                yield block, part

    @cached_property
    def plan(self) -> Plan:
        """Of the recipe's first seed."""
        return plans(self.recipe)[0]

    @property
    def seed(self) -> int:
        return self.plan.work.seed

    @property
    def places(self) -> Places:
        return Places(self.project.data_roots)

    def assembly(self, seed: int | None = None) -> Assembly:
        """The plan's cards, for the first seed or another."""
        plan = self.plan
        if seed is not None:
            plan = plan.model_copy(update={"work": plan.work.model_copy(update={"seed": seed})})
        return Assembly(plan, self.registry, self.places)

    @cached_property
    def splits(self) -> Mapping[str, Batches]:
        return self.assembly().splits(CPU)

    @cached_property
    def sample(self) -> Batch:
        """The first examples of `train`, as few as a batch of the recipe has, at most `SAMPLE`."""
        return self.examples(SAMPLE)

    def examples(self, most: int) -> Batch:
        """The first examples of `train`: one batch of the recipe, or `most`, if that is fewer."""
        count = min(self.plan.work.batch_size, most)
        return self.splits["train"].at(torch.arange(count))

    def model(self, seed: int | None = None) -> nn.Module:
        return self.assembly(seed).model(CPU, torch.float32)

    def learner(self, assembly: Assembly, model: nn.Module) -> Learner:
        optimizer = assembly.optimizer(model, CPU)
        arithmetic = Arithmetic(self.plan.work.numerics, CPU)
        return assembly.learner(model, assembly.objective(), optimizer, arithmetic)

    @cached_property
    def knobs(self) -> Mapping[str, Knob]:
        """All knobs but the learning rate."""
        return {name: knob for name, knob in self.recipe.knobs.items() if name != "lr"}

    def handed(self, step: int = 0, moved: Mapping[str, KnobValue] | None = None) -> dict[str, Any]:
        """The knobs at `step` as a model is handed them, some of them moved."""
        board = self.assembly().board(CPU, torch.float32)
        values = {**board.values(step), **(moved or {})}
        return {
            name: value if board.knobs[name].kind == "structural" else torch.tensor(float(value))
            for name, value in values.items()
        }

    def phase_knobs(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """In words and as a model is handed them: the knobs at the beginning of every phase."""
        for phase in self.plan.work.phases():
            yield f"step {phase.start}", self.handed(phase.start)

    def evaluation_knobs(self) -> dict[str, Any]:
        board = self.assembly().board(CPU, torch.float32)
        return dict(board.for_evaluation(self.plan.work.steps - 1))

    @property
    def busiest_step(self) -> int:
        """The step at which the learning rate is largest."""
        board = self.assembly().board(CPU, torch.float32)
        return max(range(self.plan.work.steps), key=lambda step: float(board.values(step)["lr"]))


def positions(knob: Knob) -> Sequence[KnobValue]:
    """Where a knob may stand: every choice, or places from the low end to the high one.

    An end that is not declared is the default.
    """
    if knob.choices:
        return knob.choices
    if isinstance(knob.default, str):
        return (knob.default,)
    low = knob.default if knob.low is None else knob.low
    high = knob.default if knob.high is None else knob.high
    values = [low + (high - low) * place / (SAMPLED - 1) for place in range(SAMPLED)]
    if knob.integer:
        return sorted({round(value) for value in values})
    return sorted({float(value) for value in (*values, knob.default)})


def usable_positions(knob: Knob) -> Sequence[KnobValue]:
    """As `positions`, laid on the knob's ladder if it has one."""
    values = positions(knob)
    numbers = [float(value) for value in values if not isinstance(value, str)]
    return list(knob.ladder(numbers)) if knob.ladder is not None else values
