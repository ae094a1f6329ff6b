"""A search with real workers, whose supervisor is killed and begun again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from labctl.plans.plan import settings_of
from labctl.recipe.recipe import load
from labctl.store.run import Run, all_runs
from labctl.store.status import Status
from labctl.sweeps.findings import Findings, read_findings
from labctl.sweeps.search_config import SearchConfig

pytestmark = pytest.mark.slow

DRIVER = """
import json, sys
from pathlib import Path
from rich.console import Console
from labctl.execute.display import display_for
from labctl.execute.signals import Interrupted
from labctl.execute.options import Options
from labctl.execute.supervisor import Supervisor
from labctl.project import Project
from labctl.plans.plan import settings_of
from labctl.recipe.recipe import load
from labctl.registry.registry import Registry
from labctl.sweeps.search_config import SearchConfig
from labctl.sweeps.search import Search

project = Project(Path(sys.argv[1]))
registry = Registry(project.plugins)
config = SearchConfig.model_validate_json(sys.argv[2])

def at(point):
    settings = [f"{field}={value}" for field, value in point.items()]
    return load(project, registry, "tiny", None, (*json.loads(sys.argv[3]), *settings))

with Search(project, "tiny", config, at) as search:
    options = Options(jobs=2, track=False)
    supervisor = Supervisor(project, registry, display_for(Console()), options, search)
    try:
        outcomes = supervisor.carry_out([])
    except Interrupted as interrupted:
        sys.exit(128 + interrupted.number)
    print("\\n".join(search.findings.sentences()))
"""
FIXED = ("data.val=200", "budget=6ep", "evaluate.every=1ep", "seeds=[0]")
ASKED = {
    "sampler": "random",
    "trials": 4,
    "objectives": [{"metric": "val/acc", "goal": "maximize"}],
    "space": {"schedules.lr.peak": {"low": 1e-6, "high": 1e-2, "log": True}},
}


def start(lab: Any, asked: dict[str, Any]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(lab.root), json.dumps(asked), json.dumps(FIXED)],
        cwd=lab.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )


def finish(lab: Any, asked: dict[str, Any]) -> str:
    process = start(lab, asked)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def findings(lab: Any, asked: dict[str, Any]) -> Findings | None:
    config = SearchConfig.model_validate_json(json.dumps(asked))

    def at(point: Any) -> Any:
        settings = [f"{field}={value}" for field, value in point.items()]
        return load(lab.project, lab.registry, "tiny", None, (*FIXED, *settings))

    return read_findings(lab.project, "tiny", config, at)


def is_training(run: Run) -> bool:
    return run.status is Status.RUNNING and bool(run.journal.curves)


def wait_until(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_a_search_survives_its_supervisor(make_lab: Callable[[str], Any]) -> None:
    lab = make_lab("killed")
    process = start(lab, ASKED)
    wait_until(lambda: any(run.status is Status.RUNNING for run in all_runs(lab.project)))
    process.kill()
    process.communicate()
    process = start(lab, ASKED)
    orphans = [run.folder for run in all_runs(lab.project)]
    wait_until(
        lambda: any(is_training(r) for r in all_runs(lab.project) if r.folder not in orphans)
    )
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGINT, output
    stopped = [run for run in all_runs(lab.project) if run.status is Status.STOPPED]
    output = finish(lab, ASKED)

    found = findings(lab, ASKED)
    assert found is not None and found.states == {"complete": 4}
    assert found.sentences()[0] in output
    runs = list(all_runs(lab.project))
    assert len(runs) == 4 and all(run.status is Status.DONE for run in runs)
    best = max(runs, key=lambda run: run.journal.last["val/acc"])
    assert found.best[0].keys == (best.plan.key,)
    assert found.best[0].values == {"val/acc": best.journal.last["val/acc"]}
    assert all(run.journal.attempts > 1 for run in stopped)
    resumed = max(runs, key=lambda run: run.journal.attempts)
    point = settings_of({**resumed.plan.point, "seeds": [0]})
    (whole,) = make_lab("whole").train_here("tiny", *point)
    assert whole.journal.curves == resumed.journal.curves


def test_workers_are_stopped_when_their_trial_is_given_up(make_lab: Callable[[str], Any]) -> None:
    """Peaks of the learning rate of which two thirds learn nothing are told from the others."""
    lab = make_lab("pruned")
    pruner = {"kind": "median", "startup": 2, "warm_up": "20%"}
    asked = {**ASKED, "trials": 5, "pruner": pruner}
    output = finish(lab, asked)
    found = findings(lab, asked)
    assert found is not None
    stopped = [run for run in all_runs(lab.project) if run.status is Status.STOPPED]
    assert "given up after" in output and found.states["given up"] == len(stopped) > 0
    assert found.states["complete"] == 5 - len(stopped)
    for run in stopped:
        assert (run.end or {})["step"] < run.plan.work.steps
    worst = min(run.journal.last["val/acc"] for run in stopped)
    assert worst < found.best[0].values["val/acc"]
