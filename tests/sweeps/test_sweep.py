"""Sweeps as files and as fields: which points they mean, and what is said of faults."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from labctl.errors import RecipeError, UsageError
from labctl.sweeps.arguments import parse_seeds, with_values
from labctl.sweeps.catalogue import load_sweep, sweep_named, sweep_of_field
from labctl.sweeps.field import field_of
from labctl.sweeps.jobs import cells
from labctl.sweeps.probe import Probe, with_range
from labctl.sweeps.values import written

HEAT = """\
title: how hot
recipe: toy
axes: {heat: 0.20:0.25}
step: 0.01
seeds: [3, 4]
"""


@pytest.fixture
def heat(toys: Any) -> Any:
    (toys.root / "recipes" / "sweeps").mkdir()
    (toys.root / "recipes" / "sweeps" / "heat.yaml").write_text(HEAT, encoding="utf-8")
    return toys


def file_problems(toys: Any, text: str) -> list[str]:
    (toys.root / "recipes" / "sweeps").mkdir(exist_ok=True)
    (toys.root / "recipes" / "sweeps" / "x.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        load_sweep(toys.project, toys.registry, "x")
    return [str(problem) for problem in caught.value.problems]


def test_six_values_and_two_seeds_are_twelve_keys_seed_by_seed(heat: Any) -> None:
    sweep = load_sweep(heat.project, heat.registry, "heat")
    assert sweep.fields == ("schedules.heat",)
    found = cells(heat.project, heat.registry, sweep, sweep.points())
    assert [(cell.job.plan.work.seed, cell.point["schedules.heat"]) for cell in found] == [
        (seed, value)
        for seed in (3, 4)
        for value in ("0.2", "0.21", "0.22", "0.23", "0.24", "0.25")
    ]
    assert len({cell.job.plan.key for cell in found}) == 12
    plan = found[1].job.plan
    assert plan.work.schedules["heat"]["value"] == 0.21
    assert plan.point == {"schedules.heat": 0.21}
    assert plan.name == "toy schedules.heat=0.21 seed=3"


def test_a_point_is_the_same_work_as_the_override(heat: Any) -> None:
    sweep = load_sweep(heat.project, heat.registry, "heat")
    (cell, _) = cells(heat.project, heat.registry, sweep, [{"schedules.heat": "0.2"}])
    (plan,) = heat.plans("toy", "schedules.heat=0.20", "seeds=[3]")
    assert cell.job.plan.key == plan.key
    assert cell.job.plan.group != heat.plans("toy")[0].group


def test_a_longer_range_has_the_keys_of_the_shorter_one(heat: Any) -> None:
    sweep = load_sweep(heat.project, heat.registry, "heat")
    recipe = heat.load()

    def keys(values: str) -> set[str]:
        wanted = with_values(sweep, recipe, [values], False)
        found = cells(heat.project, heat.registry, wanted, wanted.points())
        return {cell.job.plan.key for cell in found}

    assert keys("0.20:0.22") < keys("0.20:0.25")
    assert len(keys("0.20:0.25") - keys("0.20:0.22")) == 3 * 2


def test_a_field_needs_no_file(toys: Any) -> None:
    sweep = sweep_of_field(toys.project, toys.registry, "width", "toy")
    assert sweep.fields == ("model.width",) and sweep.name == "toy.model.width"
    chosen = with_values(sweep, toys.load(), ["2,4", "batch_size=5,10"], False)
    assert chosen.points() == [
        {"model.width": width, "batch_size": size} for width in ("2", "4") for size in ("5", "10")
    ]
    zipped = with_values(sweep, toys.load(), ["2,4", "batch_size=5,10"], True)
    assert zipped.points() == [
        {"model.width": "2", "batch_size": "5"}, {"model.width": "4", "batch_size": "10"},
    ]  # fmt: skip
    with pytest.raises(UsageError, match=r"as many: model.width has 2, batch_size has 3"):
        with_values(sweep, toys.load(), ["2,4", "batch_size=1,2,5"], True).points()
    with pytest.raises(UsageError, match=r"which values of model.width\?"):
        with_values(sweep, toys.load(), [], False)
    assert sweep_named(toys.project, toys.registry, "toy.heat").fields == ("schedules.heat",)


def test_values_that_go_together_may_repeat_but_not_points(toys: Any) -> None:
    sweep = sweep_of_field(toys.project, toys.registry, "width", "toy")
    given = ["8,16,16", "schedules.heat=0.1,0.1,0.2"]
    points = with_values(sweep, toys.load(), given, True).points()
    assert [(*point.values(),) for point in points] == [("8", "0.1"), ("16", "0.1"), ("16", "0.2")]
    with pytest.raises(UsageError, match="16 is there twice"):
        with_values(sweep, toys.load(), given, False)
    given = ["8,16,16", "schedules.heat=0.1,0.2,0.20"]
    point = r"the point model\.width=16, schedules\.heat=0\.2 is there twice"
    with pytest.raises(UsageError, match=point):
        with_values(sweep, toys.load(), given, True).points()


def test_a_file_may_hold_nothing_and_lists_as_the_command_line_may(toys: Any) -> None:
    text = "recipe: toy\naxes: {optimizer.clip_norm: [null, 1.0, 2]}\n"
    (toys.root / "recipes" / "sweeps").mkdir(exist_ok=True)
    (toys.root / "recipes" / "sweeps" / "x.yaml").write_text(text, encoding="utf-8")
    points = load_sweep(toys.project, toys.registry, "x").points()
    assert [point["optimizer.clip_norm"] for point in points] == ["null", "1", "2"]
    lists = text.replace("clip_norm: [null, 1.0, 2]", "betas: [[0.9, 0.99], [0.8, 0.9]]")
    (toys.root / "recipes" / "sweeps" / "x.yaml").write_text(lists, encoding="utf-8")
    points = load_sweep(toys.project, toys.registry, "x").points()
    assert [point["optimizer.betas"] for point in points] == ["[0.9, 0.99]", "[0.8, 0.9]"]


def test_a_file_may_repeat_values_that_go_together(toys: Any) -> None:
    text = "recipe: toy\naxes: {heat: [1, 1], width: [8, 16]}\ncombine: zip\n"
    assert "1 is there twice" in file_problems(toys, text.replace("zip", "grid"))[0]
    (toys.root / "recipes" / "sweeps" / "x.yaml").write_text(text, encoding="utf-8")
    assert len(load_sweep(toys.project, toys.registry, "x").points()) == 2


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("heat", "schedules.heat"),
        ("schedules.heat", "schedules.heat"),
        ("width", "model.width"),
        ("batch_size", "batch_size"),
        ("budget", "budget"),
        ("clip_norm", "optimizer.clip_norm"),
        ("lr.peak", "schedules.lr.peak"),
        ("precision", "numerics.precision"),
    ],
)
def test_a_short_name_means_the_one_field_that_ends_so(toys: Any, name: str, field: str) -> None:
    assert field_of(toys.load(), name) == field


def test_what_lies_in_a_list_is_named_by_its_position(toys: Any) -> None:
    groups = "optimizer.groups=[{match: ['*.bias'], weight_decay: 0.1}]"
    recipe = toys.load("toy", groups)
    path = "optimizer.groups.0.weight_decay"
    assert field_of(recipe, path) == field_of(recipe, "groups.0.weight_decay") == path
    assert field_of(recipe, "weight_decay") == "optimizer.weight_decay"
    swept = toys.load("toy", groups, f"{path}=0.5")
    assert swept.document.optimizer.groups[0].weight_decay == 0.5


@pytest.mark.parametrize(
    ("name", "words", "hint"),
    [
        ("wight", "no field 'wight'", "weight"),
        ("seeds", "seeds is no field that a sweep varies", "--seeds 5"),
        ("runtime.device", "runtime.device is no field that a sweep varies", ""),
        ("lr", "turns lr by a cosine schedule, which a sweep would replace", "schedules.lr.peak"),
        ("schedules.lr", "turns lr by a cosine schedule", "schedules.lr.peak"),
    ],
)
def test_a_name_that_is_no_field_is_refused(toys: Any, name: str, words: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        field_of(toys.load(), name)
    assert words in caught.value.message and hint in caught.value.hint


def test_an_ambiguous_name_lists_the_candidates(toys: Any) -> None:
    with pytest.raises(UsageError, match=r"'kind' is 3 fields of toy") as caught:
        field_of(toys.load(), "kind")
    assert "learner.kind, optimizer.kind, schedules.lr.kind" in caught.value.message
    assert "labctl sweep learner.kind --recipe toy" in caught.value.hint


def test_faults_of_a_file_have_their_places(toys: Any) -> None:
    assert (
        "recipes/sweeps/x.yaml:1:1"
        in file_problems(toys, "recipe: nowhere\naxes: {heat: [1]}\n")[0]
    )
    (problem,) = file_problems(toys, "recipe: toy\naxes: {heat: 1:2}\n")
    assert "recipes/sweeps/x.yaml:2:8" in problem and "in steps of what" in problem
    (problem,) = file_problems(toys, "recipe: toy\naxes: {heet: [1]}\n")
    assert "recipes/sweeps/x.yaml:2:8" in problem and "did you mean 'heat'" in problem
    assert "unknown field 'value'" in file_problems(toys, "recipe: toy\nvalue: 3\n")[0]
    assert "varies nothing; give it axes" in file_problems(toys, "recipe: toy\n")[0]


def test_two_axes_of_one_field_are_a_fault_that_names_both(toys: Any) -> None:
    text = "recipe: toy\naxes: {schedules.heat: [0.1, 0.2], heat: [0.3, 0.4]}\n"
    (problem,) = file_problems(toys, text)
    assert "recipes/sweeps/x.yaml:2:36" in problem
    assert "'schedules.heat' and 'heat' are one field, schedules.heat" in problem


@pytest.mark.parametrize("given", [["0.1", "0.2"], ["heat=0.1", "schedules.heat=0.2"]])
def test_values_given_twice_for_one_field_are_refused(toys: Any, given: list[str]) -> None:
    sweep = sweep_of_field(toys.project, toys.registry, "heat", "toy")
    with pytest.raises(UsageError, match=r"are of one field, schedules\.heat") as caught:
        with_values(sweep, toys.load(), given, False)
    assert "--values schedules.heat=0.1,0.2" in caught.value.hint


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("schedules.heat=3", "schedules.heat=3 would count at no point"),
        ("schedules.heat.value=3", "schedules.heat is what varies"),
        ("seeds=5", "a sweep has its seeds by an option"),
    ],
)
def test_an_override_of_what_varies_is_refused(toys: Any, override: str, words: str) -> None:
    sweep = sweep_of_field(toys.project, toys.registry, "heat", "toy")
    sweep = replace(sweep, fixed=("schedules.lr.peak=0.1", override))
    with pytest.raises(UsageError, match=words):
        with_values(sweep, toys.load(), ["0.1,0.2"], False)
    with pytest.raises(UsageError, match=words):
        with_range(sweep, ["0.1:0.2"])


@pytest.mark.parametrize(
    ("name", "is_integer"),
    [
        ("width", True),
        ("batch_size", True),
        ("schedules.layers", True),
        ("bucket", True),
        ("rate", False),
        ("schedules.heat", False),
        ("lr.peak", False),
        ("size", False),
    ],
)
def test_a_field_is_known_to_take_whole_numbers(toys: Any, name: str, is_integer: bool) -> None:
    sweep = sweep_of_field(toys.project, toys.registry, name, "toy")
    assert sweep.axes[0].is_integer is is_integer
    values = with_values(sweep, toys.load(), ["log:16:100/4"], False).axes[0].values
    assert ([written(value) for value in values] == ["16", "29", "54", "100"]) is is_integer


def test_a_boundary_of_an_integer_tries_whole_numbers(toys: Any) -> None:
    sweep = sweep_of_field(toys.project, toys.registry, "batch_size", "toy")
    probe = Probe(toys.project, toys.registry, with_range(sweep, ["4:40"]))
    asked = [cell.point["batch_size"] for cell in probe.next([])]
    assert asked[::2] == ["4", "6", "8", "11", "15", "21", "29", "40"]
    with pytest.raises(UsageError, match=r"4\.5 to 40 should be whole numbers"):
        with_range(sweep, ["4.5:40"])

    sweeps = toys.root / "recipes" / "sweeps"
    sweeps.mkdir()
    text = "recipe: toy\naxes: {batch_size: [4, 8]}\nboundary: {low: 4, high: 40}\n"
    (sweeps / "x.yaml").write_text(text, encoding="utf-8")
    found = load_sweep(toys.project, toys.registry, "x")
    assert found.config.boundary is not None and found.config.boundary.integer
    (problem,) = file_problems(toys, text.replace("low: 4", "low: 4.5"))
    assert "recipes/sweeps/x.yaml:3:1" in problem and "should be whole numbers" in problem


def test_a_value_that_a_field_cannot_have_is_a_fault_of_the_point(heat: Any) -> None:
    sweep = load_sweep(heat.project, heat.registry, "heat")
    with pytest.raises(RecipeError, match="heat"):
        cells(heat.project, heat.registry, sweep, [{"schedules.heat": "99"}])


def test_seeds_that_grow_are_said_not_to_in_a_boundary_or_a_search(heat: Any) -> None:
    growing = "seeds: {min: 2, max: 4, until: ci_halfwidth <= 1}"
    heat.write("growing", heat.text.replace("seeds: [0, 1]", growing))
    sweep = sweep_of_field(heat.project, heat.registry, "width", "growing")
    assert "each point has the first 2 seeds" in sweep.note
    assert "none are added to those of a boundary or a search" in sweep.note
    assert sweep.with_seeds((0, 1)).note == ""
    assert sweep_of_field(heat.project, heat.registry, "width", "toy").note == ""

    file = heat.root / "recipes" / "sweeps" / "heat.yaml"
    text = HEAT.replace("toy", "growing")
    file.write_text(text, encoding="utf-8")
    assert load_sweep(heat.project, heat.registry, "heat").note == ""
    file.write_text(text.replace("seeds: [3, 4]\n", ""), encoding="utf-8")
    assert "the first 2 seeds" in load_sweep(heat.project, heat.registry, "heat").note


def test_seeds_of_the_command_line() -> None:
    assert parse_seeds("3") == (0, 1, 2)
    assert parse_seeds("3,") == (3,)
    assert parse_seeds("7, 9") == (7, 9)
    for text in ("0", "a", "1,1", "", "-1"):
        with pytest.raises(UsageError, match="no list of seeds"):
            parse_seeds(text)


def test_a_point_of_a_recipe_that_grows_grows_with_seeds_of_its_own_only(toys: Any) -> None:
    toys.write("grows", "extends: toy.yaml\nseeds: {min: 2, max: 4, until: ci_halfwidth <= 1}\n")
    sweep = sweep_of_field(toys.project, toys.registry, "model.width", "grows")
    at = partial(sweep.at, toys.project, toys.registry, {"model.width": "4"})
    assert at().document.growing and at([1, 3]).document.growing
    assert at([0, 7]).document.seeds == (0, 7)
    few = cells(toys.project, toys.registry, sweep, [{"model.width": "4"}], [1])
    assert [cell.job.plan.work.seed for cell in few] == [1]
