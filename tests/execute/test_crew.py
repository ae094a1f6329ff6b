"""A worker and its runs: what counts as over."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from labctl.execute.crew import Crew
from labctl.execute.provenance import Provenance
from labctl.execute.rounds import work
from labctl.execute.stop import Stop
from labctl.store.run import Run


@pytest.fixture
def runs(make_lab: Callable[[str], Any]) -> list[Run]:
    lab = make_lab("lab")
    options = ("seeds=2", "data.val=1200", "batch_size=64", "schedules.token_drop=0")
    jobs, runs = lab.jobs("tiny", *options), lab.runs("tiny", *options)
    provenance = Provenance(lab.registry)
    for job, run in zip(jobs, runs, strict=True):
        provenance.store(run, job.plan, job.recipe)
    return list(runs)


@pytest.mark.slow
def test_a_run_is_over_before_its_worker_but_the_last_is_not(runs: list[Run]) -> None:
    """Whoever waits for all runs has no process left behind."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        crew = Crew(runs, process)
        work(runs[:1], (), Stop())
        assert [crew.has_ended(run) for run in runs] == [True, False]
        work(runs[1:], (), Stop())
        assert not crew.has_ended(runs[1])
        process.communicate(b"\n")
        assert all(crew.has_ended(run) for run in runs)


@pytest.mark.slow
def test_what_an_earlier_worker_wrote_does_not_count(runs: list[Run]) -> None:
    work(runs[:1], (), Stop())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        crew = Crew(runs, process)
        assert not crew.has_told_end(runs[0]) and not crew.has_ended(runs[0])
        process.communicate(b"\n")
