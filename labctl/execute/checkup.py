"""What `labctl doctor` looks at."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

from labctl.errors import PluginError, RunError
from labctl.project import Project
from labctl.registry.card import Dataset, Places
from labctl.registry.guard import guarded
from labctl.registry.registry import Registry
from labctl.store.run import run_folders
from labctl.store.status import Status

from .provenance import environment
from .slots import gpu_ids

LITTLE_SPACE = 2 * 1024**3


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    is_good: bool
    detail: str


def checks(project: Project, registry: Registry) -> Iterator[Finding]:
    """Everything that a run needs, in the order in which it needs it."""
    facts = environment()
    versions = "  ".join(f"{name} {version}" for name, version in facts["packages"].items())
    yield Finding("python", True, f"{facts['python']}  {versions}")
    gpus = gpu_ids()
    yield Finding(
        "devices",
        True,
        f"{len(gpus)} NVIDIA GPU" if gpus else f"CPU only, {facts['cpu_count']} cores",
    )
    yield _folder(project)
    yield from _plugins(registry)
    yield from _data(project, registry)
    yield _runs(project)


def _folder(project: Project) -> Finding:
    runs = project.runs
    try:
        runs.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=runs):
            pass
    except OSError as error:
        return Finding(
            "runs folder", False, f"{runs} cannot be written: {error.strerror}; set LABCTL_RUNS"
        )
    free = shutil.disk_usage(runs).free
    return Finding("runs folder", free > LITTLE_SPACE, f"{runs}, {free / 1024**3:.0f} GiB free")


def _plugins(registry: Registry) -> Iterator[Finding]:
    for name in registry.plugins:
        try:
            loaded = registry.load(name)
        except PluginError as error:
            yield Finding(f"plugin {name}", False, error.placed)
        else:
            yield Finding(
                f"plugin {name}", True, f"{loaded.plugin.origin}, {len(loaded.cards)} cards"
            )


def _data(project: Project, registry: Registry) -> Iterator[Finding]:
    places = Places(project.data_roots)
    for card, _ in registry.cards(Dataset):
        if card.fetch is not None:
            try:
                with guarded(f"missing() of dataset {card.name!r}"):
                    missing = card.missing(card.config(), places)
            except PluginError as error:
                yield Finding(f"data {card.name}", False, error.placed)
                continue
            yield Finding(f"data {card.name}", True, (missing and f"not here: {missing}") or "here")


def _runs(project: Project) -> Finding:
    damaged = []
    for run in run_folders(project):
        path = run.folder
        if (path / "plan.set-aside.json").exists():
            continue
        try:
            _ = run.plan
        except RunError as error:
            damaged.append(f"{project.shown(path)}: {error.message}")
            continue
        if run.journal.damage:
            damaged.append(f"{project.shown(path)}: {run.journal.damage[0]}")
        elif run.status is Status.LOST:
            damaged.append(f"{project.shown(path)} is LOST; labctl resume goes on with it")
    store = os.environ.get("MLFLOW_TRACKING_URI", "")
    note = f"; tracking to {store}" if store else ""
    return Finding("runs", not damaged, "; ".join(damaged) or f"all readable{note}")
