"""What a newcomer tries, and what a careless one does; through `python -m labctl`."""

from __future__ import annotations

import io
import json
import socket
from typing import Any

import pytest
from rich.console import Console

from labctl.errors import EnvironmentProblem
from labctl.execute.checkup import checks
from labctl.execute.device import require_device
from labctl.execute.display import Bars, Lines, Watched
from labctl.project import Project
from labctl.store.journal import JournalWriter
from labctl.store.run import Run, all_runs
from labctl.store.status import Status
from labctl.track.ui import ui_command


def test_garbage_in_the_runs_folder_hides_no_run_and_is_named(lab: Any) -> None:
    job, run = lab.jobs("tiny", "seeds=[1]")[0], lab.runs("tiny", "seeds=[1]")[0]
    run.create(job.plan, {})
    (run.folder / "progress.json").write_text("[1, 2]")
    runs = lab.project.runs
    (runs / "stray").write_text("hello")
    for name, content in {
        "truncated": b'{"recipe": "t',
        "foreign": b'{"format": 99}',
        "binary": b"\xff\xfe\x00",
        "deep/er": b"",
    }.items():
        folder = runs / name / "abc" / "seed=1"
        folder.mkdir(parents=True)
        (folder / "plan.json").write_bytes(content)
    (runs / "empty" / "abc" / "seed=2").mkdir(parents=True)
    assert [found.folder for found in all_runs(lab.project)] == [run.folder]
    assert run.progress == {}
    found = next(check for check in checks(lab.project, lab.registry) if check.name == "runs")
    assert not found.is_good
    for name in ("truncated", "foreign", "binary", "deep/er", "empty"):
        assert f"{runs / name}/abc" in found.detail
    assert "stray" not in found.detail


def test_a_project_that_is_not_there_is_no_empty_one(lab: Any) -> None:
    code, output = lab.labctl("--project", str(lab.root / "nowhere"), "status")
    assert code == 2 and "does not exist" in output


@pytest.mark.slow
def test_a_device_that_is_missing_is_said_before_anything_starts(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for override in ("runtime.device=cuda", "numerics.precision=tf32"):
        for way in ((), ("--inline",)):
            code, output = lab.labctl("run", "tiny", override, "seeds=[1]", "--no-track", *way)
            assert code == 6, output
            assert "cuda" in output.lower() and "begins" not in output
    assert not list(all_runs(lab.project))
    # One run that cannot be trained here keeps nobody from training the others.
    plans = [
        *lab.jobs("tiny", "numerics.precision=tf32", "seeds=[1]"), *lab.jobs("tiny", "seeds=[1]")
    ]  # fmt: skip
    require_device(plans)
    require_device([])


@pytest.mark.slow
def test_the_same_work_under_two_names_is_trained_once_and_said(lab: Any) -> None:
    lab.write("twin", (lab.root / "recipes/tiny.yaml").read_text())
    code, output = lab.labctl(
        *("run", "tiny", "twin", "seeds=[1]", "budget=2step", "schedules.token_drop=0"),
        *("schedules.lr=1e-3", "--no-track"),
    )
    assert code == 0, output
    settings = "budget=2step schedules.lr=0.001 schedules.token_drop=0 seed=1"
    assert f"twin {settings}  is the same work as tiny {settings}" in output
    assert "1 run: 1 DONE" in output
    assert [run.plan.recipe for run in all_runs(lab.project)] == ["tiny"]


def test_show_speaks_json_of_a_recipe_too(lab: Any) -> None:
    code, output = lab.labctl("show", "tiny", "--json")
    assert code == 0
    shown = json.loads(output)
    assert shown["recipe"] == "tiny" and "budget: 6ep" in shown["text"]


def test_ui_says_that_its_port_is_taken(project: Project) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(EnvironmentProblem, match=f"port {port} cannot be used"):
            ui_command(project, port)
    with pytest.raises(EnvironmentProblem, match="port 99999 cannot be used"):
        ui_command(project, 99999)


def _watched(lab: Any, seed: int = 1, name: str = "tiny") -> Watched:
    job, run = lab.jobs(name, f"seeds=[{seed}]")[0], lab.runs(name, f"seeds=[{seed}]")[0]
    run.create(job.plan, {})
    return Watched(Run(run.folder))


def test_the_last_evaluation_is_told_of_a_run_that_ended_meanwhile(lab: Any) -> None:
    out = io.StringIO()
    lines, watched = Lines(Console(file=out)), _watched(lab)
    lines.began(watched)
    journal = JournalWriter(watched.run.folder, 1, 0, {})
    journal.metrics(264, {"test/acc": 0.5})
    journal.close()
    lines.ended(watched, Status.DONE, "")
    assert "test/acc 50.00%" in out.getvalue()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_bars_fit_the_terminal_and_tell_seeds_apart(lab: Any, width: int) -> None:
    name = "a_name_of_a_recipe_that_is_much_longer_than_anybody_would_like_it_to_be"
    lab.write(name, (lab.root / "recipes/tiny.yaml").read_text())
    out = io.StringIO()
    bars = Bars(Console(file=out, force_terminal=True, width=width))
    several = [_watched(lab, seed, name) for seed in (42, 43)]
    for watched in several:
        watched.latest = {"train/loss": 2.0, "train/acc": 0.25, "test/acc": 0.3}
        watched.seconds_per_step = 0.05
        bars.began(watched)
    bars.refresh(several)
    console = Console(file=io.StringIO(), width=width, record=True)
    console.print(bars.progress.get_renderable())
    lines = console.export_text().splitlines()
    assert len(lines) == 2 and all(len(line) <= width for line in lines)
    for line, seed in zip(lines, (42, 43), strict=True):
        assert f"seed={seed}" in line and "ep 0/6" in line
