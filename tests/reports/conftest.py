"""A project whose run folders are written by hand: nothing is trained, every figure is known."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from labctl.plans.derive import plans
from labctl.plans.plan import Plan
from labctl.project import Project
from labctl.recipe.recipe import Recipe, load
from labctl.registry.registry import Registry
from labctl.reports.grid import Cell, Grid
from labctl.reports.report import report
from labctl.store.atomic import write_json
from labctl.store.journal import JournalWriter
from labctl.store.run import Run, run_of

PLUGIN = """
from labctl.api import Architecture, Config, Knob


class ToyConfig(Config):
    width: int = 4


def build(config, spec):
    raise NotImplementedError


def knobs(config, spec):
    return (Knob("token_drop", 0.0, kind="structural", low=0.0, high=0.9, at_eval=0.0),)


cards = (Architecture(name="toy", config=ToyConfig, build=build, knobs=knobs),)
"""
RECIPE = """
data: {name: digits}
model: {architecture: toy}
batch_size: 64
budget: 4ep
optimizer: {kind: adamw}
schedules: {lr: {kind: cosine, peak: 1e-3}}
seeds: [0, 1, 2]
presets: {smoke: {budget: 2ep}}
"""
GPU = {
    "device": "cuda",
    "device_name": "NVIDIA H200",
    "torch": "2.11.0",
    "threads": 8,
    "workers": 1,
}
PROVENANCE = {
    "git": {
        "commit": "c0ffee" * 6,
        "branch": "main",
        "remote": "git@host:x.git",
        "is_dirty": False,
    },
    "plugins": {"toy": "/home/ada/project/plugins/toy"},
    "recipe": "/home/ada/project/recipes/base.yaml",
    "labctl": "0.1.0",
    "python": "3.11.9",
    "packages": {"torch": "2.11.0", "numpy": "2.3.0"},
    "system": "Linux-6.1-x86_64",
    "machine": "ada-workstation",
    "cpu_count": 16,
    "command": ["labctl", "run", "/home/ada/project/recipes/base.yaml"],
}


@dataclass
class Lab:
    """Writes recipes, tables and run folders, and reads them as a table."""

    project: Project

    @property
    def registry(self) -> Registry:
        return Registry(self.project.plugins)

    def recipe(self, name: str, extra: str = "", **replaced: str) -> None:
        """A recipe; `replaced` gives whole top-level fields, `extra` is added below."""
        lines = [
            line for line in RECIPE.splitlines() if line.partition(":")[0] not in replaced and line
        ]
        lines += [f"{field}: {text}" for field, text in replaced.items()]
        path = self.project.recipes / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n" + textwrap.dedent(extra), encoding="utf-8")

    def table(self, text: str, name: str = "main") -> Path:
        path = self.project.recipes / "tables" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    def sweep(self, text: str, name: str) -> None:
        path = self.project.recipes / "sweeps" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")

    def loaded(self, name: str, preset: str | None = None, *overrides: str) -> Recipe:
        return load(self.project, self.registry, name, preset, overrides)

    def plan(self, name: str, seed: int, preset: str | None = None, *overrides: str) -> Plan:
        found = plans(self.loaded(name, preset, *overrides, f"seeds=[{seed}]"))
        return found[0]

    def run(
        self,
        name: str,
        seed: int,
        preset: str | None = None,
        *,
        acc: float = 0.5,
        train_acc: float = 0.9,
        rate: float = 0.01,
        flops: float | None = 1e9,
        joules: float | None = None,
        tokens: Sequence[tuple[int, int, float]] = (),
        evaluations: Mapping[int, Mapping[str, float]] | None = None,
        status: str = "DONE",
        message: str = "",
        facts: Mapping[str, Any] = GPU,
        provenance: Mapping[str, Any] = PROVENANCE,
        folder: Path | None = None,
        point: Sequence[str] = (),
    ) -> Run:
        """A run that took `rate` seconds per step and ended with accuracies `acc`, `train_acc`.

        `joules` were drawn for each step, if the device tells; `point` are overrides; `tokens` are
        phases (start, end, tokens_mean); `evaluations` come before the last one.
        """
        plan = self.plan(name, seed, preset, *point)
        run = Run(folder) if folder else run_of(self.project, plan)
        run.create(plan, dict(provenance))
        told = {name: value for name, value in facts.items() if name != "replicas"}
        journal = JournalWriter(run.folder, 1, 0, {**told, "pid": 7, "parameters": 1234})
        for start, end, mean in tokens:
            realised = {"tokens_mean": mean}
            journal.record("phase", start, end=end, structural={}, realised=realised)
        journal.record("first_losses", 2, of_step=0, losses=["2.5", "2.25"])
        steps, every = plan.work.steps, plan.runtime.log_every
        done = 0
        while done < steps:
            length = min(every, steps - done)
            done += length
            values = {"train/loss": 2.0 / done, "train/acc": 0.1}
            timing = {"seconds": rate * length, "steps": length}
            timing |= {} if joules is None else {"joules": joules * length}
            journal.metrics(done, values, **timing, replicas=facts.get("replicas", 1))
            if evaluations and done in evaluations:
                journal.metrics(done, evaluations[done])
        last = {"test/acc": acc, "test/loss": 1 - acc, "train/clean/acc": train_acc}
        if status == "DONE":
            journal.metrics(steps, {**last, **(evaluations or {}).get(steps, {})})
        journal.record("end", steps, status=status, message=message)
        journal.close()
        if flops is not None:
            ledger = {"parameters": 1234, "train_flops": flops, "uncounted": []}
            write_json(run.folder / "ledger.json", ledger)
        if status != "LOST":
            write_json(run.end_path, {"status": status, "step": steps, "message": message})
        return run

    def report(
        self, table: str = "main", preset: str | None = None, bundles: Sequence[Path] = ()
    ) -> Grid:
        return report(self.project, self.registry, table, preset, bundles)

    @staticmethod
    def cell(grid: Grid, row: int, heading: str) -> Cell:
        """The cell of a row under a heading; `""` heads the labels."""
        place = [h.text for h in grid.headings].index(heading)
        return grid.rows[row].cells[place]


@pytest.fixture
def lab(project: Project) -> Lab:
    """A project with a plugin, and no recipe, table or run yet."""
    folder = project.plugins / "toy"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(PLUGIN, encoding="utf-8")
    return Lab(project)
