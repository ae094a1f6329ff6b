"""Work that begins anew, and what becomes of it if it does not begin."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.errors import EnvironmentProblem
from labctl.execute.job import Outcome, outcome_of
from labctl.store.atomic import write_json
from labctl.store.run import run_of
from labctl.store.status import Status
from labctl.verbs import carrying
from labctl.verbs.carrying import ASIDE_PLAN, How, carry_out_anew

FAULT = {"status": "FAILED", "step": 3, "message": "a fault", "code": 0, "time": 1.0}


@pytest.fixture
def failed(lab: Any) -> Any:
    """Two runs that failed."""
    for run, job in zip(lab.runs(), lab.jobs(), strict=True):
        run.create(job.plan, {"of": "the first time"})
        write_json(run.end_path, FAULT)
    return lab


def test_what_is_set_aside_and_not_begun_is_put_back(
    failed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_fast(project: Any, registry: Any, work: Any, how: Any) -> list[Outcome]:
        runs = [run_of(project, job.plan) for job in work]
        assert [run.folder.exists() for run in runs] == [False, False]
        for run, job in zip(runs, work, strict=True):
            run.create(job.plan, {"of": "the second time"})
        write_json(runs[0].end_path, FAULT | {"message": "another fault"})
        return [
            outcome_of(runs[0], work[0].plan),
            Outcome(runs[1], Status.PENDING, message="not begun"),
        ]

    monkeypatch.setattr(carrying, "carry_out", fail_fast)
    work = failed.jobs()
    outcomes = carry_out_anew(failed.project, failed.registry, work, How(), work)
    assert [(o.status, o.message, o.was_skipped) for o in outcomes] == [
        (Status.FAILED, "another fault", False),
        (Status.FAILED, "a fault", True),
    ]
    begun, left = failed.runs()
    assert begun.provenance == {"of": "the second time"}
    assert left.provenance == {"of": "the first time"} and left.plan == work[1].plan
    (aside,) = begun.folder.parent.glob("*.aside-*")
    assert aside.name.startswith(begun.folder.name) and (aside / ASIDE_PLAN).exists()


def test_nothing_is_lost_by_a_command_that_is_refused(
    failed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> list[Outcome]:
        raise EnvironmentProblem("no such device")

    monkeypatch.setattr(carrying, "carry_out", refuse)
    work = failed.jobs()
    with pytest.raises(EnvironmentProblem):
        carry_out_anew(failed.project, failed.registry, work, How(), work)
    assert [run.status for run in failed.runs()] == [Status.FAILED] * 2
    assert not list(failed.project.runs.glob("*/*/*.aside-*"))
