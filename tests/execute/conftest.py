from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from labctl.execute.inline import carry_out_inline
from labctl.execute.supervisor import Job
from labctl.plan.derive import plans
from labctl.project import Project
from labctl.recipe.recipe import load
from labctl.registry.registry import Registry
from labctl.store.run import Run, run_of

TINY = """
title: small enough to be killed often
data: {name: digits, augment: {crop: 1}}
model:
  architecture: ctd_vit
  embed_dim: 16
  depth: 2
  num_heads: 2
  stem: plain
  stem_widths: [4, 8]
  drop_at: 0
batch_size: 32
budget: 6ep
optimizer: {kind: adamw, weight_decay: 0.05, clip_norm: 1.0}
loss: {cross_entropy: {smoothing: 0.1}}
ema: {decay: 0.95}
schedules:
  lr: {kind: cosine, peak: 3e-3, warmup: 1ep}
  token_drop: {kind: polynomial, from: 0, to: 0.35, start: 1ep, end: 5ep, power: 1.5}
evaluate: {every: 2ep}
runtime: {device: cpu, checkpoint_seconds: 0.4}
seeds: 2
"""


class Lab:
    """A project on disk, and labctl as a user runs it there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.project = Project(root)
        self.registry = Registry(self.project.plugins)
        (root / "recipes").mkdir(parents=True)
        self.write("tiny", TINY)

    def write(self, name: str, text: str) -> None:
        (self.root / "recipes" / f"{name}.yaml").write_text(text, encoding="utf-8")

    def jobs(self, name: str = "tiny", *overrides: str) -> list[Job]:
        recipe = load(self.project, self.registry, name, None, overrides)
        return [Job(plan, recipe.path) for plan in plans(recipe)]

    def runs(self, name: str = "tiny", *overrides: str) -> list[Run]:
        return [run_of(self.project, job.plan) for job in self.jobs(name, *overrides)]

    def train_here(self, name: str = "tiny", *overrides: str) -> list[Run]:
        """Train in this process, undisturbed."""
        carry_out_inline(self.project, self.registry, self.jobs(name, *overrides))
        return self.runs(name, *overrides)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "labctl", *arguments],
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        )

    def labctl(self, *arguments: str, timeout_s: float = 240) -> tuple[int, str]:
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=timeout_s)
        return process.returncode, output


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path / "lab")


@pytest.fixture
def make_lab(tmp_path: Path) -> Callable[[str], Lab]:
    return lambda name: Lab(tmp_path / name)
