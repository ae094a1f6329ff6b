"""Which runs a row takes, and what it says of those that it lacks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labctl.reports.bundle import write_bundle
from labctl.store.journal import JournalWriter
from labctl.store.lock import FileLock
from labctl.store.run import run_of

TABLE = """
rows: [{recipe: base}]
columns: [{kind: metric, metric: test/acc, label: acc}, {kind: time, label: time}]
"""


@pytest.fixture
def base(lab: Any) -> Any:
    lab.recipe("base")
    lab.table(TABLE)
    return lab


def test_mean_and_spread_are_over_the_seeds(base: Any) -> None:
    accs = [0.681, 0.673, 0.694]
    for seed, acc in enumerate(accs):
        base.run("base", seed, acc=acc)
    cell = base.cell(base.report(), 0, "acc")
    percent = np.array(accs) * 100
    assert cell.numbers["mean"] == pytest.approx(percent.mean())
    assert cell.numbers["sd"] == pytest.approx(percent.std(ddof=1))
    assert cell.text == f"{percent.mean():.2f} \u00b1 {percent.std(ddof=1):.2f} (n=3)"
    assert dict(cell.seeds) == pytest.approx(dict(enumerate(percent)))


def test_commands_can_be_typed_as_they_are_shown(lab: Any) -> None:
    lab.recipe("my base", seeds="[0]")
    lab.table("rows: [{recipe: my base}]\ncolumns: [{kind: metric, metric: test/acc}]\n")
    (note,) = lab.cell(lab.report(), 0, "").notes
    assert note == "missing: seed 0; train: labctl run 'my base'"


def test_a_measurement_that_was_not_taken_says_how_to_take_it(lab: Any) -> None:
    """Of runs that were trained for another recipe, or published before it was asked for."""
    lab.recipe("base", seeds="[0]")
    lab.run("base", 0)
    robust = "{value: robustness/generated/acc, at_least: 1}"
    lab.recipe("base", f"\nclaims: {{r: {robust}}}\n", seeds="[0]", measure="{robustness: {}}")
    columns = "{kind: metric, metric: robustness/generated/acc, label: acc}, {kind: verdict}"
    lab.table(f"rows: [{{recipe: base}}]\ncolumns: [{columns}]\n")
    grid = lab.report()
    said = "no robustness was taken of base: labctl run base"
    assert lab.cell(grid, 0, "acc").notes == (said,)
    assert said in lab.cell(grid, 0, "Claims").notes[0]


def test_a_value_that_is_not_finite_is_named(base: Any) -> None:
    for seed, acc in enumerate((0.5, math.nan, 0.7)):
        base.run("base", seed, acc=acc)
    cell = base.cell(base.report(), 0, "acc")
    assert cell.text == "nan \u00b1 nan (n=3)"
    assert cell.notes == ("base: test/acc is not finite for seed 1",)


def test_device_time_and_energy_are_summed_over_the_seeds(lab: Any) -> None:
    lab.recipe("base")
    lab.recipe("other", batch_size="32")
    lab.table(
        """
        rows: [{recipe: base}, {recipe: other}]
        columns: [{kind: device_time}, {kind: energy}]
        """
    )
    steps = lab.plan("base", 0).work.steps
    for seed in (0, 1):
        lab.run("base", seed, joules=50.0)
    lab.run("other", 0)
    grid = lab.report()
    energy, held = lab.cell(grid, 0, "Energy"), lab.cell(grid, 0, "Device time")
    assert dict(energy.numbers) == {"sum": 2 * 50.0 * steps, "n": 2, "of": 3}
    assert energy.text == f"{2 * 50.0 * steps / 1e3:.2f} kJ (n=2 of 3)"
    assert held.numbers["sum"] == pytest.approx(sum(held.seeds.values())) and len(held.seeds) == 2
    assert held.text.endswith(" s (n=2 of 3)")
    untold = lab.cell(grid, 1, "Energy")
    assert untold.text == "-" and untold.notes == ("other: no energy is known of seed 0",)
    assert any(remark.startswith("Energy: sum over seeds; ") for remark in grid.remarks)


def test_missing_seeds_are_counted_and_named_with_the_command(base: Any) -> None:
    base.run("base", 1, acc=0.5)
    grid = base.report()
    assert base.cell(grid, 0, "acc").text == "50.00 (n=1 of 3)"
    assert base.cell(grid, 0, "").notes == ("missing: seeds 0, 2; train: labctl run base",)
    assert grid.rows[0].facts["seeds"] == {"done": [1], "missing": [0, 2]}


def test_a_row_without_runs_says_so(base: Any) -> None:
    grid = base.report(preset="smoke")
    assert base.cell(grid, 0, "acc").text == "missing (0 of 3)"
    assert "labctl run base --preset smoke" in base.cell(grid, 0, "").notes[0]


def test_diverged_seeds_are_named_and_not_averaged(base: Any) -> None:
    base.run("base", 0, acc=0.5)
    base.run("base", 1, acc=0.6)
    base.run("base", 2, status="DIVERGED", message="loss stopped being finite")
    grid = base.report()
    cell = base.cell(grid, 0, "acc")
    assert cell.text == "55.00 \u00b1 7.07 (n=2 of 3)"
    assert base.cell(grid, 0, "").notes == ("diverged: seed 2 (loss stopped being finite)",)


def test_a_row_that_diverged_whole_is_no_missing_row(base: Any) -> None:
    for seed in range(3):
        base.run("base", seed, status="DIVERGED", message="loss")
    assert base.cell(base.report(), 0, "acc").text == "diverged (3 of 3)"


def test_other_ends_are_named(base: Any) -> None:
    base.run("base", 0, status="FAILED", message="out of memory\n  use a smaller batch_size")
    base.run("base", 1, status="LOST")
    base.run("base", 2, status="STOPPED")
    notes = base.cell(base.report(), 0, "").notes
    assert notes == (
        "failed: seed 0 (out of memory); again: labctl run base",
        "stopped: seed 2; go on: labctl run base",
        "lost: seed 1; go on: labctl run base",
    )


def test_a_run_at_work_is_no_result(base: Any) -> None:
    run = base.run("base", 0)
    lock = FileLock(run.lock_path)
    assert lock.acquire()
    try:
        notes = base.cell(base.report(), 0, "").notes
    finally:
        lock.release()
    assert "running: seed 0" in notes
    assert base.cell(base.report(), 0, "acc").text == "50.00 (n=1 of 3)"


def test_presets_never_share_a_row(base: Any) -> None:
    base.run("base", 0, acc=0.9)
    base.run("base", 0, "smoke", acc=0.1)
    assert base.cell(base.report(), 0, "acc").text == "90.00 (n=1 of 3)"
    smoke = base.report(preset="smoke")
    assert base.cell(smoke, 0, "acc").text == "10.00 (n=1 of 3)"
    assert smoke.title == "main: digits, preset smoke"


def test_a_changed_recipe_leaves_its_former_runs_out(base: Any) -> None:
    base.run("base", 0, acc=0.9)
    base.recipe("base", batch_size="32")
    assert base.cell(base.report(), 0, "acc").text == "missing (0 of 3)"


def test_the_same_work_under_another_name_counts(base: Any) -> None:
    base.recipe("twin")
    assert base.plan("twin", 0).key == base.plan("base", 0).key
    base.run("twin", 0, acc=0.42)
    assert base.cell(base.report(), 0, "acc").text == "42.00 (n=1 of 3)"


def test_a_damaged_folder_is_a_missing_run(base: Any) -> None:
    run = base.run("base", 0)
    (run.folder / "plan.json").write_text("{", encoding="utf-8")
    assert base.cell(base.report(), 0, "acc").text == "missing (0 of 3)"


def test_a_metric_that_nobody_recorded_is_named_with_a_near_one(lab: Any) -> None:
    lab.recipe("base")
    lab.table("rows: [{recipe: base}]\ncolumns: [{kind: metric, metric: test/ac, label: acc}]\n")
    lab.run("base", 0)
    cell = lab.cell(lab.report(), 0, "acc")
    assert cell.text == "-"
    assert cell.notes[0].startswith("base: no test/ac was recorded; did you mean 'test/acc'?")
    assert cell.notes[0].endswith("(seed 0)")
    assert "test/loss" in cell.notes[0] and "train/" not in cell.notes[0]


def test_a_metric_that_one_seed_lacks_is_counted(lab: Any) -> None:
    lab.recipe("base")
    lab.table("rows: [{recipe: base}]\ncolumns: [{kind: metric, metric: test/top5_acc}]\n")
    steps = lab.plan("base", 0).work.steps
    lab.run("base", 0, evaluations={steps: {"test/top5_acc": 0.8}})
    lab.run("base", 1)
    cell = lab.cell(lab.report(), 0, "test/top5_acc (%)")
    assert cell.text == "80.00 (n=1 of 3)"
    assert cell.notes == ("base: no test/top5_acc was recorded (seed 1)",)


def test_picked_metrics_are_of_the_evaluation_that_validation_picks(lab: Any) -> None:
    lab.recipe("base", runtime="{log_every: 1step}")
    lab.table(
        """
        rows: [{recipe: base}]
        columns: [{kind: metric, metric: test/acc, summary: at(max val/acc), label: picked}]
        """
    )
    early = {3: {"val/acc": 0.9, "test/acc": 0.7}, 5: {"val/acc": 0.8, "test/acc": 0.95}}
    lab.run("base", 0, acc=0.6, evaluations=early)
    lab.run("base", 1, acc=0.6)
    grid = lab.report()
    cell = lab.cell(grid, 0, "picked")
    assert cell.text == "70.00 (n=1 of 3)"
    assert cell.notes == ("base: test/acc was not evaluated where val/acc is best (seed 1)",)
    rule = "at the evaluation where val/acc is largest, the first of several equal ones"
    assert f"picked: {rule}" in grid.remarks


def test_data_are_named_where_rows_differ_in_them(lab: Any) -> None:
    lab.recipe("one")
    lab.recipe("two", data="{name: mnist}")
    lab.table("rows: [{recipe: one}, {recipe: two, label: Two}]\ncolumns: [{kind: gap}]\n")
    grid = lab.report()
    assert [row.cells[0].text for row in grid.rows] == ["one (digits)", "Two (mnist)"]
    assert grid.title == "main: digits, mnist"


class TestPublished:
    """Rows out of bundles."""

    @pytest.fixture
    def published(self, base: Any) -> Path:
        """A bundle of three seeds; the runs themselves are gone."""
        runs = [base.run("base", seed, acc=0.5 + seed / 10) for seed in range(3)]
        path: Path = base.project.root / "docs" / "results" / "base.json"
        write_bundle(runs, path)
        for run in runs:
            run.discard()
        return path

    def test_are_labelled_with_where_they_come_from(self, base: Any, published: Path) -> None:
        grid = base.report()
        assert base.cell(grid, 0, "acc").text == "60.00 \u00b1 10.00 (n=3)"
        (note,) = base.cell(grid, 0, "").notes
        assert note.startswith("published in docs/results/base.json: seeds 0, 1, 2, n=3, ")
        assert "on NVIDIA H200, 8 CPU threads, torch 2.11.0, labctl 0.1.0, 20" in note
        assert grid.rows[0].facts["published"] == dict.fromkeys("012", "docs/results/base.json")

    def test_of_another_preset_stay_out(self, base: Any, published: Path) -> None:
        assert base.cell(base.report(preset="smoke"), 0, "acc").text == "missing (0 of 3)"

    def test_give_way_to_runs_of_ones_own(self, base: Any, published: Path) -> None:
        base.run("base", 1, acc=0.9)
        grid = base.report()
        assert dict(base.cell(grid, 0, "acc").seeds) == pytest.approx({0: 50, 1: 90, 2: 70})
        assert "seeds 0, 2, n=2" in base.cell(grid, 0, "").notes[0]

    def test_do_not_replace_a_run_that_diverged_here(self, base: Any, published: Path) -> None:
        base.run("base", 1, status="DIVERGED", message="loss")
        grid = base.report()
        assert dict(base.cell(grid, 0, "acc").seeds) == pytest.approx({0: 50, 2: 70})
        assert "diverged: seed 1 (loss)" in base.cell(grid, 0, "").notes

    def test_stand_in_for_a_run_that_was_lost_here(self, base: Any, published: Path) -> None:
        base.run("base", 1, status="LOST")
        assert base.cell(base.report(), 0, "acc").text == "60.00 \u00b1 10.00 (n=3)"

    def test_may_have_more_seeds_than_the_recipe(self, base: Any, published: Path) -> None:
        base.recipe("base", seeds="[2, 3]")
        grid = base.report()
        assert base.cell(grid, 0, "acc").text == "60.00 \u00b1 10.00 (n=3 of 4)"
        assert base.cell(grid, 0, "").notes[0] == "missing: seed 3; train: labctl run base"

    def test_of_a_former_recipe_are_shown_as_such(self, base: Any, published: Path) -> None:
        base.recipe("base", batch_size="32")
        grid = base.report()
        assert len(grid.rows) == 1
        assert base.cell(grid, 0, "").text == "base (published)"
        assert base.cell(grid, 0, "acc").text == "60.00 \u00b1 10.00 (n=3)"
        note = base.cell(grid, 0, "").notes[1]
        assert note.startswith("published before the recipe changed (batch_size, ")
        assert note.endswith("; as it is now: labctl run base")

    def test_of_a_former_recipe_stand_beside_those_of_today(
        self, base: Any, published: Path
    ) -> None:
        base.recipe("base", batch_size="32")
        base.run("base", 0, acc=0.1)
        grid = base.report()
        assert [row.cells[0].text for row in grid.rows] == ["base", "base (published)"]
        assert base.cell(grid, 0, "acc").text == "10.00 (n=1 of 3)"
        assert base.cell(grid, 1, "acc").text == "60.00 \u00b1 10.00 (n=3)"

    def test_of_a_former_recipe_are_not_shown_twice_if_another_recipe_is_that_now(
        self, base: Any, published: Path
    ) -> None:
        base.recipe("former")
        base.recipe("base", batch_size="32")
        base.table(
            """
            rows: [{recipe: base}, {recipe: former}]
            columns: [{kind: metric, metric: test/acc, label: acc}]
            """
        )
        labels = [row.cells[0].text for row in base.report().rows]
        assert labels == ["base (published)", "former"]
        base.run("base", 0)
        assert [row.cells[0].text for row in base.report().rows] == ["base", "former"]

    def test_of_former_code_name_the_plugin(self, base: Any, published: Path) -> None:
        init = base.project.plugins / "toy" / "__init__.py"
        init.write_text(init.read_text(encoding="utf-8") + "\nVALUE = 3\n", encoding="utf-8")
        note = base.cell(base.report(), 0, "").notes[1]
        assert "published before the recipe changed (code of toy)" in note

    def test_can_be_named_from_anywhere(self, base: Any, published: Path) -> None:
        elsewhere = base.project.root / "x.json"
        published.rename(elsewhere)
        assert base.cell(base.report(), 0, "acc").text == "missing (0 of 3)"
        grid = base.report(bundles=[elsewhere])
        assert base.cell(grid, 0, "acc").text == "60.00 \u00b1 10.00 (n=3)"


def test_every_row_of_a_bundle_equals_the_row_of_the_runs(lab: Any) -> None:
    lab.recipe("base")
    lab.recipe(
        "ctd",
        """
        claims:
          kept: {difference: test/acc, to: base, at_least: -5}
          fast: {ratio: time, to: base, at_least: 1.1}
        """,
        batch_size="32",
    )
    lab.table(
        """
        baseline: base
        rows: [{recipe: base}, {recipe: ctd}]
        columns:
          - {kind: metric, metric: test/acc}
          - {kind: metric, metric: test/acc, summary: at(max val/acc), label: picked}
          - {kind: metric, metric: train/loss}
          - {kind: gap}
          - {kind: time}
          - {kind: time, wall: true}
          - {kind: device_time}
          - {kind: energy}
          - {kind: speedup}
          - {kind: flops}
          - {kind: parameters}
          - {kind: tokens}
          - {kind: verdict}
        """
    )
    runs = []
    for seed in range(3):
        steps = lab.plan("base", 0).work.steps
        evaluations = {steps: {"val/acc": 0.4}}
        runs.append(lab.run("base", seed, acc=0.6 + seed / 50, evaluations=evaluations))
        tokens = [(0, 10, 64.0), (10, 20, 50.0)]
        rate = 0.004 + seed / 1e4
        runs.append(lab.run("ctd", seed, acc=0.58 + seed / 40, rate=rate, tokens=tokens, flops=8e8))
    own = lab.report()
    path = lab.project.root / "published.json"
    write_bundle(runs, path)
    for run in runs:
        run.discard()
    there = lab.report(bundles=[path])
    for mine, theirs in zip(own.rows, there.rows, strict=True):
        assert mine.cells[1:] == theirs.cells[1:]
    assert own.remarks == there.remarks
    assert own.rows[0].cells[0].notes == ()
    assert there.rows[0].cells[0].notes != ()


def test_seeds_from_different_hardware_have_no_mean_time(base: Any) -> None:
    base.run("base", 0)
    base.run("base", 1, facts={"device": "cpu", "device_name": "Xeon", "torch": "2.11.0"})
    grid = base.report()
    cell = base.cell(grid, 0, "time")
    assert cell.text == "not comparable"
    assert cell.notes == (
        "base: seeds were trained under different conditions: backend (cuda and cpu); "
        "device (NVIDIA H200 and Xeon); CPU threads (8 and unknown)",
    )
    assert base.cell(grid, 0, "acc").text == "50.00 \u00b1 0.00 (n=2 of 3)"
    assert any(
        r.startswith("mixed hardware: NVIDIA H200, 8 CPU threads (base); Xeon")
        for r in grid.remarks
    )


def test_an_attempt_on_other_hardware_taints_the_time(base: Any) -> None:
    run = base.run("base", 0)
    again = JournalWriter(run.folder, 2, 10, {"device": "cpu", "torch": "2.11.0"})
    again.metrics(20, {"train/loss": 0.5, "test/acc": 0.5}, seconds=1.0, steps=10)
    again.close()
    assert base.cell(base.report(), 0, "time").text == "not comparable"


def test_runs_are_found_where_the_plan_says(base: Any) -> None:
    run = base.run("base", 0)
    assert run.folder == run_of(base.project, base.plan("base", 0)).folder
    assert run.folder.parent.parent.name == "base"
