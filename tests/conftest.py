"""What all tests share. Test files are not importable from one another, so fixtures live here."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

# Before numpy or torch is imported: the results of some tests are compared bit for bit, and the
# tests are spread over processes already.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import pytest
from hypothesis import settings

from labctl.errors import RecipeError
from labctl.execute.inline import carry_out_inline
from labctl.execute.job import Job
from labctl.plans.derive import plans
from labctl.plans.plan import Plan
from labctl.project import Project
from labctl.recipe.recipe import Recipe, load
from labctl.registry.registry import Registry
from labctl.store.run import Run, run_of

# A shared core can stall any example for longer than hypothesis allows by default.
settings.register_profile("labctl", deadline=None)
settings.load_profile("labctl")


# A shell starts what it puts in the background with SIGINT ignored; the tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `gpu` on a machine without one; torch is imported only to ask that."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True)
def _no_ambient_project(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the project or the runs of the person who starts it."""
    monkeypatch.delenv("LABCTL_PROJECT", raising=False)
    monkeypatch.delenv("LABCTL_RUNS", raising=False)


@pytest.fixture(autouse=True, scope="session")
def _installed_once() -> Iterator[None]:
    """What is installed does not change while tests run, and every registry reads it anew."""
    read = metadata.Distribution.metadata.fget
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metadata, "entry_points", cache(metadata.entry_points))
        patch.setattr(metadata.Distribution, "metadata", property(cache(read)))
        yield


@pytest.fixture
def deterministic() -> Iterator[None]:
    """Kernels that give the same bits each time; some that are chosen otherwise add in any order,
    attention's way back in single precision for one."""
    import torch

    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """An empty project, which is also the working folder."""
    monkeypatch.chdir(tmp_path)
    return Project.at(tmp_path)


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """`real_data("MNIST/raw")`: the folder that holds it; without one the test is skipped."""

    def root(relative: str) -> Path:
        roots = Project.at().data_roots
        for candidate in roots:
            if (candidate / relative).exists():
                return candidate
        pytest.skip(f"no {relative} in {', '.join(map(str, roots))}; set LABCTL_DATA")

    return root


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


TOY = """\
title: a recipe for the tests
data: {name: tiny}
model: {architecture: toy, width: 8, heads: 2}
batch_size: 10
budget: 10ep
optimizer: {kind: adamw}
schedules:
  lr: {kind: cosine, peak: 1e-3, warmup: 10%}
seeds: [0, 1]
"""


class Toys:
    """A project with a plugin that needs no torch, and recipes that are written as text."""

    text = TOY

    def __init__(self, root: Path) -> None:
        self.root = root
        shutil.copytree(Path(__file__).parent / "toys", root, dirs_exist_ok=True)
        self.project = Project(root)
        self.registry = Registry(self.project.plugins)
        self.write("toy", TOY)

    def write(self, name: str, text: str) -> Path:
        path = self.root / "recipes" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def load(self, name: str = "toy", *overrides: str, preset: str | None = None) -> Recipe:
        return load(self.project, self.registry, name, preset, overrides)

    def plans(self, name: str = "toy", *overrides: str, preset: str | None = None) -> list[Plan]:
        return list(plans(self.load(name, *overrides, preset=preset)))

    def problems(self, *overrides: str, name: str = "toy", preset: str | None = None) -> list[str]:
        """What is wrong with a recipe, each with place and hint; nothing is an empty list."""
        try:
            self.plans(name, *overrides, preset=preset)
        except RecipeError as error:
            return [str(problem) for problem in error.problems]
        return []

    def problems_of(self, text: str, *overrides: str) -> list[str]:
        """What is wrong with `text` as recipes/x.yaml."""
        self.write("x", text)
        return self.problems(*overrides, name="x")


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toys:
    """A project with the plugin of tests/toys and the recipe `toy`; it is the working folder."""
    root = tmp_path / "toys"
    root.mkdir()
    monkeypatch.chdir(root)
    return Toys(root)
