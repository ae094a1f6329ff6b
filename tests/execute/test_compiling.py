"""What is compiled beside a worker is what the worker asks for when it comes there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from labctl.errors import RunError
from labctl.execute.compiling import compile_later
from labctl.execute.provenance import snapshot
from labctl.store.atomic import write_json
from labctl.store.run import Run

pytestmark = pytest.mark.slow
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
OPTIONS = (
    "numerics.compiled=true", "seeds=1", "budget=3ep",
    "schedules.token_drop={kind: step, values: {0ep: 0, 1ep: 0.25, 2ep: 0.5}}",
)  # fmt: skip


def planned(lab: Any, *options: str) -> Run:
    """A run as a supervisor leaves it to a worker."""
    (job,), (run,) = lab.jobs("tiny", *options), lab.runs("tiny", *options)
    run.create(job.plan, {})
    for plugin in job.plan.work.digests:
        snapshot(lab.registry, run, plugin)
    return run


def kernels(cache: Path) -> set[Path]:
    return {path for path in (cache / "fxgraph").rglob("*") if path.is_file()}


@needs_compiler
def test_a_worker_finds_what_was_compiled_of_later_phases(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three phases it is in the first, so two are compiled ahead, and the run that follows adds
    as much as one of them."""
    cache, scratch = tmp_path / "cache", tmp_path / "scratch"
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(cache))
    run = planned(lab, *OPTIONS)
    starts = [phase.start for phase in run.plan.work.phases()]
    assert len(starts) == 3
    write_json(run.folder / "progress.json", {"step": 1})
    order = {"run": str(run.folder), "data_roots": [], "scratch": str(scratch)}
    with subprocess.Popen(
        [sys.executable, "-m", "labctl.execute.compiling", json.dumps(order)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        text=True,
    ) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        assert process.wait() == 0, output
    assert output.splitlines()[-2:] == [f"compiled what begins at step {s}" for s in starts[1:]]
    ahead = kernels(cache)
    assert ahead and len(ahead) % 2 == 0
    code, said = lab.labctl("run", "tiny", *OPTIONS, "--no-track")
    assert code == 0, said
    assert len(kernels(cache) - ahead) == len(ahead) // 2


def test_what_training_has_come_to_is_left_out(lab: Any, tmp_path: Path) -> None:
    run = planned(lab, *OPTIONS)
    write_json(run.folder / "progress.json", {"step": run.plan.work.steps})
    assert list(compile_later(run, (), tmp_path)) == []


def test_a_step_that_fails_is_an_error_and_the_run_is_as_it_was(lab: Any, tmp_path: Path) -> None:
    run = planned(lab, *OPTIONS)
    source = next(run.source_path.rglob("model.py"))
    source.write_text("raise ValueError('not today')")
    before = sorted(run.folder.rglob("*"))
    with pytest.raises(RunError, match="not today"):
        list(compile_later(run, (), tmp_path))
    assert sorted(path for path in run.folder.rglob("*") if "pycache" not in str(path)) == before


def test_it_ends_with_whoever_began_it(lab: Any, tmp_path: Path) -> None:
    run = planned(lab, *OPTIONS)
    order = {"run": str(run.folder), "data_roots": [], "scratch": str(tmp_path / "scratch")}
    process = subprocess.Popen(
        [sys.executable, "-m", "labctl.execute.compiling", json.dumps(order)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(timeout=60) == 0
    assert not (tmp_path / "scratch").exists()
