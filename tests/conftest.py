"""What all tests share. Test files are not importable from one another, so fixtures live here."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

# Before numpy or torch is imported: the results of some tests are compared bit for bit, and the
# tests are spread over processes already.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import pytest
from hypothesis import settings

from labctl.project import Project

# A shared core can stall any example for longer than hypothesis allows by default.
settings.register_profile("labctl", deadline=None)
settings.load_profile("labctl")


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
