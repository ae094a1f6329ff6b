"""Plots against figures worked out by hand, and what they look like in a file."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from labctl.reports.plots.curves import learning_curves, lines
from labctl.reports.plots.frontier import Offer, front, frontier
from labctl.reports.plots.plot import PALETTE, color, dash, write_plot
from labctl.reports.plots.schedules import schedules
from labctl.reports.plots.stability import Mark, stability
from labctl.reports.report import report
from labctl.reports.result import Curve, PhaseFact, Result, result_of
from labctl.reports.rows import Row
from labctl.reports.statistics import Summary

TABLE = """\
title: two
baseline: base
rows: [{recipe: base, label: Base}, {recipe: other, label: Other}]
columns: [{kind: metric, metric: test/acc}, {kind: time}]
"""


def table_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def named(lab: Any) -> list[tuple[str, Row]]:
    """`base` at 60 and 80 %, `other` at 50 %; both were evaluated before."""
    lab.recipe("base")
    lab.recipe("other", seeds="[0]")
    early = {44: {"test/acc": 0.2}}
    results: dict[str, dict[int, Result]] = {"base": {}, "other": {}}
    for seed, acc in ((0, 0.6), (1, 0.8)):
        results["base"][seed] = result_of(lab.run("base", seed, acc=acc, evaluations=early))
    results["other"][0] = result_of(lab.run("other", 0, acc=0.5, rate=0.005, flops=5e8))
    return [(name.title(), Row(lab.loaded(name), found, {})) for name, found in results.items()]


def changed(row: Row, **fields: Any) -> Row:
    """The row with other fields in all of its results."""
    results = {seed: one.model_copy(update=fields) for seed, one in row.results.items()}
    return Row(row.recipe, results, row.absent)


def curves(points: Mapping[int, float]) -> dict[str, Curve]:
    return {"test/acc": Curve.of(points)}


def test_a_curve_is_the_mean_of_the_steps_that_all_seeds_have(
    named: Sequence[tuple[str, Row]],
) -> None:
    label, row = named[0]
    length = int(row.results[0].work["steps_per_epoch"])
    results = {
        0: row.results[0].model_copy(
            update={"evaluations": curves({length: 0.2, 2 * length: 0.4, 3 * length: 0.5})}
        ),
        1: row.results[1].model_copy(
            update={"evaluations": curves({length: 0.4, 3 * length: 0.7, 4 * length: 0.9})}
        ),
    }
    (line,) = lines([(label, Row(row.recipe, results, {}))], "test/acc")
    assert line.epochs == (1.0, 3.0)
    assert [one.mean for one in line.summaries] == pytest.approx([30.0, 60.0])
    assert [one.sd for one in line.summaries] == pytest.approx([200**0.5, 200**0.5])


@pytest.mark.slow
def test_learning_curves_name_their_rows_and_their_band(named: Sequence[tuple[str, Row]]) -> None:
    plot = learning_curves(named, "test/acc", "main-curves")
    assert plot is not None and plot.caption == (
        "test/acc over training, mean over seeds; bands: \u00b1 sd"
    )
    rows = table_of(plot.csv)
    assert {row["row"] for row in rows} == {"Base"}, "one point is no curve"
    assert (float(rows[-1]["mean"]), rows[-1]["n"]) == (pytest.approx(70.0), "2")
    assert "test/acc (%)" in plot.svg and "Base" in plot.svg, "text stays text"
    assert learning_curves(named, "test/f1", "main-curves") is None


@pytest.mark.slow
@pytest.mark.parametrize("label", [r"$\foo$ & 100 %", r"$\alpha$ x_1"])
def test_labels_are_drawn_as_they_are_written(named: Sequence[tuple[str, Row]], label: str) -> None:
    """A dollar begins no formula, in which one of these would be an error."""
    plot = learning_curves([(label, named[0][1])], "test/acc", "c")
    assert plot is not None
    assert label in {element.text for element in ElementTree.fromstring(plot.svg).iter()}


def test_values_over_decades_are_written_without_formulas() -> None:
    found = [Mark(10.0**-n, f"1e-{n}", 50.0, None, (50.0,), 1.0) for n in range(1, 5)]
    plot = stability("lr", "lr.peak", "test/acc", found, "lr")
    assert "$" not in plot.svg and ">0.001<" in plot.svg


def test_schedules_show_what_moves_and_what_it_came_to(named: Sequence[tuple[str, Row]]) -> None:
    (_, base), other = named
    length = int(base.results[0].work["steps_per_epoch"])
    training = {
        "knob/drop": Curve.of({length: 0.0, 2 * length: 0.5}),
        "knob/still": Curve.of({length: 1.0, 2 * length: 1.0}),
        "train/loss": Curve.of({length: 2.0, 2 * length: 1.0}),
    }
    phases = (
        PhaseFact(start=0, end=length, realised={"mac_ratio": 1.0}),
        PhaseFact(start=length, end=2 * length, realised={"mac_ratio": 0.75}),
    )
    plot = schedules([("Base", changed(base, training=training, phases=phases)), other], "s")
    assert plot is not None
    rows = table_of(plot.csv)
    assert [(r["row"], r["knob"], float(r["epoch"]), float(r["value"])) for r in rows] == [
        ("Base", "drop", 1.0, 0.0), ("Base", "drop", 2.0, 0.5),
        ("Base", "mac_ratio", 0.0, 1.0), ("Base", "mac_ratio", 1.0, 1.0),
        ("Base", "mac_ratio", 1.0, 0.75), ("Base", "mac_ratio", 2.0, 0.75),
    ]  # fmt: skip
    assert "mac_ratio: multiply-accumulates" in plot.caption
    assert schedules([("Base", changed(base, training={}, phases=()))], "s") is None


def offer(cost: float, gain: float) -> Offer:
    return Offer(f"{cost} {gain}", 0, Summary(cost, None, 1), Summary(gain, None, 1))


def test_the_front_holds_what_nothing_dominates() -> None:
    offers = [offer(3, 5), offer(1, 2), offer(2, 2), offer(2, 4), offer(4, 5), offer(1, 1)]
    assert [(one.cost.mean, one.gain.mean) for one in front(offers, "higher")] == [
        (1, 2), (2, 4), (3, 5),
    ]  # fmt: skip
    assert [(one.cost.mean, one.gain.mean) for one in front(offers, "lower")] == [(1, 1)]


def test_a_frontier_over_flops_and_time(named: Sequence[tuple[str, Row]]) -> None:
    plot = frontier(named, "test/acc", "main-frontier")
    assert plot is not None
    by_cost = {(row["row"], row["cost"]): row for row in table_of(plot.csv)}
    assert set(by_cost) == {(r, c) for r in ("Base", "Other") for c in ("flops", "time")}
    base = by_cost["Base", "flops"]
    assert (float(base["cost mean"]), float(base["mean"]), base["n"]) == (
        1e9,
        pytest.approx(70),
        "2",
    )
    assert {row["on the front"] for row in by_cost.values()} == {"True"}
    assert frontier(named[:1], "test/acc", "x") is None, "one row has nothing to be compared with"
    assert frontier(named, "test/f1", "x") is None


def test_times_of_different_hardware_are_not_compared(named: Sequence[tuple[str, Row]]) -> None:
    (label, row), other = named
    (known,) = row.conditions
    slow = changed(row, conditions=(known.model_copy(update={"device_name": "slow"}),))
    plot = frontier([(label, slow), other], "test/acc", "x")
    assert plot is not None and "different conditions" in plot.caption
    assert {line["cost"] for line in table_of(plot.csv)} == {"flops"}


def test_rows_beyond_the_colours_have_other_dashes() -> None:
    styles = [(color(place), dash(place)) for place in range(3 * len(PALETTE))]
    assert len(set(styles)) == len(styles)


@pytest.mark.slow
def test_a_plot_is_three_files_and_the_same_runs_give_the_same(
    lab: Any, named: Sequence[tuple[str, Row]], tmp_path: Path
) -> None:
    lab.table(TABLE)
    assert lab.report().plots == (), "a table without a sweep is drawn when asked"
    grid = report(lab.project, lab.registry, "main", plots=True)
    assert [plot.name for plot in grid.plots] == ["main-curves", "main-frontier"]
    assert report(lab.project, lab.registry, "main", plots=True).plots == grid.plots
    paths = write_plot(grid.plots[0], tmp_path / "figures")
    assert [path.name for path in paths] == [
        "main-curves.png", "main-curves.svg", "main-curves.csv",
    ]  # fmt: skip
    assert paths[0].read_bytes().startswith(b"\x89PNG")
    assert ElementTree.parse(paths[1]).getroot().tag.endswith("svg")


def test_too_many_rows_are_not_drawn_over_one_another(lab: Any) -> None:
    for number in range(13):
        lab.recipe(f"r{number}", seeds="[0]", title=f"'{number}'")
        lab.run(f"r{number}", 0)
    rows = ", ".join(f"{{recipe: r{number}}}" for number in range(13))
    lab.table(f"rows: [{rows}]\ncolumns: [{{kind: metric, metric: test/acc}}]\n")
    assert report(lab.project, lab.registry, "main", plots=True).plots == ()
