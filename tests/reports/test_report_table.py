"""Tables as files: what they may say, and what is said when they may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labctl.errors import RecipeError, UsageError
from labctl.project import Project
from labctl.recipe.catalogue import listed
from labctl.registry.registry import Registry
from labctl.reports.report import report
from labctl.reports.table import MetricColumn, TimeColumn, load_table, recipes_of

ROOT = Path(__file__).parents[2]


def problems(lab: Any, text: str) -> list[str]:
    lab.table(text)
    with pytest.raises(RecipeError) as caught:
        load_table(lab.project, "main")
    return [str(problem) for problem in caught.value.problems]


def test_a_table_is_read(lab: Any) -> None:
    lab.table(
        """
        title: All of it
        baseline: base
        rows: [{recipe: base}, {recipe: ctd, label: CTD}]
        columns:
          - {kind: metric, metric: test/acc, summary: at(max val/acc), digits: 1}
          - {kind: time, wall: true}
        """
    )
    file = load_table(lab.project, "main")
    assert file.name == "main"
    metric, time = file.table.columns
    assert isinstance(metric, MetricColumn)
    assert metric.pick is not None
    assert (metric.pick.extreme, metric.pick.metric) == ("max", "val/acc")
    assert isinstance(time, TimeColumn)
    assert time.quantity == "wall"


def test_recipes_come_once_with_the_baseline(lab: Any) -> None:
    lab.table(
        """
        baseline: base
        rows: [{recipe: ctd}, {recipe: late}, {recipe: ctd}]
        columns: [{kind: gap}]
        """
    )
    assert recipes_of(lab.project, "main") == ["ctd", "late", "base"]


def test_a_tag_stands_for_every_recipe_that_has_it(lab: Any) -> None:
    lab.recipe("base")
    lab.recipe("deep", tags="[mine, deep]", presets="{long: {budget: 9ep}}")
    lab.recipe("child", extends="deep.yaml", title="inherits its tags")
    lab.recipe("plain", tags="[mine]")
    rows = "rows: [{recipe: base}, {tag: mine, label: My}, {tag: deep}]"
    lab.table(f"{rows}\ncolumns: [{{kind: gap}}]\n")
    assert recipes_of(lab.project, "main") == ["base", "child", "deep", "plain"]
    assert [row.cells[0].text for row in lab.report().rows] == [
        "base", "My child", "My deep", "My plain", "child", "deep",
    ]  # fmt: skip
    lab.table("rows: [{tag: mine}]\ncolumns: [{kind: gap}]\n")
    assert recipes_of(lab.project, "main", "long") == ["child", "deep"], "have that preset"


def test_a_tag_that_nothing_has_suggests_one(lab: Any) -> None:
    lab.recipe("base", tags="[mine]")
    (problem,) = problems(lab, "rows: [{recipe: base}, {tag: nine}]\ncolumns: [{kind: gap}]\n")
    assert problem.startswith("recipes/tables/main.yaml:1:25: no recipe is tagged 'nine'")
    assert "did you mean 'mine'?" in problem


def test_a_row_after_a_tag_is_reported_at_its_own_place(lab: Any) -> None:
    lab.recipe("base", tags="[mine]")
    lab.recipe("other", tags="[mine]")
    lab.table("rows:\n  - {tag: mine}\n  - {recipe: bose}\ncolumns: [{kind: gap}]\n")
    with pytest.raises(RecipeError) as caught:
        lab.report()
    (problem,) = map(str, caught.value.problems)
    assert problem.startswith("recipes/tables/main.yaml:3:6: no recipe 'bose'")


def test_a_path_names_a_table_too(lab: Any) -> None:
    path = lab.table("rows: [{recipe: a}]\ncolumns: [{kind: gap}]\n")
    elsewhere = lab.project.root / "mine.yaml"
    path.rename(elsewhere)
    assert load_table(lab.project, "mine.yaml").name == "mine"


def test_an_unknown_table_suggests_one(lab: Any) -> None:
    lab.table("rows: [{recipe: a}]\ncolumns: [{kind: gap}]\n", name="ctd_mine")
    with pytest.raises(UsageError, match="no table 'ctd_mime'") as caught:
        load_table(lab.project, "ctd_mime")
    assert "did you mean 'ctd_mine'?" in str(caught.value)


def test_every_fault_is_reported_at_its_place(lab: Any) -> None:
    found = problems(
        lab,
        """\
        titel: x
        rows:
          - {recipe: base, lable: Base}
          - {label: nothing}
        columns:
          - {kind: metrik, metric: test/acc}
          - {kind: metric, metrc: test/acc}
          - {kind: speedup}
          - {metric: test/acc}
          - {kind: metric, metric: test/acc, digits: 99}
        """,
    )
    text = "\n".join(found)
    name = "recipes/tables/main.yaml"
    assert f"{name}:1:1: unknown field 'titel'" in text
    assert "did you mean 'title'?" in text
    assert f"{name}:3:20: unknown field 'rows.0.lable'" in text
    assert "did you mean 'label'?" in text
    assert f"{name}:4:5: rows.1: a row shows a recipe, a sweep or a tag" in text
    assert f"{name}:6:6: no kind of column 'metrik'" in text
    assert "did you mean 'metric'?" in text
    assert f"{name}:7:20: unknown field 'columns.1.metrc'" in text
    assert f"{name}:7:5: columns.1.metric is missing" in text
    assert f"{name}:8:5: a speed-up over what?" in text
    assert f"{name}:9:5: columns.3.kind is missing" in text
    assert f"{name}:10:38: columns.4.digits" in text


@pytest.mark.parametrize("columns", ["", "columns: []", "columns: {kind: gap}"])
def test_a_table_needs_columns(lab: Any, columns: str) -> None:
    (problem,) = problems(lab, f"rows: [{{recipe: a}}]\n{columns}\n")
    assert "columns should be a list of at least one column" in problem
    assert "for example" in problem


@pytest.mark.parametrize("rule", ["at(max test/acc)", "at(min test/loss)", "best"])
def test_selection_on_the_test_set_is_refused(lab: Any, rule: str) -> None:
    column = f"{{kind: metric, metric: test/acc, summary: {rule}}}"
    (problem,) = problems(lab, f"rows: [{{recipe: a}}]\ncolumns: [{column}]\n")
    assert "recipes/tables/main.yaml:2:" in problem
    assert "reports the luckiest one on the test set" in problem
    assert "at(max val/acc)" in problem and "allow_test_selection: true" in problem


@pytest.mark.parametrize(
    ("rule", "value"), [("best", 80.0), ("at(max test/acc)", 80.0), ("at(min test/loss)", 70.0)]
)
def test_selection_on_the_test_set_that_is_asked_for_is_footnoted(
    lab: Any, rule: str, value: float
) -> None:
    lab.recipe("base", seeds="[0]")
    early = {22: {"test/acc": 0.8, "test/loss": 0.5}, 44: {"test/acc": 0.7, "test/loss": 0.1}}
    lab.run("base", 0, acc=0.6, evaluations=early)
    column = f"metric: test/acc, label: acc, allow_test_selection: true, summary: {rule}"
    lab.table(f"rows: [{{recipe: base}}]\ncolumns: [{{kind: metric, {column}}}]\n")
    grid = lab.report()
    assert lab.cell(grid, 0, "acc").numbers["mean"] == pytest.approx(value)
    (remark,) = [remark for remark in grid.remarks if remark.startswith("acc: ")]
    assert "picked on the test set itself" in remark and "first of several equal" in remark


def test_the_best_of_a_validation_metric(lab: Any) -> None:
    lab.recipe("base", seeds="[0]")
    steps = lab.plan("base", 0).work.steps
    early = {44: {"val/acc": 0.8, "val/loss": 0.2}, steps: {"val/acc": 0.8, "val/loss": 0.3}}
    lab.run("base", 0, evaluations=early)
    lab.table(
        """
        rows: [{recipe: base}]
        columns:
          - {kind: metric, metric: val/acc, label: acc, summary: best}
          - {kind: metric, metric: val/loss, label: loss, summary: best}
        """
    )
    grid = lab.report()
    assert lab.cell(grid, 0, "acc").numbers["mean"] == pytest.approx(80)
    assert lab.cell(grid, 0, "loss").numbers["mean"] == pytest.approx(0.2)
    assert "acc: at the evaluation where val/acc is largest" in "\n".join(grid.remarks)
    assert "loss: at the evaluation where val/loss is smallest" in "\n".join(grid.remarks)
    assert not any("test set" in remark for remark in grid.remarks)


def test_large_figures_have_their_thousands_parted_for_readers_alone(lab: Any) -> None:
    lab.recipe("base", seeds="[0, 1]")
    for seed, rate in enumerate((279_000, 281_500)):
        steps = lab.plan("base", seed).work.steps
        lab.run("base", seed, evaluations={steps: {"test/rate": rate}})
    column = "{kind: metric, metric: test/rate, label: rate, digits: 0}"
    lab.table(f"rows: [{{recipe: base}}]\ncolumns: [{column}]\n")
    cell = lab.cell(lab.report(), 0, "rate")
    assert cell.text == "280,250 \N{PLUS-MINUS SIGN} 1,768 (n=2)"
    assert cell.numbers["mean"] == pytest.approx(280_250)


@pytest.mark.parametrize(
    ("seconds", "flops", "shown"),
    [
        ((5.5, 50.1), (1.2e13, 2.3e15), ("5.5 s", "50.1 s", "12.00 TFLOP", "2300.00 TFLOP")),
        ((300, 900), (7.5e8, 1e9), ("5.0 min", "15.0 min", "0.75 GFLOP", "1.00 GFLOP")),
        ((10, 36_000), (1e6, 1e12), ("0.2 min", "600.0 min", "0.00 GFLOP", "1000.00 GFLOP")),
    ],
)
def test_the_shortest_decides_the_unit_unless_the_longest_is_far_off(
    lab: Any, seconds: tuple[float, ...], flops: tuple[float, ...], shown: tuple[str, ...]
) -> None:
    for name, time, executed in zip(("base", "ctd"), seconds, flops, strict=True):
        lab.recipe(name, batch_size="32" if name == "ctd" else "64", seeds="[0]")
        steps = lab.plan(name, 0).work.steps
        lab.run(name, 0, rate=time / steps, flops=executed)
    lab.table(
        "{title: T, rows: [{recipe: base}, {recipe: ctd}], columns: [{kind: time}, {kind: flops}]}"
    )
    grid = lab.report()
    times = [lab.cell(grid, row, "Training time").text.partition(" (")[0] for row in (0, 1)]
    counts = [lab.cell(grid, row, "Training FLOPs").text for row in (0, 1)]
    assert (*times, *counts) == shown


def test_best_needs_a_metric_whose_better_values_are_known(lab: Any) -> None:
    column = "{kind: metric, metric: val/entropy, summary: best}"
    (problem,) = problems(lab, f"rows: [{{recipe: a}}]\ncolumns: [{column}]\n")
    assert "is a higher val/entropy better, or a lower one? write at(max val/entropy)" in problem
    column = column.replace("val/entropy", "maps/entropy")
    (problem,) = problems(lab, f"rows: [{{recipe: a}}]\ncolumns: [{column}]\n")
    assert "write at(max val/METRIC) or at(min val/METRIC)" in problem


def test_a_row_without_a_validation_part_says_so(lab: Any) -> None:
    lab.recipe("base", seeds="[0]")
    lab.run("base", 0)
    column = "{kind: metric, metric: test/acc, label: acc, summary: at(max val/acc)}"
    lab.table(f"rows: [{{recipe: base}}]\ncolumns: [{column}]\n")
    (note,) = lab.cell(lab.report(), 0, "acc").notes
    assert note == "base: no val/acc was evaluated; data.val carves a validation part (seed 0)"


@pytest.mark.parametrize("rule", ["at(val/acc)", "at(max train/loss)", "max val/acc"])
def test_other_rules_are_refused_with_those_that_work(lab: Any, rule: str) -> None:
    column = f"{{kind: metric, metric: test/acc, summary: {rule}}}"
    (problem,) = problems(lab, f"rows: [{{recipe: a}}]\ncolumns: [{column}]\n")
    assert "should be last, best, at(max val/METRIC) or at(min val/METRIC)" in problem


def test_a_row_without_a_recipe_is_reported_at_its_place(lab: Any) -> None:
    lab.recipe("base")
    lab.table(
        """\
        baseline: bsae
        rows:
          - {recipe: base}
          - {recipe: bose}
        columns: [{kind: gap}]
        """
    )
    with pytest.raises(RecipeError) as caught:
        lab.report()
    first, second = map(str, caught.value.problems)
    assert first.startswith("recipes/tables/main.yaml:4:6: no recipe 'bose'")
    assert second.startswith("recipes/tables/main.yaml:1:1: no recipe 'bsae'")
    assert "did you mean 'base'?" in first


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in listed(Project(ROOT), "tables")])
@pytest.mark.parametrize("preset", [None, "smoke"])
def test_the_bundled_tables_can_be_made_without_a_single_run(
    name: str, preset: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABCTL_RUNS", str(tmp_path))
    project = Project(ROOT)
    table = name.removeprefix("tables/")
    grid = report(project, Registry(project.plugins), table, preset)
    assert {row.facts["recipe"] for row in grid.rows} <= set(recipes_of(project, table))
