"""What a run trains with: its assembly built on a device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from .assembly import Assembly
from .average import Average
from .compiled import CompiledObjective
from .engine import engine_of
from .numerics import Arithmetic
from .supply import Supply


class Rig:
    """Model, objective, optimizer, learner and what carries its steps out, knobs and data."""

    def __init__(self, assembly: Assembly, device: torch.device, arithmetic: Arithmetic) -> None:
        plan, work = assembly.plan, assembly.plan.work
        self.arithmetic = arithmetic
        self.model = assembly.model(device, arithmetic.dtype)
        self.objective = assembly.objective()
        self.optimizer = assembly.optimizer(self.model, device)
        engine, objective = plan.runtime.engine, self.objective
        if work.numerics.compiled:
            objective = CompiledObjective.wrapping(objective)
        self.learner = assembly.learner(self.model, objective, self.optimizer, arithmetic)
        self.engine = engine_of(engine, self.learner, objective, self.model.parameters(), device)
        self.board = assembly.board(device, arithmetic.dtype)
        self.splits = assembly.splits(device)
        self.supply = Supply(self.splits["train"], work, arithmetic.dtype)
        self.average = Average(self.model, work.ema.decay) if work.ema else None
        self._modules = list(self.model.modules())

    @property
    def result(self) -> nn.Module:
        """The model that training is for: what is evaluated and kept."""
        return self.model if self.average is None else self.average.module

    def set_training(self) -> None:
        """Put the model into training mode."""
        if not all(module.training for module in self._modules):  # much cheaper than to call it
            self.model.train()

    def state_dict(self) -> dict[str, Any]:
        """All that training changes of it, where it is."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "learner": self.learner.state_dict(),
            "average": self.average.state_dict() if self.average is not None else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Be as it was when `state_dict` was asked."""
        self.model.load_state_dict(state["model"])
        rates = [group["lr"] for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, lr in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = lr
        self.learner.load_state_dict(state["learner"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])

    def load_result(self, weights: Mapping[str, Any]) -> None:
        """Take the weights of a finished run."""
        self.model.load_state_dict(weights)
        if self.average is not None:
            self.average.module.load_state_dict(weights)
