"""`labctl sweep` and `labctl why` as a user meets them, on small runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import labctl
from labctl.store.run import Run

pytestmark = pytest.mark.slow

QUICK = """\
title: a sweep of the tests
recipe: quick
axes: {peak: 1e-3:3e-3}
step: 1e-3
columns: [{kind: metric, metric: test/acc}, {kind: stable}]
"""
SHORT = """\
extends: tiny.yaml
data: {val: 1181}
budget: 2ep
schedules: {lr: {warmup: 0ep}, token_drop: {start: 0ep, end: 2ep}}
evaluate: {every: 1ep}
stop: {collapsed: test/acc < 4%}
"""


@pytest.fixture
def swept(lab: Any) -> Any:
    """16 steps a run; a learning rate of 1e3 breaks them."""
    lab.write("quick", SHORT)
    (lab.root / "recipes/sweeps").mkdir()
    lab.write("sweeps/peak", QUICK)
    return lab


def runs(lab: Any) -> list[Any]:
    return sorted(lab.project.runs.glob("quick/*/seed=*"))


def test_a_sweep_trains_the_difference_and_makes_its_table(swept: Any) -> None:
    code, output = swept.labctl("sweep", "peak", "--values", "1e-3:2e-3", "--no-track")
    assert code == 0 and "4 runs: 4 DONE" in output, output
    code, output = swept.labctl("sweep", "peak", "--dry-run")
    assert code == 0 and "6 runs, 2 of them to be trained" in output
    assert "quick schedules.lr.peak=0.002 seed=1  DONE" in output
    code, output = swept.labctl("sweep", "peak", "--no-track")
    assert code == 0 and "6 runs: 4 DONE before, 2 DONE" in output, output
    code, output = swept.labctl("sweep", "peak", "--no-track", "--json")
    assert code == 0 and all(one["skipped"] for one in json.loads(output.split("\n6 runs")[0]))

    code, output = swept.labctl("report", "--table", "peak", "--json")
    assert code == 0, output
    grid = json.loads(output[output.index("{") : output.rindex("}") + 1])
    labels = [row["label"] if "label" in row else row["cells"][0]["text"] for row in grid["rows"]]
    assert labels == ["peak 0.001", "peak 0.002", "peak 0.003"]
    for name in ("peak.png", "peak.svg"):
        assert (swept.project.runs / "figures" / name).stat().st_size > 2000

    # A seed that is added later is trained at every point, and nothing else is.
    code, output = swept.labctl("sweep", "peak", "--seeds", "3", "--no-track")
    assert code == 0 and "9 runs: 6 DONE before, 3 DONE" in output, output
    for ending, begins in (("csv", "row,test/acc (%)"), ("md", "**"), ("json", "{"), ("tex", "%")):
        path = swept.root / f"table.{ending}"
        code, output = swept.labctl("report", "--table", "peak", "-o", str(path))
        assert code == 0 and path.read_text().startswith(begins), path.read_text()
    code, output = swept.labctl("report", "--table", "peak")
    assert output.count("(n=3)") == 3, output


def test_values_may_name_the_field(swept: Any) -> None:
    plain = ("sweep", "--recipe", "quick", "--dry-run", "--json")
    named = swept.labctl(*plain, "--values", "schedules.lr.peak=0.1,0.2")
    told = swept.labctl(*plain, "schedules.lr.peak", "--values", "0.1,0.2")
    assert named == told and named[0] == 0, named


def test_points_that_no_table_shows_are_shown_once_a_file_names_them(swept: Any) -> None:
    values = ("--values", "peak=1e-3", "--values", "batch_size=32")
    code, output = swept.labctl("sweep", "--recipe", "quick", *values, "--seeds", "1", "--no-track")
    assert code == 0 and "labctl report" not in output
    words = "write recipes/sweeps/NAME.yaml with recipe: quick, axes: {schedules.lr.peak: [..], "
    assert words in " ".join(output.split()), output
    axes = "{schedules.lr.peak: [1e-3], batch_size: [32]}"
    swept.write("sweeps/both", f"recipe: quick\naxes: {axes}\nseeds: [0]\n")
    code, output = swept.labctl("report", "--table", "both")
    assert code == 0 and "peak 0.001, batch_size 32" in output and "(n=1)" in output, output


def test_points_beside_a_files_axes_have_no_table_yet(swept: Any) -> None:
    swept.write("sweeps/peaks", "recipe: quick\naxes: {peak: [1e-3]}\nseeds: [0]\n")
    values = ("--values", "batch_size=32,64", "--values", "peak=1e-3,2e-3", "--zip")
    code, output = swept.labctl("sweep", "peaks", *values, "--no-track")
    assert code == 0 and "labctl report" not in output, output
    assert "batch_size: [..]}, combine: zip;" in " ".join(output.split()), output


def test_what_breaks_is_an_answer_and_what_fails_is_not(swept: Any) -> None:
    arguments = ("sweep", "peak", "--recipe", "quick", "--seeds", "1", "--no-track")
    values = ("--values", "1e-3,1e3")
    code, output = swept.labctl(*arguments, *values)
    assert code == 0, output
    assert "1 DONE" in output and ("1 DIVERGED" in output or "1 HALTED" in output), output
    code, output = swept.labctl("report", "--table", "quick.schedules.lr.peak")
    assert code == 0 and "0.00 (0 of 1)" in output and "1.00 (1 of 1)" in output, output

    # A file where a folder has to be: the run fails, stays failed, and is tried again on demand.
    code, output = swept.labctl(*arguments, "--values", "2e-3", "--dry-run", "--json")
    folder = Path(json.loads(output)[0]["folder"])
    folder.mkdir(parents=True)
    (folder / "journal").write_text("a file, not a folder")
    both = (*arguments, "--values", "1e-3,2e-3")
    assert swept.labctl(*both)[0] == 5
    (folder / "journal").unlink()
    code, output = swept.labctl(*both)
    assert code == 5 and "1 FAILED before" in output and "--retry failed" in output, output
    code, output = swept.labctl("why", str(folder))
    assert code == 0 and "failed: labctl run tries it again" in output, output
    code, output = swept.labctl(*both, "--retry", "failed,lost")
    assert code == 0 and "1 DONE before, 1 DONE" in output, output


def test_why_names_what_changed(swept: Any) -> None:
    swept.train_here("quick", "seeds=[1]", "schedules.lr.peak=1e-3")
    (folder,) = runs(swept)
    code, output = swept.labctl("why", "quick")
    assert code == 0 and "is done: it will not run again" in output, output
    swept.write("quick", SHORT.replace("2ep\n", "3ep\n"))
    code, output = swept.labctl("why", str(folder))
    assert "its recipe means other work now" in output, output
    assert "steps was 16, is 24" in output
    assert "schedules.lr.peak was" not in output, "the point is the same"


def test_a_boundary_is_found_and_goes_on_from_what_is_done(swept: Any) -> None:
    swept.write("quick", SHORT.replace("< 4%}", "< 4%, silent: train/x > 1}"))
    text = QUICK + "boundary: {low: 1e-2, high: 1e6, points: 3, ratio: 20}\nseeds: [0, 1]\n"
    swept.write("sweeps/peak", text)
    code, output = swept.labctl("sweep", "peak", "--boundary", "--dry-run")
    assert code == 0 and "6 runs, 6 of them to be trained" in output and not runs(swept), output
    code, output = swept.labctl("sweep", "peak", "--boundary", "--no-track")
    assert code == 0, output
    assert "low end: none in the range" in output and "high end: between" in output
    assert "rule silent was never tried in" in output
    done = len(runs(swept))
    code, output = swept.labctl("sweep", "peak", "--boundary", "--no-track", "--json")
    found = json.loads(output[output.index("{") :])
    assert code == 0 and found["is_finished"] and len(runs(swept)) == done
    bracket = found["high"]["bracket"]
    assert 1e-2 < bracket["stable"] < bracket["unstable"] <= 20 * bracket["stable"]
    same = labctl.boundary("peak", track=False, project=swept.root)
    assert same.plain() == found and len(runs(swept)) == done
    assert repr(same).splitlines() == found["sentences"] and "high end" in same._repr_html_()
    code, output = swept.labctl("report", "--table", "peak")
    assert "high end: between" in output, output


def test_a_search_goes_to_its_number_of_trials(swept: Any) -> None:
    search = (
        "search: {trials: 3, sampler: random, objectives: [{metric: val/acc, goal: maximize}],"
        " space: {peak: {low: 1e-4, high: 1e-2, log: true}}}\nseeds: [0]\n"
    )
    swept.write("sweeps/peak", QUICK + search)
    code, output = swept.labctl("sweep", "peak", "--search", "--dry-run")
    assert code == 0 and "0 of 3 trials" in output and not runs(swept), output
    for _ in range(2):
        code, output = swept.labctl("sweep", "peak", "--search", "--no-track")
        assert code == 0 and "3 of 3 trials: 3 complete" in output, output
    assert len(runs(swept)) == 3
    found = labctl.search("peak", track=False, project=swept.root).require()
    assert output.split()[: len(repr(found).split())] == repr(found).split()
    assert "3 of 3 trials" in found._repr_html_()
    accuracies = [Run(folder).journal.last["val/acc"] for folder in runs(swept)]
    accuracies.sort(reverse=True)
    assert [best.values for best in found.best] == [{"val/acc": accuracies[0]}]
    assert [trial.values["val/acc"] for trial in found.trials] == accuracies

    swept.write("sweeps/peak", QUICK + search.replace("trials: 3", "trials: 9"))
    code, output = swept.labctl("sweep", "peak", "--search", "--dry-run")
    assert code == 0 and "3 of 9 trials: 3 complete" in output and len(runs(swept)) == 3, output
    words = [line.split() for line in output.splitlines()]
    listed = [line[0] for line in words if line[-1:] == ["complete"] and line[0].isdecimal()]
    assert listed[1:] == [str(trial.number) for trial in found.trials], output
    assert ["trial", "peak", "val/acc", "seeds", "state"] in words
    code, output = swept.labctl("sweep", "peak", "--search", "--dry-run", "--json")
    told = json.loads(output)["trials"]
    assert [trial["values"]["val/acc"] for trial in told] == accuracies
    assert all(set(trial["point"]) == {"schedules.lr.peak"} for trial in told)


def test_faults_are_said_in_words(swept: Any) -> None:
    for arguments, words in (
        (("sweep", "peek"), "no sweep 'peek'"),
        (("sweep", "peak", "--values", "1:2,x:y"), "'x' is not a number"),
        (("sweep", "peak", "--values", "1:b:2"), "'b' is not a number"),  # :b: is no emoji
        (("sweep", "peak", "--values", "1:b:2/3"), "1:b:2/3: n values"),
        (("sweep", "peak", "--search"), "does not say what to search"),
        (("sweep", "peak", "--search", "--dry-run"), "does not say what to search"),
        (("sweep", "peak", "--boundary", "--values", "2:1"), "2:1: low 2 must be below high 1"),
        (("sweep", "peak", "--boundary"), "between which values of schedules.lr.peak?"),
        (("sweep", "lr", "--recipe", "quick"), "turns lr by a cosine schedule"),
        (("sweep", "a", "b"), "name one sweep or one field"),
        (("sweep", "--values", "lr=1,2"), "name one sweep or one field"),
        (("sweep", "peak", "--boundary", "--search"), "are different questions"),
        (("sweep", "peak", "--boundary", "--retry", "failed"), "leave out --retry"),
        (("sweep", "peak", "--boundary", "--zip"), "--zip joins lists of values"),
        (("sweep", "peak", "--search", "--values", "1,2"), "stand in its file"),
        (("sweep", "peak", "--retry", "sad"), "--retry sad"),
        (("report", "--table", "quick.batch_size"), "table 'quick.batch_size' has no rows"),
        (("why", "nothing"), "no run 'nothing'"),
    ):
        code, output = swept.labctl(*arguments)
        assert code == 2 and words in output, (arguments, output)
