"""Sweeps in tables: rows in order of values, stability, boundaries, claims, figures."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy import stats

from labctl.errors import UsageError
from labctl.reports.bundle import write_bundle
from labctl.reports.plots.stability import marks
from labctl.reports.report import report
from labctl.reports.rows import Rows
from labctl.reports.sweeps import swept

pytestmark = pytest.mark.slow

WIDTH = """\
title: how wide
recipe: base
axes: {width: "2,8,4"}
seeds: [0, 1]
"""


@pytest.fixture
def wide(lab: Any) -> Any:
    """Stable at 2 and 4; at 8 one seed of two was halted."""
    lab.recipe("base")
    lab.sweep(WIDTH, "width")
    for seed in (0, 1):
        lab.run("base", seed, acc=0.5 + 0.1 * seed, point=["model.width=2"])
        lab.run("base", seed, acc=0.7, point=["model.width=4"])
    lab.run("base", 0, acc=0.9, point=["model.width=8"])
    lab.run("base", 1, status="HALTED", message="fell at step 9: x", point=["model.width=8"])
    return lab


def test_rows_stand_in_the_order_of_their_values_with_seeds_aggregated(wide: Any) -> None:
    grid = wide.report("width")
    assert [row.cells[0].text for row in grid.rows] == ["width 2", "width 4", "width 8"]
    accuracy = [wide.cell(grid, row, "test/acc (%)").text for row in range(3)]
    assert accuracy == ["55.00 \u00b1 7.07 (n=2)", "70.00 \u00b1 0.00 (n=2)", "90.00 (n=1 of 2)"]
    stable = [wide.cell(grid, row, "P(stable)").text for row in range(3)]
    assert stable == ["1.00 (2 of 2)", "1.00 (2 of 2)", "0.50 (1 of 2)"]
    assert "halted: seed 1 (fell at step 9: x)" in grid.notes
    assert grid.title.startswith("how wide")


def test_what_was_tried_besides_is_shown_and_what_is_missing_says_how(wide: Any) -> None:
    wide.run("base", 5, acc=0.8, point=["model.width=6"])
    wide.sweep(WIDTH.replace("2,8,4", "2,8,16"), "width")
    grid = wide.report("width")
    labels = [row.cells[0].text for row in grid.rows]
    assert labels == ["width 2", "width 4", "width 6", "width 8", "width 16"]
    assert wide.cell(grid, 2, "test/acc (%)").text == "80.00 (n=1)"
    assert wide.cell(grid, 4, "P(stable)").text == "missing (0 of 2)"
    assert "missing: seeds 0, 1; train: labctl sweep width" in grid.notes


def test_a_run_with_other_values_too_is_no_point(wide: Any) -> None:
    wide.run("base", 0, acc=0.1, point=["model.width=4", "batch_size=32"])
    assert len(wide.report("width").rows) == 3


def test_a_sweep_stands_in_a_table_beside_a_recipe(wide: Any) -> None:
    wide.table(
        """\
        rows: [{recipe: base, label: plain}, {sweep: width, label: of}]
        columns: [{kind: metric, metric: test/acc}]
        """
    )
    grid = wide.report()
    labels = [row.cells[0].text for row in grid.rows]
    assert labels == ["plain", "of width 2", "of width 4", "of width 8"]
    # Width 4 is the recipe's own: one piece of work, found under both names.
    assert wide.cell(grid, 0, "test/acc (%)").text == "70.00 \u00b1 0.00 (n=2 of 3)"


def test_a_published_sweep_is_printed_again_without_its_runs(wide: Any, tmp_path: Path) -> None:
    before = wide.report("width")
    runs = [run.parent for run in wide.project.runs.glob("**/plan.json")]
    path = tmp_path / "width.json"
    from labctl.store.run import Run

    write_bundle([Run(folder) for folder in runs], path)
    for run in runs:
        Run(run).discard()
    after = wide.report("width", bundles=[path])
    assert [[c.text for c in row.cells] for row in after.rows] == [
        [c.text for c in row.cells] for row in before.rows
    ]


def test_a_claimed_threshold_is_judged_by_the_seeds_on_either_side(lab: Any) -> None:
    """All runs are stable: of five seeds that may be chance, of six it is not, of two claims that
    are judged together seven are needed. More values of the same seeds would say no more."""
    lab.recipe("base")
    edge, other = "edge: {stable_from: 8, known: refuted}", "other: {stable_from: 4}"

    def said(seed: int, *claims: str) -> list[str]:
        for width in (2, 4, 8):
            lab.run("base", seed, point=[f"model.width={width}"])
        sweep = WIDTH.replace("[0, 1]", str(seed + 1))
        lab.sweep(f"{sweep}claims: {{{', '.join(claims)}}}\n", "width")
        return [remark for remark in lab.report("width").remarks if "stable from" in remark]

    for seed in range(4):
        for width in (2, 4, 8):
            lab.run("base", seed, point=[f"model.width={width}"])
    (five,) = said(4, edge)
    assert five.startswith("edge: UNRESOLVED (known as refuted). edge: stable from 8 on, and not")
    assert "5 of 5 seeds stable at each value below 8 (95 % interval 0.48 to 1.00); " in five
    assert "5 of 5 seeds stable at 8 (95 % interval 0.48 to 1.00); about 6 seeds would" in five
    (six,) = said(5, edge)
    assert six.startswith("edge: REFUTED, as known. ")
    assert "6 of 6 seeds stable at each value below 8 (95 % interval 0.54 to 1.00); " in six
    assert all("REFUTED" in remark for remark in said(6, edge, other))


def test_a_threshold_that_is_there_is_reproduced(lab: Any) -> None:
    lab.recipe("base")
    claims = "claims: {edge: {stable_from: 4}, beyond: {stable_from: 99}}\n"
    lab.sweep(WIDTH.replace("[0, 1]", "[0, 1, 2, 3, 4]") + claims, "width")
    for seed in range(5):
        lab.run("base", seed, status="DIVERGED", point=["model.width=2"])
        lab.run("base", seed, point=["model.width=4"])
    said = [remark for remark in lab.report("width").remarks if "stable from" in remark]
    assert said[0].startswith("edge: REPRODUCED. ")
    assert (
        said[1].startswith("beyond: UNRESOLVED. ")
        and "no run at the values that the sweep itself names from 99 on" in said[1]
    )


def test_a_threshold_below_the_true_one_is_not_reproduced_by_what_lies_beyond(lab: Any) -> None:
    lab.recipe("base")
    claims = "claims: {low: {stable_from: 4}, true: {stable_from: 6}}\n"
    axes = "axes: {width: '2,4,6,8,10,12'}\nseeds: [0, 1, 2, 3, 4, 5, 6, 7]\n"
    lab.sweep(f"recipe: base\n{axes}{claims}", "width")
    for seed in range(8):
        for width in (2, 4, 6, 8, 10, 12):
            status = "DIVERGED" if width < 6 else "DONE"
            lab.run("base", seed, status=status, point=[f"model.width={width}"])
            if seed == 1:
                (few, _) = [r for r in lab.report("width").remarks if "stable from" in r]
    assert few.startswith("low: UNRESOLVED. ")
    low, true = [r for r in lab.report("width").remarks if "stable from" in r]
    assert low.startswith("low: REFUTED. ")
    assert "0 of 8 to 8 of 8 seeds stable at the values from 4 on, 0 of 8 seeds stable at 4" in low
    assert true.startswith("true: REPRODUCED. ")


def test_the_boundary_follows_from_the_runs(lab: Any) -> None:
    lab.recipe("base")
    lab.sweep(WIDTH + "boundary: {low: 2, high: 8, points: 3, ratio: 2.1}\n", "width")
    for seed in (0, 1):
        lab.run("base", seed, point=["model.width=2"])
        lab.run("base", seed, point=["model.width=4"])
        lab.run("base", seed, status="DIVERGED", point=["model.width=8"])
    remarks = lab.report("width").remarks
    assert any(remark.startswith("high end: between 8 (0 of 2 stable) and 4") for remark in remarks)
    assert any(remark.startswith("low end: none in the range") for remark in remarks)


RULES = "stop: {typo: train/accuracy < 50%, half: test/acc < 1% or train/x > 1.5}\n"


def test_a_rule_that_was_never_tried_is_said_beside_what_is_stable(lab: Any) -> None:
    lab.recipe("base", RULES)
    lab.sweep(WIDTH + "boundary: {low: 2, high: 8, points: 3, ratio: 2.1}\n", "width")
    for seed in (0, 1):
        for width in (2, 4, 8):
            lab.run("base", seed, point=[f"model.width={width}"])
    grid = lab.report("width")
    assert (
        "rule typo was never tried in 2 of 2 runs: no train/accuracy was journalled" in grid.notes
    )
    partly = "rule half was tried in part only in 2 of 2 runs: no train/x was journalled"
    assert partly in grid.notes
    said = "rule typo was never tried in 6 of 6 runs: no train/accuracy was journalled"
    assert said in grid.remarks


def test_a_rule_that_was_tried_needs_no_word(lab: Any) -> None:
    lab.recipe("base", "stop: {collapsed: test/acc < 1%}\n")
    lab.sweep(WIDTH, "width")
    lab.run("base", 0, point=["model.width=2"])
    assert not any("tried" in note for note in lab.report("width").notes)


def test_the_plot_shows_what_the_table_says(wide: Any) -> None:
    rows = Rows(wide.project, wide.registry, None, ())
    drawn = marks(swept(rows, "width").along, "test/acc")
    assert [(mark.x, mark.stable, mark.seeds) for mark in drawn] == [
        (2.0, 1.0, (50.0, 60.0)), (4.0, 1.0, (70.0, 70.0)), (8.0, 0.5, (90.0,)),
    ]  # fmt: skip
    plot = report(wide.project, wide.registry, "width").plots[0]
    assert plot.name == "width" and plot.png.startswith(b"\x89PNG")
    assert ElementTree.fromstring(plot.svg).tag.endswith("svg")
    assert plot.csv.splitlines() == [
        "model.width,mean,sd,n,stable",
        f"2,55.0,{50**0.5},2,1.0",
        "4,70.0,0.0,2,1.0",
        "8,90.0,,1,0.5",
    ]
    again = report(wide.project, wide.registry, "width").plots[0]
    assert again == plot, "the same runs give the same bytes"


def test_two_fields_span_a_plane(lab: Any) -> None:
    lab.recipe("base")
    lab.sweep("recipe: base\naxes: {width: '2,4', peak: '0.1,0.2'}\nseeds: [0, 1]\n", "both")
    for width, peak, accs in ((2, 0.1, (0.5, 0.6)), (4, 0.1, (0.9, 0.7)), (4, 0.2, (0.8, None))):
        for seed, acc in enumerate(accs):
            status = "DONE" if acc else "DIVERGED"
            point = [f"model.width={width}", f"schedules.lr.peak={peak}"]
            lab.run("base", seed, acc=acc or 0.1, status=status, point=point)
    lab.run("base", 0, acc=0.3, point=["model.width=3", "schedules.lr.peak=0.15"])  # a search's
    (plot,) = [plot for plot in lab.report("both").plots if plot.name == "both"]
    assert [line.split(",") for line in plot.csv.splitlines()] == [
        ["model.width", "schedules.lr.peak", "mean", "sd", "n", "stable"],
        ["2", "0.1", "55.0", str(50**0.5), "2", "1.0"],
        ["4", "0.1", "80.0", str(200**0.5), "2", "1.0"],
        ["4", "0.2", "80.0", "", "1", "0.5"],
    ]
    assert plot.svg.count("P(stable) 0.50") == 1 and "P(stable) 1" not in plot.svg


def test_a_plane_without_a_mean_says_what_was_stable(lab: Any) -> None:
    lab.recipe("base")
    lab.sweep("recipe: base\naxes: {width: '2,4', peak: '0.1,0.2'}\nseeds: [0]\n", "both")
    assert not lab.report("both").plots
    lab.run("base", 0, status="HALTED", point=["model.width=2", "schedules.lr.peak=0.1"])
    (plot,) = lab.report("both").plots
    assert "P(stable) 0.00" in plot.svg


def test_values_that_are_no_numbers_stand_side_by_side(lab: Any) -> None:
    lab.recipe("base")
    lab.sweep("recipe: base\naxes: {precision: [fp32, bf16]}\nseeds: [0]\n", "precision")
    for name in ("fp32", "bf16"):
        lab.run("base", 0, point=[f"numerics.precision={name}"])
    found = swept(Rows(lab.project, lab.registry, None, ()), "precision")
    assert [(mark.x, mark.label) for mark in marks(found.along, "test/acc")] == [
        (0.0, "bf16"), (1.0, "fp32"),
    ]  # fmt: skip


def test_a_value_is_one_row_however_it_is_written(lab: Any) -> None:
    lab.recipe("base")
    lab.sweep("recipe: base\naxes: {precision: [\"'fp32'\"]}\nseeds: [0]\n", "precision")
    lab.run("base", 0, point=["numerics.precision=fp32"])
    assert [row.cells[0].text for row in lab.report("precision").rows] == ["precision fp32"]


def test_what_is_missing_besides_the_file_says_its_values_and_seeds(wide: Any) -> None:
    wide.run("base", 5, status="FAILED", message="x", point=["model.width=6"])
    notes = wide.report("width").notes
    command = "labctl sweep width --values model.width=6 --seeds 5,"
    assert f"failed: seed 5 (x); again: {command} --retry failed" in notes
    wide.run("base", 7, status="FAILED", message="y", point=["batch_size=32"])
    notes = wide.report("base.batch_size").notes
    command = "labctl sweep batch_size --recipe base --values batch_size=32"
    assert any(f"failed: seed 7 (y); again: {command} --seeds " in note for note in notes), notes


def test_seeds_of_an_earlier_recipe_are_not_missing(wide: Any) -> None:
    wide.run("base", 5, acc=0.8, point=["model.width=2"])
    assert wide.cell(wide.report("width"), 0, "P(stable)").text == "1.00 (3 of 3)"
    path = wide.project.recipes / "base.yaml"
    path.write_text(path.read_text().replace("batch_size: 64", "batch_size: 32"))
    grid = wide.report("width")
    assert "missing: seeds 0, 1; train: labctl sweep width" in grid.notes
    assert wide.cell(grid, 0, "P(stable)").text == "missing (0 of 2)"


def test_a_threshold_over_words_is_said_to_have_no_sides(lab: Any) -> None:
    lab.recipe("base")
    claims = "claims: {edge: {stable_from: 4}}\n"
    lab.sweep("recipe: base\naxes: {precision: [fp32, bf16]}\nseeds: [0]\n" + claims, "precision")
    lab.run("base", 0, point=["numerics.precision=fp32"])
    with pytest.raises(UsageError, match="is no number"):
        lab.report("precision")


def test_an_open_threshold_says_how_many_seeds_would_settle_it(lab: Any) -> None:
    """Three of four stable on the right side, one of four below: by simulation, so many seeds make
    the verdict clear in four cases of five."""
    lab.recipe("base")
    lab.sweep(
        "recipe: base\naxes: {width: '2,4'}\nseeds: 8\nclaims: {edge: {stable_from: 4}}\n", "width"
    )
    for seed in range(8):
        lab.run("base", seed, status="DONE" if seed < 2 else "HALTED", point=["model.width=2"])
        lab.run("base", seed, status="HALTED" if seed < 2 else "DONE", point=["model.width=4"])
    (said,) = [remark for remark in lab.report("width").remarks if "stable from" in remark]
    assert said.startswith("edge: UNRESOLVED. ")
    found = re.search(r"about (\d+) seeds would settle it with probability 0.8", said)
    assert found
    seeds, rng = int(found[1]), np.random.default_rng(23)
    right = rng.binomial(seeds, 0.75, size=(4000, 2))
    p = stats.binom.sf(right - 1, seeds, 0.5).max(axis=1)
    assert 0.78 < np.mean(p <= 0.05) < 0.95


@pytest.mark.parametrize(
    ("field", "own", "other"),
    [
        ("schedules.token_drop", "0.1", "0.2"),
        ("schedules.lr.peak", "0.001", "0.002"),
        ("model.width", "4", "8"),
        ("batch_size", "64", "32"),
        ("budget", "4ep", "2ep"),
    ],
)
def test_the_point_that_is_the_recipe_itself_has_a_row_beside_those_of_a_sweep_without_a_file(
    lab: Any, field: str, own: str, other: str
) -> None:
    schedules = "{lr: {kind: cosine, peak: 1e-3}, token_drop: 0.1}"
    lab.recipe("base", schedules=schedules, model="{architecture: toy, width: 4}")
    for seed in (0, 1):
        lab.run("base", seed, acc=0.7)
        lab.run("base", seed, acc=0.9, point=[f"{field}={other}"])
    grid = lab.report(f"base.{field}")
    short = field.rpartition(".")[2]
    labels = {row.cells[0].text for row in grid.rows}
    assert labels == {f"{short} {own}", f"{short} {other}"}
    place = [row.cells[0].text for row in grid.rows].index(f"{short} {own}")
    assert lab.cell(grid, place, "test/acc (%)").text == "70.00 \u00b1 0.00 (n=2)"


def test_the_recipe_itself_is_no_row_before_it_was_trained(lab: Any) -> None:
    lab.recipe("base")
    lab.run("base", 0, point=["model.width=8"])
    assert [row.cells[0].text for row in lab.report("base.model.width").rows] == ["width 8"]


def test_seeds_that_joined_at_a_point_are_said(lab: Any) -> None:
    lab.recipe("base", seeds="{min: 2, max: 6, until: ci_halfwidth <= 1}")
    for seed, acc in enumerate((0.70, 0.71, 0.72, 0.71)):
        lab.run("base", seed, acc=acc, point=["model.width=8"])
    grid = lab.report("base.model.width")
    assert lab.cell(grid, 0, "test/acc (%)").text.endswith("(n=4)")
    assert any(note.startswith("seeds joined until ci_halfwidth <= 1") for note in grid.notes)
