"""What all loops train: the model, data and settings of a recipe, and how their steps are timed."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from labctl.data.examples import Images
from labctl.errors import UsageError
from labctl.execute.hardware import device_facts
from labctl.plans.derive import plans
from labctl.plans.plan import Plan
from labctl.project import Project
from labctl.recipe.recipe import load
from labctl.registry.card import Places
from labctl.registry.registry import Registry
from labctl.train.assembly import Assembly
from labctl.train.numerics import Arithmetic, device_of

WINDOWS = 5
"""Stretches of steps that are timed one by one, after one that warms up."""


def arguments(description: str) -> argparse.ArgumentParser:
    """What every loop is asked for."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("recipe", metavar="RECIPE", help="a recipe by name or path")
    parser.add_argument("overrides", nargs="*", metavar="FIELD=VALUE")
    parser.add_argument("--preset", "-p", help="of the recipe, such as smoke")
    parser.add_argument("--steps", type=positive, default=100, help="that are timed")
    parser.add_argument("--batch-size", type=positive, help="the recipe's if not given")
    parser.add_argument(
        "--workers", type=int, default=0, help="processes that load data, where a loop has such"
    )
    return parser


def positive(text: str) -> int:
    """A number of things, at least one."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 on")
    return int(text)


@dataclass(frozen=True)
class Subject:
    """A recipe of an image classifier trained by back-propagation, at its first step."""

    plan: Plan
    assembly: Assembly
    device: torch.device

    @classmethod
    def of(cls, asked: argparse.Namespace) -> Subject:
        """Read the recipe.

        Raises:
            UsageError: the loops cannot train such a recipe.
            LabctlError: it is no valid recipe, or its data are missing.
        """
        project = Project.at()
        registry = Registry(project.plugins, is_quiet=True)
        size = [f"batch_size={asked.batch_size}"] if asked.batch_size else []
        recipe = load(
            project, registry, asked.recipe, asked.preset, tuple([*asked.overrides, *size])
        )
        plan = plans(recipe)[0]
        work = plan.work
        losses = [part.name for part in work.losses]
        if recipe.spec.inputs != "image" or work.learner.name != "backprop":
            raise UsageError(
                f"{plan.label} trains {recipe.spec.inputs} data by {work.learner.name}",
                hint="these loops back-propagate through image classifiers: ctd_baseline is one",
            )
        if losses != ["cross_entropy"]:
            raise UsageError(
                f"{plan.label} has the losses {', '.join(losses)}",
                hint="these loops know cross_entropy alone",
            )
        if work.optimizer.name != "adamw" or work.optimizer.groups:
            raise UsageError(
                f"{plan.label} is not trained by plain adamw",
                hint="optimizer.kind=adamw, without groups",
            )
        assembly = Assembly(plan, registry, Places(project.data_roots))
        return cls(plan, assembly, device_of(plan.runtime.device))

    @cached_property
    def arithmetic(self) -> Arithmetic:
        return Arithmetic(self.plan.work.numerics, self.device)

    def model(self) -> nn.Module:
        """In training mode, on the device."""
        return self.assembly.model(self.device, self.arithmetic.dtype).train()

    @cached_property
    def knobs(self) -> Mapping[str, Any]:
        """What the model is handed beside its inputs, as at the first step."""
        board = self.assembly.board(self.device, self.arithmetic.dtype)
        return board.at(0)

    @property
    def lr(self) -> float:
        """A learning rate that moves weights and breaks nothing; its value costs no time."""
        return 1e-4

    @property
    def smoothing(self) -> float:
        return float(self.plan.work.losses[0].config["smoothing"])

    def train_images(self, device: torch.device) -> Images:
        """The training split, uint8 (N, C, H, W) and classes (N,).

        Raises:
            UsageError: the data set holds its images in another way.
        """
        examples = self.assembly.splits(device)["train"].examples
        if not isinstance(examples, Images):
            raise UsageError(
                f"{self.plan.work.data.name} is not held as arrays of images",
                hint="data.name=digits or cifar10",
            )
        return examples


def logits_of(output: Any) -> Tensor:
    """Of a model that may return more than logits."""
    logits: Tensor = getattr(output, "logits", output)
    return logits


def timed(
    step: Callable[[], object], steps: int, batch_size: int, device: torch.device
) -> dict[str, Any]:
    """Seconds a step, the median of several windows with the lowest and highest, and examples/s."""
    windows = min(WINDOWS, steps)
    each = -(-steps // windows)

    def seconds(count: int) -> float:
        _wait(device)
        began = time.perf_counter()
        for _ in range(count):
            step()
        _wait(device)
        return (time.perf_counter() - began) / count

    seconds(max(3, each))
    taken = [seconds(each) for _ in range(windows)]
    return {
        "steps": windows * each,
        "step_seconds": {"median": median(taken), "low": min(taken), "high": max(taken)},
        "examples_per_second": batch_size / median(taken),
    }


def report(loop: str, subject: Subject, found: Mapping[str, Any], **more: Any) -> None:
    """Print what was found as one line of JSON, the last of the loop's output."""
    work = subject.plan.work
    whole = {
        "loop": loop,
        "recipe": subject.plan.label,
        "batch_size": work.batch_size,
        "precision": work.numerics.precision,
        **found,
        **more,
        "environment": {**device_facts(subject.device), "cpu_count": os.cpu_count()},
    }
    print(json.dumps(whole))


def result_in(output: str) -> dict[str, Any]:
    """What `report` printed."""
    lines: Sequence[str] = output.strip().splitlines()
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
