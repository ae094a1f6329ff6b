"""A plan's parts put together: model, data, objective, optimizer, learner, knobs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from labctl.data.batches import Batches
from labctl.data.splits import load_splits
from labctl.plans.plan import Part, Plan
from labctl.registry.card import (
    Architecture,
    Card,
    Dataset,
    DataSpec,
    Knob,
    LearnerCard,
    LossTerm,
    OptimizerCard,
    Places,
)
from labctl.registry.config import Config
from labctl.registry.registry import Registry

from .knobs import KnobBoard
from .learner import Learner, LearnerParts, Objective
from .numerics import Arithmetic
from .optimizer import LearningRate, parameter_groups
from .streams import seed_global


@dataclass(frozen=True, slots=True)
class Chosen:
    """A card and the config that the plan has for it."""

    card: Any
    config: Any


def chosen(registry: Registry, kind: type[Card], part: Part) -> Chosen:
    """Find a plan's card again and read its config."""
    card, _ = registry.find(kind, part.name, near=[part.plugin])
    config: Config = card.config.model_validate_json(json.dumps(part.config))
    return Chosen(card, config)


@dataclass
class Assembly:
    """The cards of a plan, from which parts are built on a device of choice."""

    plan: Plan
    registry: Registry
    places: Places
    shelf: dict[str, Mapping[str, Batches]] = field(default_factory=dict)
    """Data that are on a device already, for runs of one process."""
    architecture: Chosen = field(init=False)
    data: Chosen = field(init=False)
    spec: DataSpec = field(init=False)
    knobs: dict[str, Knob] = field(init=False)

    def __post_init__(self) -> None:
        work = self.plan.work
        self.architecture = chosen(self.registry, Architecture, work.architecture)
        self.data = chosen(self.registry, Dataset, work.data)
        self.spec = self.data.card.spec(self.data.config, self.places)
        self._learner = chosen(self.registry, LearnerCard, work.learner)
        self._losses = {part.name: chosen(self.registry, LossTerm, part) for part in work.losses}
        self._optimizer = chosen(self.registry, OptimizerCard, work.optimizer)
        self.knobs = {"lr": Knob("lr", 0.0)}
        for part in (self.architecture, self._learner, *self._losses.values()):
            self.knobs |= {knob.name: knob for knob in part.card.knobs(part.config, self.spec)}

    def model(self, device: torch.device, dtype: torch.dtype) -> nn.Module:
        """The model, initialised on the CPU from the run's own stream, so that every device begins
        alike."""
        build = self.architecture.card.build
        if device.type == "meta":
            with device:
                model: nn.Module = build(self.architecture.config, self.spec)
            return model.to(dtype)
        seed_global(self.plan.work.seed, "init")
        model = build(self.architecture.config, self.spec)
        return model.to(device=device, dtype=dtype)

    def objective(self) -> Objective:
        return Objective(
            {name: part.card.build(part.config, self.spec) for name, part in self._losses.items()}
        )

    def optimizer(self, model: nn.Module, device: torch.device) -> torch.optim.Optimizer:
        part = self.plan.work.optimizer
        groups = parameter_groups(model, part, device)
        optimizer: torch.optim.Optimizer = self._optimizer.card.build(
            self._optimizer.config, groups
        )
        return optimizer

    def learner(
        self,
        model: nn.Module,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        arithmetic: Arithmetic,
    ) -> Learner:
        parts = LearnerParts(
            model=model,
            objective=objective,
            optimizer=optimizer,
            set_lr=LearningRate(optimizer),
            clip_norm=self.plan.work.optimizer.clip_norm,
            autocast=arithmetic.autocast,
            steps_per_epoch=self.plan.work.steps_per_epoch,
        )
        learner: Learner = self._learner.card.build(self._learner.config, parts)
        return learner

    def board(self, device: torch.device, dtype: torch.dtype) -> KnobBoard:
        return KnobBoard(self.plan.work, self.knobs, self.registry, device, dtype)

    @property
    def shelf_name(self) -> str:
        """What data of the same name are the same as."""
        work = self.plan.work
        code = work.digests.get(work.data.plugin, "")
        return f"{code} {work.data.model_dump_json()}"

    def splits(self, device: torch.device) -> Mapping[str, Batches]:
        """The data on `device`, with the validation part carved out; once for all runs that share
        a shelf."""
        work, name = self.plan.work, self.shelf_name
        if name not in self.shelf:
            self.shelf[name] = load_splits(
                self.data.card, self.data.config, self.places, work.data.val, self.spec, device
            )
            if device.type == "cuda":
                torch.cuda.synchronize(device)  # other runs read it on streams of their own
        return self.shelf[name]
