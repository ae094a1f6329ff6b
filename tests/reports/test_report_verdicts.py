"""Claims against results whose intervals are known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from labctl.errors import RecipeError

TABLE = """
baseline: base
rows: [{recipe: base}, {recipe: ctd}]
columns: [{kind: speedup}, {kind: verdict}, {kind: time}]
"""
RATE = 0.01


def half_width(sample: list[float]) -> float:
    n = len(sample)
    return float(stats.t.ppf(0.975, n - 1) * np.std(sample, ddof=1) / math.sqrt(n))


@pytest.fixture
def claim(lab: Any) -> Any:
    """`claim(text)` writes both recipes and the table; ctd makes the claim."""

    def write(text: str) -> Any:
        lab.recipe("base")
        lab.recipe("ctd", f"\nclaims:\n  kept: {text}\n", batch_size="32")
        lab.table(TABLE)
        return lab

    return write


def train(lab: Any, differences: list[float]) -> None:
    """Pairs of runs whose accuracies differ by so many points; the level varies by seed."""
    for seed, difference in enumerate(differences):
        level = 0.5 + seed / 10
        lab.run("base", seed, acc=level)
        lab.run("ctd", seed, acc=level + difference / 100)


def verdict(lab: Any) -> dict[str, Any]:
    (found,) = lab.cell(lab.report(), 1, "Claims").claims
    return dict(found)


@pytest.mark.parametrize(
    ("differences", "bound", "word"),
    [
        ([-0.5, -0.4, -0.6], "at_least: -1.0", "REPRODUCED"),
        ([-1.5, -1.4, -1.6], "at_least: -1.0", "REFUTED"),
        ([-1.5, -0.4, -0.7], "at_least: -1.0", "UNRESOLVED"),
        ([-1.5, -1.4, -1.6], "at_most: -1.0", "REPRODUCED"),
        ([-0.5, -0.4, -0.6], "at_most: -1.0", "REFUTED"),
        ([0.1, -0.1, 0.0], "at_least: -0.3, at_most: 0.3", "REPRODUCED"),
        ([0.5, 0.4, 0.6], "at_least: -0.2, at_most: 0.2", "REFUTED"),
        ([0.1, 0.3, 0.0], "at_least: -0.2, at_most: 0.2", "UNRESOLVED"),
    ],
)
def test_an_interval_decides(claim: Any, differences: list[float], bound: str, word: str) -> None:
    lab = claim(f"{{difference: test/acc, to: base, {bound}}}")
    train(lab, differences)
    found = verdict(lab)
    assert found["verdict"] == word
    mean = float(np.mean(differences))
    assert found["mean"] == pytest.approx(mean)
    assert found["sd"] == pytest.approx(np.std(differences, ddof=1))
    assert found["low"] == pytest.approx(mean - half_width(differences))
    assert found["high"] == pytest.approx(mean + half_width(differences))
    assert found["n"] == 3


def test_differences_are_paired_by_seed(claim: Any) -> None:
    """Unpaired, accuracies of 50, 60, 70 against 49.5, 59.5, 69.5 would decide nothing."""
    lab = claim("{difference: test/acc, to: base, at_least: -0.7}")
    train(lab, [-0.5, -0.5, -0.5])
    assert verdict(lab)["verdict"] == "REPRODUCED"


def test_one_pair_decides_nothing(claim: Any) -> None:
    lab = claim("{difference: test/acc, to: base, at_least: -0.7}")
    lab.run("base", 0, acc=0.5)
    lab.run("ctd", 0, acc=0.6)
    lab.run("ctd", 1, acc=0.6)
    found = verdict(lab)
    assert found["verdict"] == "UNRESOLVED"
    assert "+10.00 points, n=1" in found["detail"]
    assert "two pairs of seeds are needed; base lacks seeds: labctl run base" in found["detail"]


def test_an_open_claim_says_how_many_seeds_would_settle_it(claim: Any) -> None:
    lab = claim("{difference: test/acc, to: base, at_least: -0.7}")
    differences = [-0.3, -0.7, -0.2]
    train(lab, differences)
    found = verdict(lab)
    effect = (float(np.mean(differences)) + 0.7) / float(np.std(differences, ddof=1))
    enough = next(
        n
        for n in range(2, 999)
        if stats.nct.sf(stats.t.ppf(0.975, n - 1), n - 1, effect * math.sqrt(n)) >= 0.8
    )
    assert found["verdict"] == "UNRESOLVED"
    assert f"about {enough} seeds would settle it with probability 0.8" in found["detail"]


def test_a_claim_that_names_its_source_shows_it(claim: Any) -> None:
    lab = claim('{difference: gap, to: base, at_most: 0, source: "a paper, table 1"}')
    train(lab, [0.1, 0.2])
    detail = verdict(lab)["detail"]
    assert detail.startswith("kept: gap minus that of base, paired by seed: -0.15 points, ")
    assert "95 % interval -0.79 points to +0.49 points, n=2" in detail
    assert "claimed at most 0 points (a paper, table 1)" in detail


def test_a_reference_is_shown_with_its_difference_and_not_judged(claim: Any) -> None:
    lab = claim('{reference: test/acc, value: 67.53, source: "a paper"}')
    lab.run("ctd", 0, acc=0.68)
    lab.run("ctd", 1, acc=0.69)
    cell = lab.cell(lab.report(), 1, "Claims")
    assert cell.text == "kept: reference 67.53 (+0.97)"
    (note,) = cell.notes
    assert note == (
        "kept: published test/acc 67.53 (a paper); ours 68.50 (n=2), +0.97 points; not judged"
    )


def test_a_claim_about_other_data_gets_no_verdict(claim: Any) -> None:
    lab = claim("{difference: test/acc, to: base, at_least: -1, data: cifar100}")
    train(lab, [0.1, 0.2])
    cell = lab.cell(lab.report(), 1, "Claims")
    assert cell.text == "claims are about cifar100 for 4ep"
    assert cell.notes == ()


def test_a_preset_on_other_data_gets_no_verdict(lab: Any) -> None:
    """The recipe's claims are about its own data, which the preset replaces."""
    presets = "{smoke: {data: {name: digits}, batch_size: 64}}"
    lab.recipe("base", data="{name: mnist}", presets=presets)
    claims = "\nclaims: {kept: {difference: test/acc, to: base, at_least: -1}}\n"
    lab.recipe("ctd", claims, data="{name: mnist}", presets=presets)
    lab.table(TABLE)
    lab.run("ctd", 0, "smoke")
    grid = lab.report(preset="smoke")
    assert lab.cell(grid, 1, "Claims").text == "claims are about mnist for 4ep"


def test_a_preset_that_trains_for_less_gets_no_verdict(lab: Any) -> None:
    """What is claimed of four epochs is not judged by two."""
    presets = "{short: {budget: 2ep}, same: {title: the same work under another name}}"
    lab.recipe("base", presets=presets)
    claims = "\nclaims: {kept: {difference: test/acc, to: base, at_least: -100}}\n"
    lab.recipe("ctd", claims, presets=presets)
    lab.table(TABLE)
    for preset in ("short", "same"):
        for seed in range(2):
            lab.run("base", seed, preset)
            lab.run("ctd", seed, preset)
    about = lab.cell(lab.report(preset="short"), 1, "Claims").text
    assert about == "claims are about digits for 4ep"
    assert lab.cell(lab.report(preset="same"), 1, "Claims").text.startswith("kept: ")


def test_a_claim_about_no_recipe_is_a_fault_of_the_recipe(claim: Any) -> None:
    lab = claim("{difference: test/acc, to: bass, at_least: -1}")
    where = r"recipes/ctd.yaml:\d+:\d+: claims.kept.to: no recipe 'bass'"
    with pytest.raises(RecipeError, match=where) as caught:
        lab.report()
    assert "did you mean 'base'?" in str(caught.value)


def test_a_row_without_runs_gets_no_verdict(claim: Any) -> None:
    lab = claim("{difference: test/acc, to: base, at_least: -1}")
    assert lab.cell(lab.report(), 1, "Claims").text == "no result yet"
    assert lab.cell(lab.report(), 0, "Claims").text == "none"


@pytest.mark.parametrize(
    ("differences", "text"),
    [
        ([-1.5, -1.4, -1.6], "kept: REFUTED, as known"),
        ([1.5, 1.4, 1.6], "kept: REPRODUCED (known as refuted)"),
    ],
)
def test_a_claim_known_to_be_false_is_shown_so(
    claim: Any, differences: list[float], text: str
) -> None:
    lab = claim("{difference: test/acc, to: base, at_least: -1, known: refuted}")
    train(lab, differences)
    assert lab.cell(lab.report(), 1, "Claims").text == text
    assert verdict(lab)["known"] == "refuted"


def race(
    lab: Any, ratios: list[float], flops: float | None = 8e8, facts: dict[str, Any] | None = None
) -> None:
    """Pairs of runs whose training times stand as `ratios`."""
    steps = {name: lab.plan(name, 0).work.steps for name in ("base", "ctd")}
    for seed, ratio in enumerate(ratios):
        lab.run("base", seed, rate=RATE, flops=1e9)
        rate = RATE * steps["base"] / steps["ctd"] / ratio
        extra = {"facts": facts} if facts else {}
        lab.run("ctd", seed, rate=rate, flops=flops, **extra)


class TestSpeed:
    """Times are compared only where they can be, and beside what FLOPs allow: here 1.25."""

    def test_a_speedup_stands_beside_its_bound(self, claim: Any) -> None:
        lab = claim("{ratio: time, to: base, at_least: 1.1}")
        ratios = [1.18, 1.20, 1.22]
        race(lab, ratios)
        grid = lab.report()
        cell = lab.cell(grid, 1, "Speed-up")
        assert cell.text == "1.20 \u00b1 0.02 (n=3), bound 1.25"
        assert cell.numbers["mean"] == pytest.approx(1.2)
        assert cell.numbers["bound"] == pytest.approx(1.25)
        assert lab.cell(grid, 0, "Speed-up").text == "baseline"
        assert verdict(lab)["verdict"] == "REPRODUCED"
        assert "workers" not in verdict(lab)["detail"]

    def test_more_than_the_flops_allow_is_suspect(self, claim: Any) -> None:
        lab = claim("{ratio: time, to: base, at_least: 1.1}")
        race(lab, [1.58, 1.60, 1.62])
        assert lab.cell(lab.report(), 1, "Speed-up").text.endswith("bound 1.25 SUSPECT")
        found = verdict(lab)
        assert found["verdict"] == "SUSPECT"
        assert "above the 1.25 that the executed FLOPs allow" in found["detail"]

    def test_times_taken_beside_other_workers_are_said_to_be(self, claim: Any) -> None:
        lab = claim("{ratio: time, to: base, at_least: 1.1}")
        beside = {"device": "cpu", "torch": "2.11.0", "threads": 1, "workers": 2}
        for seed, ratio in enumerate([1.18, 1.20, 1.22]):
            lab.run("base", seed, rate=RATE, flops=1e9, facts=beside)
            lab.run("ctd", seed, rate=RATE / ratio, flops=8e8, facts=beside)
        crowded = "timed while 2 workers shared the device; --jobs 1 times each alone"
        assert crowded in verdict(lab)["detail"]
        assert any(text.endswith(crowded) for text in lab.report().remarks)

    def test_times_on_other_data_are_not_compared(self, claim: Any) -> None:
        lab = claim("{ratio: time, to: base, at_least: 1.1}")
        lab.recipe("base", data="{name: mnist}")
        race(lab, [1.18, 1.20, 1.22])
        cell = lab.cell(lab.report(), 1, "Speed-up")
        assert cell.text == "not comparable"
        assert cell.notes == ("ctd: trained on digits, base on mnist",)
        assert verdict(lab)["verdict"] == "not about this"

    def test_a_spread_that_reaches_the_bound_is_not(self, claim: Any) -> None:
        lab = claim("{ratio: time, to: base, at_least: 1.1}")
        race(lab, [1.20, 1.28, 1.36])
        assert "SUSPECT" not in lab.cell(lab.report(), 1, "Speed-up").text

    def test_one_pair_above_the_bound_is_pointed_out(self, claim: Any) -> None:
        lab = claim("{ratio: time, to: base, at_least: 1.1}")
        race(lab, [1.6])
        cell = lab.cell(lab.report(), 1, "Speed-up")
        assert cell.text == "1.60 (n=1 of 3), bound 1.25"
        assert cell.notes == ("ctd: above the bound, but one pair of seeds shows no spread",)
        assert verdict(lab)["verdict"] == "UNRESOLVED"

    def test_a_slow_one_is_refuted(self, claim: Any) -> None:
        lab = claim("{ratio: time, to: base, at_least: 1.6}")
        race(lab, [1.18, 1.20, 1.22])
        assert verdict(lab)["verdict"] == "REFUTED"

    def test_without_a_ledger_nothing_bounds_it(self, claim: Any) -> None:
        lab = claim("{ratio: time, to: base, at_least: 1.1}")
        race(lab, [1.6, 1.61], flops=None)
        cell = lab.cell(lab.report(), 1, "Speed-up")
        assert cell.text.endswith("(n=2 of 3), bound unknown")
        assert "FLOPs were not counted" in cell.notes[0]

    @pytest.mark.parametrize(
        ("other", "said"),
        [
            ({"device_name": "NVIDIA A100"}, "device (ctd NVIDIA A100, base NVIDIA H200)"),
            ({"torch": "2.12.0"}, "torch (ctd 2.12.0, base 2.11.0)"),
            ({"engine": "graphs"}, "engine (ctd graphs, base unknown)"),
            ({"replicas": 3}, "runs together (ctd 3, base 1)"),
            ({"device": "cpu"}, "backend (ctd cpu, base cuda)"),
            ({"threads": 1}, "CPU threads (ctd 1, base 8)"),
            (
                {"threads": 1, "torch": "2.12.0"},
                "CPU threads (ctd 1, base 8); torch (ctd 2.12.0, base 2.11.0)",
            ),
        ],
    )
    def test_under_other_conditions_there_is_no_ratio(
        self, claim: Any, other: dict[str, Any], said: str
    ) -> None:
        lab = claim("{ratio: time, to: base, at_least: 1.1}")
        gpu = {"device": "cuda", "device_name": "NVIDIA H200", "torch": "2.11.0", "threads": 8}
        race(lab, [1.2, 1.3, 1.25], facts={**gpu, **other})
        grid = lab.report()
        cell = lab.cell(grid, 1, "Speed-up")
        assert cell.text == "not comparable"
        assert dict(cell.numbers) == {}
        assert cell.notes == (f"ctd: trained under different conditions: {said}",)
        found = verdict(lab)
        assert found["verdict"] == "UNRESOLVED"
        assert f"not comparable: trained under different conditions: {said}" in found["detail"]
        assert "mean" not in found

    def test_seeds_that_only_one_side_has_do_not_count(self, claim: Any) -> None:
        lab = claim("{ratio: time, to: base, at_least: 1.1}")
        lab.run("base", 0)
        lab.run("ctd", 1)
        cell = lab.cell(lab.report(), 1, "Speed-up")
        assert cell.text == "-"
        assert cell.notes == ("no seed in common with base; train: labctl run base",)

    def test_a_baseline_named_by_its_path_is_the_baseline(self, lab: Any) -> None:
        lab.recipe("base")
        lab.table(
            "baseline: recipes/base.yaml\nrows: [{recipe: base}]\ncolumns: [{kind: speedup}]\n"
        )
        lab.run("base", 0)
        assert lab.cell(lab.report(), 0, "Speed-up").text == "baseline"
