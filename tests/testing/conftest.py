"""Projects with the plugin that lives in tests/plugins, and benches that others may break."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from labctl.execute.inline import carry_out_inline
from labctl.execute.job import Job
from labctl.execute.provenance import Provenance
from labctl.execute.rounds import work
from labctl.execute.stop import Stop
from labctl.plans.derive import plans
from labctl.project import Project
from labctl.recipe.recipe import load
from labctl.registry.registry import Registry
from labctl.store.run import Run, run_of
from labctl.testing.bench import Bench

ROOT = Path(__file__).parents[2]
MARGINALIA = ROOT / "tests" / "plugins" / "marginalia"
SKELETON = ROOT / "labctl" / "testing" / "skeleton"


class StopAfter(Stop):
    """Asks a worker to stop when it has had `turns` turns."""

    def __init__(self, turns: int) -> None:
        super().__init__()
        self.turns = turns

    def asked(self, run: Run) -> bool:
        self.turns -= 1
        if self.turns < 0:
            self.reason = "enough"
        return bool(self.reason)


class TextLab:
    """A project with marginalia in its `plugins/`, as a user would have it."""

    def __init__(self, root: Path) -> None:
        shutil.copytree(MARGINALIA, root / "plugins" / "marginalia")
        (root / "recipes").mkdir()
        shutil.copy(MARGINALIA / "marginalia.yaml", root / "recipes")
        self.project = Project(root)
        self.registry = Registry(self.project.plugins)

    def jobs(self, preset: str | None = None, *overrides: str) -> list[Job]:
        recipe = load(self.project, self.registry, "marginalia", preset, overrides)
        return [Job(plan, recipe.path) for plan in plans(recipe)]

    def train(self, preset: str | None = None, *overrides: str) -> list[Run]:
        """Train in this process, one run after the other."""
        outcomes = carry_out_inline(self.project, self.registry, self.jobs(preset, *overrides))
        return [outcome.run for outcome in outcomes]

    def prepared(self, jobs: Iterable[Job]) -> list[Run]:
        """The runs' folders, ready for a worker."""
        provenance, runs = Provenance(self.registry), []
        for job in jobs:
            runs.append(run_of(self.project, job.plan))
            provenance.store(runs[-1], job.plan, job.recipe)
        return runs

    def work(self, runs: list[Run], turns: int | None = None) -> None:
        """What one worker does with `runs`, from their stored code, until it has had its turns."""
        stop = Stop() if turns is None else StopAfter(turns)
        work(runs, self.project.data_roots, stop)


@pytest.fixture
def text_lab(tmp_path: Path) -> Callable[[str], TextLab]:
    """A new project of that name."""
    return lambda name: TextLab(tmp_path / name)


@pytest.fixture(scope="module")
def text_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The whole recipe, trained once for all tests of a file."""
    (run,) = TextLab(tmp_path_factory.mktemp("text") / "lab").train()
    return run


@pytest.fixture
def bench_of(tmp_path: Path) -> Callable[..., Bench]:
    """`bench_of("marginalia", {"model.py": ("old", "new")})`: the plugin, broken in that way."""

    def make(
        plugin: str, edits: dict[str, tuple[str, str]] | None = None, *overrides: str
    ) -> Bench:
        source = {"marginalia": MARGINALIA, "skeleton": SKELETON}[plugin]
        folder = tmp_path / "plugins" / plugin
        shutil.copytree(
            source, folder, ignore=shutil.ignore_patterns("__pycache__", "conformance.py")
        )
        for name, (old, new) in (edits or {}).items():
            text = (folder / name).read_text(encoding="utf-8")
            assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {name}"
            (folder / name).write_text(text.replace(old, new), encoding="utf-8")
        recipe = {"marginalia": "marginalia.yaml", "skeleton": "recipe.yaml"}[plugin]
        target = tmp_path / "recipes" / f"{plugin}.yaml"
        target.parent.mkdir()
        shutil.copy(source / recipe, target)
        return Bench(plugin, Project(tmp_path), tmp_path / "runs", plugin, "smoke", overrides)

    return make
