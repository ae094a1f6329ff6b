"""Bundles: what they keep, what they leave out, and what is said of a bad one."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labctl.errors import RecipeError, UsageError
from labctl.reports.bundle import bundle, read_bundle, without_paths, write_bundle
from labctl.reports.result import result_of


@pytest.fixture
def base(lab: Any) -> Any:
    lab.recipe("base")
    return lab


def test_a_bundle_read_back_is_what_was_published(base: Any, tmp_path: Path) -> None:
    tokens = [(0, 10, 64.0)]
    runs = [base.run("base", seed, acc=0.1 + seed, tokens=tokens) for seed in (2, 0, 1)]
    write_bundle(runs, tmp_path / "x.json")
    read = read_bundle(tmp_path / "x.json")
    assert [result.seed for result in read.results] == [0, 1, 2]
    for run, result in zip((runs[1], runs[2], runs[0]), read.results, strict=True):
        assert result == result_of(run)
    first = read.results[0]
    assert first.first_losses == ("2.5", "2.25")
    assert first.parameters == 1234
    assert first.plan["work"]["batch_size"] == 64
    assert first.provenance.commit == "c0ffee" * 6
    assert first.provenance.packages["torch"] == "2.11.0"
    assert first.conditions[0].device_name == "NVIDIA H200"
    assert first.ledger["train_flops"] == 1e9


def test_the_same_work_counts_whatever_it_was_published_as(base: Any, tmp_path: Path) -> None:
    """A point of a sweep at which every field stands where the recipe has it, or another recipe."""
    base.recipe("twin")
    base.table("{title: T, rows: [{recipe: base}], columns: [{kind: metric, metric: test/acc}]}")
    runs = [base.run("base", 0, acc=0.25, point=("schedules.lr.peak=1e-3",)), base.run("twin", 1)]
    assert runs[0].plan.point and runs[0].plan.key == base.plan("base", 0).key
    write_bundle(runs, tmp_path / "x.json")
    for run in runs:
        shutil.rmtree(run.folder)
    grid = base.report(bundles=[tmp_path / "x.json"])
    assert base.cell(grid, 0, "test/acc (%)").seeds == {0: 25.0, 1: 50.0}
    assert len(grid.rows) == 1


def test_the_same_runs_give_the_same_bytes(base: Any, tmp_path: Path) -> None:
    runs = [base.run("base", seed) for seed in range(3)]
    write_bundle(runs, tmp_path / "a.json")
    write_bundle([*reversed(runs), runs[0]], tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert json.loads((tmp_path / "a.json").read_text()) == bundle(runs)


def test_nothing_names_a_machine_a_user_or_a_folder(base: Any, tmp_path: Path) -> None:
    images = tmp_path / "images.npz"
    np.savez(
        images,
        train_images=np.zeros((64, 8, 8), np.uint8),
        train_labels=np.arange(64) % 2,
        test_images=np.zeros((8, 8, 8), np.uint8),
        test_labels=np.arange(8) % 2,
    )
    base.recipe("base", data=f"{{name: npz, path: {images}, classes: 2}}", seeds="[0]")
    facts = {"device": "cuda", "device_name": "NVIDIA H200", "device_uuid": "GPU-1234"}
    message = f"loss stopped being finite, see {images}"
    run = base.run("base", 0, status="DIVERGED", message=message, facts=facts)
    write_bundle([run], tmp_path / "x.json")
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    for private in ("home", "workstation", "GPU-1234", "git@host", "labctl run", str(tmp_path)):
        assert private not in text, private
    result = read_bundle(tmp_path / "x.json").results[0]
    assert result.message == "loss stopped being finite, see images.npz"
    assert result.plan["work"]["data"]["config"]["path"] == "images.npz"


@pytest.mark.parametrize(
    ("text", "published"),
    [
        ("/home/ada/x.npz", "x.npz"),
        ("~/data/x.npz", "x.npz"),
        ("see /tmp/a.txt, then /b", "see a.txt, then b"),
        ("train/clean/acc", "train/clean/acc"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("a / b and 1/2", "a / b and 1/2"),
        ("bases/x.yaml", "bases/x.yaml"),
    ],
)
def test_only_absolute_paths_are_cut(text: str, published: str) -> None:
    assert without_paths([{"k": text}]) == [{"k": published}]


def test_figures_that_are_not_finite_survive(base: Any, tmp_path: Path) -> None:
    steps = base.plan("base", 0).work.steps
    run = base.run("base", 0, evaluations={steps: {"test/loss": math.inf, "test/x": math.nan}})
    write_bundle([run], tmp_path / "x.json")
    result = read_bundle(tmp_path / "x.json").results[0]
    assert result.metrics["test/loss"] == math.inf
    assert math.isnan(result.metrics["test/x"])
    assert result.evaluations["test/loss"].values == (math.inf,)


def test_unfinished_runs_are_not_published(base: Any) -> None:
    runs = [base.run("base", 0), base.run("base", 1, status="LOST")]
    with pytest.raises(
        UsageError, match=r"only finished runs can be published: base seed=1 \(LOST\)"
    ):
        bundle(runs)
    with pytest.raises(UsageError, match="no runs to bundle"):
        bundle([])


def change_format(content: Any) -> None:
    content["labctl_bundle"] = 99


def remove_marker(content: Any) -> None:
    del content["labctl_bundle"]


def remove_runs(content: Any) -> None:
    content["runs"] = {}


def spoil_field(content: Any) -> None:
    content["runs"][0]["seed"] = "two"
    content["runs"][0]["surprise"] = 1


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (change_format, "x.json: a bundle of format 99; this labctl reads format 1"),
        (remove_marker, "x.json: not a bundle"),
        (remove_runs, "x.json: damaged: no list of runs"),
        (spoil_field, r"x.json: run 1: damaged: seed: .*integer.*surprise: Extra inputs"),
    ],
)
def test_a_bad_bundle_is_refused_by_name(
    base: Any, tmp_path: Path, spoil: Callable[[Any], None], message: str
) -> None:
    path = tmp_path / "x.json"
    write_bundle([base.run("base", 0)], path)
    content = json.loads(path.read_text(encoding="utf-8"))
    spoil(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        read_bundle(path, "x.json")


def test_a_file_that_is_not_there_or_not_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none.json: cannot be read: No such file"):
        read_bundle(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{", encoding="utf-8")
    with pytest.raises(UsageError, match=r"bad.json: not JSON"):
        read_bundle(tmp_path / "bad.json")


def test_other_json_among_the_results_is_left_alone(base: Any) -> None:
    base.table("rows: [{recipe: base}]\ncolumns: [{kind: gap}]\n")
    results = base.project.root / "docs" / "results"
    results.mkdir(parents=True)
    (results / "kernels.json").write_text('{"speed": 3}', encoding="utf-8")
    assert base.cell(base.report(), 0, "Train-test gap (points)").text == "missing (0 of 3)"
    (results / "list.json").write_text("[1, 2]", encoding="utf-8")
    assert base.cell(base.report(), 0, "Train-test gap (points)").text == "missing (0 of 3)"
    (results / "old.json").write_text('{"labctl_bundle": 0, "runs": []}', encoding="utf-8")
    with pytest.raises(UsageError, match=r"docs/results/old.json: a bundle of format 0"):
        base.report()


def test_a_bundle_whose_recipe_is_not_here_is_named(base: Any) -> None:
    base.table("rows: [{recipe: base}]\ncolumns: [{kind: gap}]\n")
    results = base.project.results
    results.mkdir(parents=True)
    write_bundle([base.run("base", 0)], results / "x.json")
    (base.project.recipes / "base.yaml").unlink()
    with pytest.raises(RecipeError, match=r"no recipe 'base'\n  .*x.json holds runs of it; a row"):
        base.report()
