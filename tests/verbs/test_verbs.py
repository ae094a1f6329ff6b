"""The functions that the commands call, as scripts and notebooks use them."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import labctl
from labctl.errors import EnvironmentProblem, PartialError, RunError, UsageError
from labctl.execute.job import Outcome
from labctl.execute.signals import Heard, Interrupted
from labctl.recipe.recipe import Recipe
from labctl.store.journal import JournalWriter
from labctl.store.run import run_of
from labctl.store.status import Status
from labctl.verbs.outcomes import Outcomes

SHORT = """
extends: tiny.yaml
budget: 2ep
schedules: {token_drop: {start: 0ep, end: 1ep}}
evaluate: {every: 1ep}
seeds: [0]
"""
TABLE = "rows: [{recipe: short}]\ncolumns: [{kind: metric, metric: test/acc}]\n"


@pytest.fixture
def short(lab: Any) -> Any:
    """A project with a recipe that is trained in seconds."""
    lab.write("short", SHORT)
    (lab.root / "recipes" / "tables").mkdir()
    (lab.root / "recipes" / "tables" / "main.yaml").write_text(TABLE, encoding="utf-8")
    return lab


def test_every_promised_name_is_there() -> None:
    for name in labctl.__all__:
        assert getattr(labctl, name) is not None
    assert set(labctl.__all__) <= set(dir(labctl))
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        labctl.trian  # noqa: B018


def test_modules_do_not_hide_functions_of_their_names() -> None:
    """Importing a subpackage makes it an attribute of the package."""
    import labctl.plans.derive
    import labctl.reports.report
    import labctl.sweeps.sweep

    assert all(callable(function) for function in (labctl.plan, labctl.report, labctl.sweep))


def test_a_recipe_is_loaded_with_its_overrides(lab: Any) -> None:
    recipe = labctl.load("tiny", "model.depth=1", "seeds=[5]", project=lab.root)
    assert isinstance(recipe, Recipe)
    planned = labctl.plan(recipe, project=lab.root)
    assert [plan.work.seed for plan in planned.plans] == [5]
    assert planned.plans[0].work.architecture.config["depth"] == 1
    assert [run.folder for run in planned.runs] == [run_of(lab.project, planned.plans[0]).folder]
    by_name = labctl.plan("tiny", "model.depth=1", "seeds=[5]", project=lab.root)
    assert by_name.plans == planned.plans


def test_what_comes_too_late_for_a_loaded_recipe_is_refused(lab: Any) -> None:
    """It would be dropped, and a training of days begin in the place of a short one."""
    recipe = labctl.load("tiny", project=lab.root)
    for given in ({"preset": "smoke"}, {}):
        overrides = [] if given else ["budget=1ep"]
        with pytest.raises(UsageError, match="tiny is loaded already"):
            labctl.plan(recipe, *overrides, project=lab.root, **given)
        with pytest.raises(UsageError, match="tiny is loaded already"):
            labctl.run(recipe, *overrides, project=lab.root, **given)
    assert repr(labctl.plan(recipe, project=lab.root)) == "<plan of tiny: 2 runs>"


def test_a_plan_says_what_done_and_pending_do_not(lab: Any) -> None:
    """That a trained run is to be measured, and that a renamed recipe's work is done."""
    words = ("tiny", "seeds=[1]", "budget=2ep", "schedules.token_drop.end=2ep")
    (run,) = lab.train_here(*words)
    shown = labctl.plan(*words, project=lab.root)._repr_html_()
    assert "to be measured" not in shown and "the same work" not in shown
    shown = labctl.plan(*words, "measure={attention_maps: {}}", project=lab.root)._repr_html_()
    assert "trained, and to be measured: attention_maps" in shown
    (lab.root / "recipes" / "tiny.yaml").rename(lab.root / "recipes" / "small.yaml")
    shown = labctl.plan("small", *words[1:], project=lab.root)._repr_html_()
    assert f"the same work is done as {run.plan.name}" in shown and "trained again" in shown


def test_a_plan_shows_what_the_command_prints(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lab.root)  # folders are shown as seen from there
    html = labctl.plan("tiny", project=lab.root)._repr_html_()
    _, printed = lab.labctl("plan", "tiny")
    assert html.startswith("<pre") and "ctd_vit on digits" in html
    for line in printed.splitlines():
        for word in line.split():
            assert word.replace("&", "&amp;") in html


@pytest.mark.slow
def test_training_from_python_is_training_by_command(short: Any) -> None:
    outcomes = labctl.run("short", inline=True, track=False, project=short.root)
    assert outcomes.require() is outcomes
    (run,) = outcomes.runs
    (same,) = short.train_here("short")
    assert run.folder == same.folder and run.status is Status.DONE
    again = labctl.run(labctl.load("short", project=short.root), inline=True, project=short.root)
    assert again.summary == "1 run: 1 DONE before"
    assert "DONE" in again._repr_html_() and run.plan.key in again._repr_html_()


def test_a_run_without_a_recipe_says_how(lab: Any) -> None:
    with pytest.raises(UsageError, match="no recipe named"):
        labctl.run("model.depth=1", project=lab.root)


@pytest.mark.slow
def test_a_sweep_trains_points_once(short: Any) -> None:
    given: dict[str, Any] = {"recipe": "short", "track": False, "project": short.root, "jobs": 1}
    first = labctl.sweep("model.depth", values="1", seeds=[3], **given)
    assert [outcome.was_skipped for outcome in first.require()] == [False]
    both = labctl.sweep("model.depth", values=["1,2"], seeds="3,", **given)
    assert sorted(outcome.was_skipped for outcome in both.require()) == [False, True]
    assert {run.plan.work.seed for run in both.runs} == {3}
    with pytest.raises(UsageError, match="no way for a run to end"):
        labctl.sweep("model.depth", values="1", retry=["tired"], **given)
    with pytest.raises(UsageError, match="name one sweep or one field"):
        labctl.sweep(project=short.root)


@pytest.mark.parametrize(
    ("values", "points"),
    [
        (["1e-3", "4e-3"], [{"schedules.lr.peak": "0.001"}, {"schedules.lr.peak": "0.004"}]),
        ([1e-3, 0.004], [{"schedules.lr.peak": "0.001"}, {"schedules.lr.peak": "0.004"}]),
        (1e-3, [{"schedules.lr.peak": "0.001"}]),
        ("1e-3:3e-3:1e-3", [{"schedules.lr.peak": f"0.00{n}"} for n in (1, 2, 3)]),
    ],
)
def test_values_are_what_a_reader_takes_them_for(
    short: Any, values: Any, points: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from labctl.verbs import sweeping

    seen: list[Any] = []
    monkeypatch.setattr(sweeping, "trained", lambda _, __, asked, *___: seen.append(asked.sweep))
    labctl.sweep("lr.peak", values=values, recipe="short", project=short.root)
    assert seen[0].points() == points
    labctl.sweep("batch_size=16", values="lr.peak=1e-3", recipe="short", project=short.root)
    assert (seen[1].fields, seen[1].fixed) == (("schedules.lr.peak",), ("batch_size=16",))


@pytest.mark.slow
def test_a_training_in_this_process_can_be_interrupted(lab: Any) -> None:
    """It keeps a checkpoint and nobody's lock, and goes on."""
    (job,) = lab.jobs("tiny", "seeds=[0]", "budget=400ep")
    found = run_of(lab.project, job.plan)

    def interrupt() -> None:
        while not found.progress.get("step"):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(Interrupted):
        labctl.run("tiny", "seeds=[0]", "budget=400ep", inline=True, project=lab.root)
    assert found.status is Status.STOPPED and found.checkpoint_path.exists()


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    faults: list[BaseException] = []

    def enter() -> None:
        try:
            with Heard(lambda number, frame: None):
                pass
        except BaseException as error:
            faults.append(error)

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert faults == [] and signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
def test_a_report_shows_itself(short: Any) -> None:
    short.train_here("short")
    grid = labctl.report(project=short.root)
    html = grid._repr_html_()
    assert html.count("<tr>") == 2 and "missing" not in html
    assert grid.rows[0].cells[1].text in html
    assert html.count("<p ") == len(grid.remarks) > 0
    assert html.count("<svg") == len(grid.plots) > 0
    assert labctl.report(plots=False, project=short.root).plots == ()


def test_what_a_table_is_called_is_not_markup(short: Any) -> None:
    text = "title: <script>alert(1)</script>\n" + TABLE
    (short.root / "recipes" / "tables" / "odd.yaml").write_text(text, encoding="utf-8")
    assert "<script>" not in labctl.report("odd", project=short.root)._repr_html_()


@pytest.mark.slow
def test_runs_are_a_frame(short: Any) -> None:
    empty = labctl.runs(short.root)
    assert empty.empty and empty.groupby("recipe")["seed"].mean().empty
    (run,) = short.train_here("short", "seeds=[1]")
    short.train_here("short", "seeds=[0]", "model.depth=1")
    frame = labctl.runs(short.root)
    assert list(frame["recipe"]) == ["short", "short"] and set(frame["seed"]) == {0, 1}
    deep = frame[frame["set model.depth"].isna()].iloc[0]
    assert deep["test/acc"] == run.journal.last["test/acc"]
    assert deep["status"] == "DONE" and deep["folder"] == str(run.folder)
    assert deep["parameters"] > frame[frame["set model.depth"] == 1].iloc[0]["parameters"]
    assert deep["flops"] == run.ledger["train_flops"] and deep["time"] > 0
    assert not any(name.startswith("knob/") for name in frame)


def test_a_run_without_an_end_has_no_time(short: Any) -> None:
    (job,) = short.jobs("short")
    run_of(short.project, job.plan).create(job.plan, {})
    (row,) = labctl.runs(short.root).to_dict("records")
    assert row["status"] == "PENDING" and row["time"] is None and row["ended"] == ""


def test_a_run_that_cannot_be_read_is_a_row_as_well(short: Any) -> None:
    (job,) = short.jobs("short")
    run = run_of(short.project, job.plan)
    run.create(job.plan, {})
    JournalWriter(run.folder, 1, 0, {"device": "cpu", "device_name": None}).close()
    (row,) = labctl.runs(short.root).to_dict("records")
    assert row["recipe"] == "short" and "cannot be read" in row["message"]


@pytest.mark.parametrize(
    ("statuses", "code", "error"),
    [
        ((Status.DONE, Status.FAILED), 0, PartialError),
        ((Status.FAILED, Status.FAILED), 0, RunError),
        ((Status.FAILED, Status.DIVERGED), 0, RunError),
        ((Status.FAILED,), EnvironmentProblem.exit_code, EnvironmentProblem),
    ],
)
def test_what_is_not_done_is_an_error(
    lab: Any, statuses: tuple[Status, ...], code: int, error: type[Exception]
) -> None:
    runs = lab.runs("tiny", "seeds=2")
    for run, plan in zip(runs, (job.plan for job in lab.jobs("tiny", "seeds=2")), strict=True):
        run.create(plan, {})
        run.end_path.write_text(f'{{"status": "FAILED", "code": {code}}}', encoding="utf-8")
    found = Outcomes(tuple(Outcome(r, s) for r, s in zip(runs, statuses, strict=False)))
    with pytest.raises(error, match="seed="):
        found.require()


def test_a_sweep_is_answered_by_runs_that_end_early(lab: Any) -> None:
    (run,) = lab.runs("tiny", "seeds=[0]")
    run.create(lab.jobs("tiny", "seeds=[0]")[0].plan, {})
    ended = [Outcome(run, Status.DIVERGED), Outcome(run, Status.HALTED)]
    assert Outcomes.of_sweep(ended).require().summary == "2 runs: 1 DIVERGED, 1 HALTED"
    with pytest.raises(RunError) as caught:
        Outcomes(tuple(ended)).require()
    assert "`labctl run --restart` asks again" in caught.value.hint
    with pytest.raises(RunError) as caught:
        Outcomes((*ended, Outcome(run, Status.FAILED))).require()
    assert "`labctl run` again goes on where they were" in caught.value.hint


def test_the_project_is_the_working_folder_if_none_is_named(
    lab: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(lab.root)
    assert labctl.load("tiny").name == "tiny"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir(exist_ok=True)
    monkeypatch.setenv("LABCTL_PROJECT", str(lab.root))
    assert labctl.load("tiny").name == "tiny"
