"""Where a run's code came from: commit, uncommitted changes, packages, machine."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import labctl
from labctl.errors import PluginError
from labctl.plans.derive import measured_by
from labctl.plans.plan import Plan
from labctl.registry.digest import (
    MEASUREMENTS,
    TESTS,
    code_digest,
    measurements_digest,
    stored_digest,
)
from labctl.registry.registry import BUILTIN, Registry
from labctl.store.atomic import storage, write_text
from labctl.store.lock import is_held
from labctl.store.run import Run

PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "pydantic",
    "mlflow",
    "fvcore",
    "scikit-learn",
    "triton",
    "timm",
)
PATCH_LIMIT = 2_000_000
"""Bytes of uncommitted changes that are kept."""


def _git(folder: Path, *arguments: str) -> str | None:
    """What git says, or None if there is no git or no repository."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            timeout=20,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace") if done.returncode in (0, 1) else None


def _untracked_patch(root: Path) -> Iterable[str]:
    listed = _git(root, "ls-files", "--others", "--exclude-standard", "-z") or ""
    for name in listed.split("\0"):
        path = root / name
        if (
            name.endswith((".py", ".yaml", ".yml", ".toml"))
            and path.is_file()  # not the dangling link by which an editor locks a file
            and path.stat().st_size < 200_000
        ):
            yield _git(root, "diff", "--no-index", "--", "/dev/null", name) or ""


def repository(recipe: Path) -> tuple[dict[str, Any], str]:
    """Commit, branch and remote of the repository that holds the recipe, and its uncommitted
    changes as a patch."""
    top = _git(recipe.parent, "rev-parse", "--show-toplevel")
    if not top or not top.strip():
        return {}, ""
    root = Path(top.strip())
    tracked = _git(root, "diff", "HEAD", "--binary", "--no-ext-diff", "--no-color")
    patch = tracked or ""
    for part in _untracked_patch(root):
        patch += part
        if len(patch) > PATCH_LIMIT:
            break
    facts = {
        "commit": (_git(root, "rev-parse", "HEAD") or "").strip(),
        "branch": (_git(root, "rev-parse", "--abbrev-ref", "HEAD") or "").strip(),
        "remote": (_git(root, "config", "--get", "remote.origin.url") or "").strip(),
        "is_dirty": tracked is None or bool(patch),
    }
    if tracked is None:
        facts["patch_left_out"] = "git could not compare with a commit, or took too long"
    if len(patch) > PATCH_LIMIT:
        facts["patch_left_out"] = f"more than {PATCH_LIMIT} bytes"
        patch = ""
    return facts, patch


def version_of(package: str) -> str | None:
    """The version of a package that is installed here; None if it is not."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def environment() -> dict[str, Any]:
    """Python, packages and machine, without importing any of the packages."""
    versions = {package: version for package in PACKAGES if (version := version_of(package))}
    return {
        "labctl": labctl.__version__,
        "python": platform.python_version(),
        "packages": versions,
        "system": platform.platform(),
        "machine": platform.node(),
        "cpu_count": os.cpu_count(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


class Provenance:
    """Facts that the runs of one command share, gathered once."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.environment = environment()
        self._repositories: dict[Path, tuple[dict[str, Any], str]] = {}
        self._copies: dict[tuple[str, str | None], Path | None] = {}
        """Of plugins' code by name and digest, with the first run that has it."""

    def store(self, run: Run, plan: Plan, recipe: Path) -> None:
        """Create the run's folder: plan, facts, patch, and the plugins' code as it is now."""
        if recipe.parent not in self._repositories:
            self._repositories[recipe.parent] = repository(recipe)
        facts, patch = self._repositories[recipe.parent]
        is_new = not (run.folder / "provenance.json").exists()
        names = plan.work.digests if is_new else ()  # what is stored is trained, here or elsewhere
        origins = {name: self.registry.load(name).plugin.origin for name in names}
        if patch and not (run.folder / "code.patch").exists():
            write_text(run.folder / "code.patch", patch)
        for name in dict.fromkeys([*plan.work.digests, *(part.plugin for part in plan.measures)]):
            code = name, plan.work.digests.get(name)
            self._copies[code] = snapshot(self.registry, run, name, self._copies.get(code))
        renew(self.registry, run, plan)
        run.create(
            plan, {"git": facts, "plugins": origins, "recipe": str(recipe), **self.environment}
        )


def snapshot(registry: Registry, run: Run, name: str, other: Path | None = None) -> Path | None:
    """Keep a plugin's code as it was planned with by the run, unless it has that already; None of
    labctl's own.

    Args:
        other: a copy to take, of another run of the same command.

    Raises:
        PluginError: the code has changed since.
    """
    if name == BUILTIN:
        return None
    target = run.source_path / name
    if not target.exists():
        loaded = registry.load(name)
        code = other if other and other.exists() else loaded.plugin.folder
        _copy(code, target, run)
        if code is not other and code_digest(loaded.plugin.folder) != loaded.digest:
            shutil.rmtree(target)
            raise PluginError(
                f"code of plugin {name!r} was edited while this command was about to run it",
                where=str(loaded.plugin.folder),
                hint="run it again",
            )
    return target


def renew(registry: Registry, run: Run, plan: Plan) -> None:
    """Have the run's copy of code that is in no key, that of measurements, as it is now, where the
    plan asks for that and nobody is at it."""
    digests = plan.work.digests
    for part in plan.measures:
        if part.plugin == BUILTIN or is_held(run.lock_path):
            continue
        loaded, stored = registry.load(part.plugin), run.source_path / part.plugin
        if measured_by(part, loaded, digests) != part:
            continue  # by the stored code
        if part.plugin_code and stored_digest(stored) != part.plugin_code:
            _replace(loaded.plugin.folder, stored, run)
        elif part.code and measurements_digest(stored) != part.code:
            _replace(loaded.plugin.folder / MEASUREMENTS, stored / MEASUREMENTS, run)


def _replace(folder: Path, target: Path, run: Run) -> None:
    shutil.rmtree(target, ignore_errors=True)
    _copy(folder, target, run)


def _copy(folder: Path, target: Path, run: Run) -> None:
    partial = run.folder / f"source.{target.name}.{os.getpid()}.partial"
    with storage(target):
        shutil.rmtree(partial, ignore_errors=True)
        if folder.is_file():
            partial.mkdir(parents=True)
            shutil.copy2(folder, partial / "__init__.py")
        else:
            # Without its tests: pytest would find them again below every run.
            ignored = shutil.ignore_patterns("__pycache__", "*.pyc", *TESTS)
            shutil.copytree(folder, partial, ignore=ignored)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.rename(target)
        except OSError:
            shutil.rmtree(partial, ignore_errors=True)
            if not target.exists():  # else another labctl was faster
                raise
