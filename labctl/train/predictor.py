"""A trained model to use elsewhere: raw inputs in, logits out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from labctl.errors import RunError
from labctl.project import Project
from labctl.registry.card import DataSpec, Places
from labctl.registry.registry import Registry
from labctl.store.run import Run, find_run

from .assembly import Assembly
from .checkpoint import load_weights
from .learner import forward


class Predictor(nn.Module):
    """A model in evaluation mode, in float32, with the scaling of its inputs and its knobs where
    they stood in the last evaluation."""

    def __init__(self, model: nn.Module, spec: DataSpec, knobs: Mapping[str, Any]) -> None:
        super().__init__()
        self.model, self.spec, self.knobs = model, spec, dict(knobs)
        shape = (-1, 1, 1)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(spec.mean).view(shape), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(shape), persistent=False)
        self.eval()
        self.requires_grad_(False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits, float32 (B, classes) or (B, N, classes), of uint8 images (B, C, H, W) as the data
        set has them, or of int64 tokens (B, N)."""
        wanted = torch.uint8 if self.spec.inputs == "image" else torch.int64
        if inputs.dtype != wanted:
            raise TypeError(
                f"{self.spec.name} has {self.spec.inputs} inputs of {wanted}, as they are stored "
                f"and not scaled; these are {inputs.dtype}"
            )
        if self.spec.inputs == "image":
            inputs = (inputs.float() / 255 - self.mean) / self.std
        return forward(self.model, inputs, self.knobs).logits

    def example(self, size: int = 2) -> Tensor:
        """Inputs of the right shape and type that mean nothing."""
        dtype = torch.uint8 if self.spec.inputs == "image" else torch.int64
        return torch.zeros((size, *self.spec.shape), dtype=dtype, device=self.mean.device)


def load_model(
    run: Run | Path | str, device: str = "cpu", project: Path | str | None = None
) -> Predictor:
    """The trained model of a finished run, by the code that it was trained with.

    Args:
        run: a run, its folder, or its name, such as `ctd_gamma1.5/seed=42`.
        project: where names are looked up; the working folder if not given.

    Raises:
        UsageError: no such run, or several.
        RunError: one without weights.
    """
    found = run if isinstance(run, Run) else find_run(Project.at(project), str(run))
    weights = found.weights_path
    if not weights.exists():
        raise RunError(
            f"{found.plan.name} is {found.status} and has no weights",
            where=str(weights),
            hint="labctl resume finishes a run; weights that were not copied along are lost",
        )
    registry = Registry(found.source_path, is_quiet=True)
    assembly = Assembly(found.plan, registry, Places(Project.at(project).data_roots))
    target = torch.device(device)
    model = assembly.model(target, torch.float32)
    model.load_state_dict(load_weights(weights, target))
    board = assembly.board(target, torch.float32)
    knobs = board.for_evaluation(found.plan.work.steps - 1)
    return Predictor(model, assembly.spec, knobs).to(target)
