"""Every kind of claim, against results whose figures are known."""

from __future__ import annotations

from dataclasses import replace
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from labctl.plans.plan import Part
from labctl.reports.comparison import other_data
from labctl.reports.evidence import is_about, of_row
from labctl.reports.result import result_of
from labctl.reports.rows import Row, Rows
from labctl.reports.verdicts import Verdict, Word, judge, remark
from labctl.store.journal import JournalWriter
from labctl.store.run import run_of

RATE = 0.01


@pytest.fixture
def claimed(lab: Any) -> Any:
    """`claimed(*claims)` judges claims of `ctd` together; it can name `base` and `other`."""

    def verdicts(*claims: str) -> list[Verdict]:
        text = "".join(f"  c{place}: {claim}\n" for place, claim in enumerate(claims))
        lab.recipe("ctd", f"\nclaims:\n{text}", batch_size="32")
        rows = Rows(lab.project, lab.registry, None, ())
        (row,) = rows.of("ctd")
        return judge(of_row(row, rows.counterpart))

    for name in ("base", "other"):
        lab.recipe(name)
    lab.recipe("ctd", batch_size="32")
    return verdicts


def train(lab: Any, **accuracies: list[float]) -> None:
    """Runs of each recipe, accuracies in percent by seed."""
    for name, values in accuracies.items():
        for seed, value in enumerate(values):
            lab.run(name, seed, acc=value / 100)


BASE = [50.0, 60.0, 70.0]


def test_seeds_beyond_those_named_do_not_turn_a_comparison_into_pairs(lab: Any) -> None:
    """Two of `other`'s five seeds are among those of `base`, which its recipe does not name."""
    lab.recipe("base")
    claims = "\nclaims: {better: {difference: test/acc, to: base, at_least: 0}}\n"
    lab.recipe("other", claims, batch_size="32", seeds="[10, 11, 12]")
    train(lab, base=BASE)
    seeds = {10: 80, 11: 81, 12: 82, 0: 80, 1: 82}
    runs = {seed: lab.run("other", seed, acc=value / 100) for seed, value in seeds.items()}
    rows = Rows(lab.project, lab.registry, None, ())
    row, *_ = rows.of("other")
    row = replace(row, results={seed: result_of(run) for seed, run in runs.items()})
    (found,) = of_row(row, rows.counterpart)
    assert "Welch's t" in found.what and "n=5 and 3" in found.figure


def test_what_was_measured_with_other_settings_is_not_compared(lab: Any, claimed: Any) -> None:
    """Neither with another row nor within one."""
    train(lab, base=BASE, ctd=BASE)
    for name, images in (("base", 360), ("ctd", 20)):
        for seed in range(3):
            _measured(lab, name, seed, images)
    (found,) = claimed("{difference: robustness/generated/acc, to: base, at_least: 0}")
    assert found.word is Word.UNRESOLVED
    assert "not comparable: robustness was measured differently: " in found.detail
    assert "images (ctd 20, base 360)" in found.detail
    _measured(lab, "ctd", 0, 360)
    (found,) = claimed("{value: robustness/generated/acc, at_least: 0}")
    assert "measured differently: images (360 and 20)" in found.detail
    for seed in range(3):
        _measured(lab, "ctd", seed, 360)
    (found,) = claimed("{difference: robustness/generated/acc, to: base, at_least: -1}")
    assert found.word is Word.REPRODUCED


def _measured(lab: Any, name: str, seed: int, images: int) -> None:
    """As `labctl eval NAME/seed=N --images N` leaves a run."""
    run = run_of(lab.project, lab.plan(name, seed))
    part = Part(name="robustness", plugin="labctl", config={"images": images})
    run.create(run.plan.model_copy(update={"measures": (part,)}), run.provenance)
    value = 0.5 + seed / 10 + images / 1e5
    journal = JournalWriter(run.folder, run.journal.attempts + 1, 0, {})
    journal.metrics(run.plan.work.steps, {"robustness/generated/acc": value})
    journal.close()


@pytest.mark.parametrize(
    ("differences", "word"),
    [
        ([0.02, -0.02, 0.05], Word.REPRODUCED),
        ([0.9, 1.0, 1.1], Word.REFUTED),
        ([-0.9, -1.0, -1.1], Word.REFUTED),
        ([0.3, -0.2, 0.1], Word.UNRESOLVED),
    ],
)
def test_an_equivalence_needs_an_interval_within_its_margin(
    lab: Any, claimed: Any, differences: list[float], word: Word
) -> None:
    train(lab, base=BASE, ctd=[b + d for b, d in zip(BASE, differences, strict=True)])
    (found,) = claimed("{difference: test/acc, to: base, within: 0.2}")
    assert found.word is word
    assert "claimed within 0.2 points of base" in found.detail
    assert "90 % interval" in found.detail


def test_an_equivalence_is_decided_at_ninety_percent(lab: Any, claimed: Any) -> None:
    """The 95 % interval of these differences leaves the margin, the 90 % one does not."""
    differences = [0.0, 0.1, 0.2]
    train(lab, base=BASE, ctd=[b + d for b, d in zip(BASE, differences, strict=True)])
    low = stats.ttest_1samp(differences, 0).confidence_interval(0.9).high
    high = stats.ttest_1samp(differences, 0).confidence_interval(0.95).high
    margin = (low + high) / 2
    assert claimed(f"{{difference: test/acc, to: base, within: {margin}}}")[0].word is (
        Word.REPRODUCED
    )
    (bounded,) = claimed(f"{{difference: test/acc, to: base, at_most: {margin}}}")
    assert bounded.word is Word.UNRESOLVED


@pytest.mark.parametrize(
    ("claim", "word"),
    [
        ("{value: test/acc, at_least: 97}", Word.REPRODUCED),
        ("{value: test/acc, at_least: 99}", Word.REFUTED),
        ("{value: test/acc, at_least: 98}", Word.UNRESOLVED),
        ("{value: test/acc, near: 98, within: 0.5}", Word.REPRODUCED),
        ("{value: test/acc, near: 97, within: 0.5}", Word.REFUTED),
        ("{value: test/acc, near: 97.5, within: 0.5}", Word.UNRESOLVED),
    ],
)
def test_a_value_is_held_against_a_bound_or_a_tolerance(
    lab: Any, claimed: Any, claim: str, word: Word
) -> None:
    train(lab, ctd=[98.0, 98.1, 97.9])
    (found,) = claimed(claim)
    assert found.word is word
    assert "test/acc: 98.00 %, 95 % interval 97.75 % to 98.25 %" in found.detail


def test_what_the_plan_decides_needs_one_seed(lab: Any, claimed: Any) -> None:
    lab.run("ctd", 0, flops=8e8)
    lab.run("base", 0, flops=1e9)
    found = claimed(
        "{value: parameters, at_most: 1234}",
        "{value: parameters, at_most: 1233}",
        "{ratio: flops, to: base, at_least: 1.2}",
    )
    assert [verdict.word for verdict in found] == [Word.REPRODUCED, Word.REFUTED, Word.REPRODUCED]
    assert "1234, decided by the plan" in found[0].detail


@pytest.mark.parametrize(
    ("order", "word"),
    [
        ("[other, ctd, base]", Word.REPRODUCED),
        ("[other, base, ctd]", Word.REFUTED),
        ("[base, ctd]", Word.REFUTED),
    ],
)
def test_in_an_ordering_each_is_better_than_the_next(
    lab: Any, claimed: Any, order: str, word: Word
) -> None:
    """Seeds differ by ten points and recipes by one: only pairs can tell."""
    train(lab, base=BASE, ctd=[51.0, 61.05, 71.0], other=[52.0, 62.0, 72.1])
    (found,) = claimed(f"{{ordering: test/acc, of: {order}}}")
    assert found.word is word


def test_an_ordering_is_open_as_long_as_one_step_is(lab: Any, claimed: Any) -> None:
    train(lab, base=BASE, ctd=[51.0, 59.0, 70.9], other=[55.0, 65.0, 75.1])
    (found,) = claimed("{ordering: test/acc, of: [other, ctd, base]}")
    assert found.word is Word.UNRESOLVED
    assert "seeds would settle it" in found.detail


def test_the_steps_of_an_ordering_are_corrected_for_their_number(lab: Any, claimed: Any) -> None:
    """One step alone is decided at 0.05; with a second one that is clear it needs 0.05 as well,
    and the p of the whole is the larger of Holm's."""
    train(lab, base=BASE, ctd=[50.5, 61.0, 71.5], other=[60.6, 71.0, 81.4])
    (found,) = claimed("{ordering: test/acc, of: [other, ctd, base]}")
    first = stats.ttest_1samp([10.1, 10.0, 9.9], 0).pvalue
    second = stats.ttest_1samp([0.5, 1.0, 1.5], 0).pvalue
    assert found.p == pytest.approx(max(2 * min(first, second), max(first, second)), rel=1e-6)


def test_of_a_loss_the_lower_one_is_better(lab: Any, claimed: Any) -> None:
    train(lab, base=BASE, ctd=[51.0, 61.05, 71.0])
    right, wrong = claimed(
        "{ordering: test/loss, of: [ctd, base]}", "{ordering: test/loss, of: [base, ctd]}"
    )
    assert (right.word, wrong.word) == (Word.REPRODUCED, Word.REFUTED)


@pytest.mark.parametrize(
    ("metrics", "direction", "word"),
    [
        ("[train/clean/acc, test/acc]", "falling", Word.REPRODUCED),
        ("[train/clean/acc, test/acc]", "rising", Word.REFUTED),
    ],
)
def test_metrics_rise_or_fall(
    lab: Any, claimed: Any, metrics: str, direction: str, word: Word
) -> None:
    train(lab, ctd=[60.0, 61.0, 62.0])
    (found,) = claimed(f"{{monotone: {metrics}, direction: {direction}}}")
    assert found.word is word


@pytest.mark.parametrize(
    ("band", "word"),
    [("[60, 62]", Word.REPRODUCED), ("[70, 80]", Word.REFUTED), ("[61, 62]", Word.UNRESOLVED)],
)
def test_every_metric_lies_in_its_band(lab: Any, claimed: Any, band: str, word: Word) -> None:
    train(lab, ctd=[60.9, 61.0, 61.1])
    (found,) = claimed(f"{{bands: {{test/acc: {band}, train/clean/acc: [80, 95]}}}}")
    assert found.word is word


def test_seeds_that_do_not_pair_are_compared_by_welch(lab: Any, claimed: Any) -> None:
    lab.recipe("base", seeds="[7, 8, 9]")
    for seed, value in ((7, 50.0), (8, 51.0), (9, 52.0)):
        lab.run("base", seed, acc=value / 100)
    train(lab, ctd=[60.0, 60.1, 60.2])
    (found,) = claimed("{difference: test/acc, to: base, at_least: 5}")
    reference = stats.ttest_ind([60.0, 60.1, 60.2], [50.0, 51.0, 52.0], equal_var=False)
    interval = reference.confidence_interval(0.95)
    plain = found.plain()
    assert (plain["low"], plain["high"]) == pytest.approx((interval.low, interval.high))
    assert (plain["n"], plain["n_other"]) == (3, 3)
    assert found.word is Word.REPRODUCED
    assert "their seeds do not pair: Welch's t" in found.detail


def test_missing_seeds_are_no_reason_to_give_up_pairs(lab: Any, claimed: Any) -> None:
    lab.run("base", 0)
    lab.run("ctd", 1)
    lab.run("ctd", 2)
    (found,) = claimed("{difference: test/acc, to: base, at_least: 0}")
    assert found.word is Word.UNRESOLVED
    assert "no seed in common" in found.detail and "labctl run base" in found.detail


def test_claims_that_are_judged_together_are_corrected_for_their_number(
    lab: Any, claimed: Any
) -> None:
    differences = [-0.55, -0.4, -0.7]
    train(lab, base=BASE, ctd=[b + d for b, d in zip(BASE, differences, strict=True)])
    alone = "{difference: test/acc, to: base, at_least: -0.95}"
    p = stats.ttest_1samp(differences, -0.95).pvalue
    assert 0.025 < p < 0.05
    (by_itself,) = claimed(alone)
    assert by_itself.word is Word.REPRODUCED and by_itself.p == pytest.approx(p)
    among, other = claimed(alone, "{difference: test/acc, to: base, at_least: -0.6}")
    assert among.word is Word.UNRESOLVED and among.p == pytest.approx(2 * p)
    assert "decided by itself, p=0.0" in among.detail
    assert other.word is Word.UNRESOLVED
    clear = "{value: test/acc, at_least: -1000}"
    again, _ = claimed(alone, clear)
    assert again.word is Word.REPRODUCED, "Holm: the clear one does not count against it"


def test_an_unknown_metric_says_what_there_is(lab: Any, claimed: Any) -> None:
    train(lab, ctd=[60.0, 61.0, 62.0])
    (found,) = claimed("{value: train/clean_acc, at_least: 5}")
    assert found.word is Word.UNRESOLVED
    assert "no train/clean_acc was recorded of ctd; did you mean 'train/clean/acc'?" in found.detail


def test_a_measurement_that_was_not_taken_is_named_without_all_that_there_is(
    lab: Any, claimed: Any
) -> None:
    train(lab, ctd=[60.0, 61.0, 62.0])
    (found,) = claimed("{value: robustness/generated/acc, at_least: 5}")
    assert "ctd has no robustness, neither as a measure nor as a split" in found.detail
    assert "there are" not in found.detail


def test_a_metric_that_its_measurement_does_not_find_is_not_as_expected(
    lab: Any, claimed: Any
) -> None:
    train(lab, ctd=BASE, base=BASE)
    for seed in range(3):
        _measured(lab, "ctd", seed, 360)
    found = claimed(
        "{value: robustness/generated/ac, at_least: 0}",
        "{value: robustness/generated/acc, at_least: 0}",
    )
    assert [one.word for one in found] == [Word.UNRESOLVED, Word.REPRODUCED]
    assert [one.is_surprise for one in found] == [True, False]
    assert "did you mean 'robustness/generated/acc'?" in found[0].detail


def test_a_claim_without_any_result_has_none(lab: Any, claimed: Any) -> None:
    train(lab, ctd=[60.0, 61.0, 62.0])
    (found,) = claimed("{difference: test/acc, to: base, at_least: 0}")
    assert found.word is Word.LACKING
    assert "base has no result yet: labctl run base" in found.detail


def test_accuracies_on_other_data_are_not_compared(lab: Any, claimed: Any) -> None:
    lab.recipe("other", data="{name: mnist}")
    train(lab, ctd=[60.0, 61.0, 62.0], base=BASE, other=[10.0, 10.1, 10.2])
    found = claimed(
        "{difference: test/acc, to: other, at_least: 0}",
        "{ordering: test/acc, of: [base, other]}",
        "{ratio: parameters, to: other, at_least: 1}",
        "{difference: test/acc, to: base, at_least: -50}",
    )
    assert [one.word for one in found] == [
        Word.ELSEWHERE, Word.ELSEWHERE, Word.REPRODUCED, Word.REPRODUCED,
    ]  # fmt: skip
    assert "other is trained on mnist, ctd on digits" in found[0].detail
    assert "other is trained on mnist, base on digits" in found[1].detail


def test_other_content_of_own_data_is_other_data(lab: Any, claimed: Any) -> None:
    """Both are called npz."""
    train(lab, ctd=BASE, base=BASE)
    rows = Rows(lab.project, lab.registry, None, ())
    ctd, base = (next(iter(rows.of(name))) for name in ("ctd", "base"))
    assert other_data(ctd, base) == ""
    stranger = replace(base, results={s: _of_version(r, "e2ee") for s, r in base.results.items()})
    assert other_data(ctd, stranger) == "trained on digits uci1998, base on e2ee"
    (found,) = claimed("{difference: test/acc, to: base, at_least: -1}")
    assert found.word is not Word.ELSEWHERE


def test_claims_are_not_about_another_file(lab: Any, tmp_path: Path) -> None:
    for name in ("folk", "jazz"):
        np.savez(
            tmp_path / f"{name}.npz",
            train_images=np.zeros((96, 8, 8), np.uint8),
            train_labels=np.arange(96) % 2,
            test_images=np.zeros((8, 8, 8), np.uint8),
            test_labels=np.arange(8) % 2,
        )
    folk, jazz = (
        f"{{name: npz, path: {tmp_path / name}.npz, classes: 2}}" for name in ("folk", "jazz")
    )
    claims = "claims: {it: {value: test/acc, at_least: 5, source: x}}"
    lab.recipe("ctd", claims, data=folk, presets=f"{{other: {{data: {jazz}}}}}")
    for preset, overrides, is_its_own, name in (
        (None, (), True, "folk"),
        (None, (f"data.path={tmp_path / 'folk'}.npz",), True, "folk"),
        (None, ("data.val=8",), True, "folk"),
        (None, (f"data.path={tmp_path / 'jazz'}.npz",), False, "jazz"),
        ("other", (), False, "jazz"),
    ):
        recipe = lab.loaded("ctd", preset, *overrides)
        assert is_about(recipe.document.claims["it"], recipe) is is_its_own
        assert Row(recipe, {}, {}).data == name


def _of_version(result: Any, version: str) -> Any:
    work = {**result.work, "data": {**result.work["data"], "version": version}}
    return result.model_copy(update={"plan": {**result.plan, "work": work}})


def test_more_than_the_hardware_can_do_is_suspect(lab: Any, claimed: Any) -> None:
    """Training of 1e18 FLOP in under ten seconds would take a hundred such cards."""
    for seed in range(3):
        lab.run("ctd", seed, flops=1e18)
    (found,) = claimed("{value: time, at_most: 100}")
    assert found.word is Word.SUSPECT
    assert "above the 990 that one NVIDIA H200 can do" in found.detail
    assert found.is_surprise


def test_what_is_not_finite_is_named(lab: Any, claimed: Any) -> None:
    train(lab, base=[50.0, nan, 60.0], ctd=[50.0, 51.0, nan])
    about = ("difference: test/acc", "ratio: test/acc")
    found = claimed(
        *(f"{{{of}, to: base, at_least: 0}}" for of in about),
        "{ordering: test/acc, of: [base, ctd]}",
        "{value: test/acc, at_least: 0}",
        "{bands: {test/acc: [0, 100]}}",
        "{monotone: [test/acc, train/clean/acc], direction: rising}",
    )
    assert {one.word for one in found} == {Word.UNRESOLVED}
    for one in found[:2]:
        assert "test/acc of ctd is not finite for seed 2" in one.detail
    assert "test/acc of base is not finite for seed 1" in found[2].detail
    for one in found[3:]:
        assert "test/acc of ctd is not finite for seed 2" in one.detail
    assert not any("seeds are needed" in one.detail for one in found), "there are enough of them"


def test_nothing_is_divided_by_zero(lab: Any, claimed: Any) -> None:
    train(lab, base=[50.0, 40.0, 60.0], ctd=[0.0, 50.0, 60.0])
    (found,) = claimed("{ratio: test/acc, to: base, at_least: 1}")
    assert found.word is Word.UNRESOLVED
    assert "test/acc of ctd is 0 for seed 0" in found.detail


def test_survivors_are_said_to_be_that(lab: Any, claimed: Any) -> None:
    train(lab, base=BASE[:2], ctd=[50.1, 60.2, 70.1])
    lab.run("base", 2, status="HALTED", message="rule collapsed")
    near = "{difference: test/acc, to: base, at_least: -5}"
    ahead = "{ordering: test/acc, of: [ctd, base]}"
    own, planned = "{value: test/acc, at_least: 1}", "{ratio: flops, to: base, at_least: 1}"
    *two, alone, counted = claimed(near, ahead, own, planned)
    for one in two:
        assert "not counted: base seed 2 (halted)" in one.why
    assert "not counted" not in alone.detail + counted.detail


def test_that_every_seed_diverged_is_an_answer(lab: Any, claimed: Any) -> None:
    train(lab, base=BASE)
    for seed in range(3):
        lab.run("ctd", seed, status="DIVERGED", message="loss is nan")
    found = claimed(
        "{difference: test/acc, to: base, at_least: 0}", "{value: test/acc, near: 9, within: 1}"
    )
    assert [one.word for one in found] == [Word.UNRESOLVED] * 2
    assert all("every seed of ctd diverged or was halted" in one.why for one in found)


def test_accuracies_that_agree_are_known_as_well_as_the_test_set_tells(
    lab: Any, claimed: Any
) -> None:
    """Two seeds, 360 test digits: half a digit is 0.139 points, and Student's t of one degree with
    so wide an sd reaches 1.25 points to either side."""
    train(lab, base=[50.0, 60.0], ctd=[90.0, 90.0])
    half = stats.t.ppf(0.975, 1) * (100 / 360 / 2) / 2**0.5
    near, far = found = claimed(
        f"{{value: test/acc, at_least: {90 - half + 0.01:.3f}}}",
        f"{{value: test/acc, at_least: {90 - 3 * half:.3f}}}",
    )
    assert near.word is Word.UNRESOLVED and far.word is Word.REPRODUCED
    assert near.plain()["low"] == pytest.approx(90 - half)
    assert near.plain()["sd"] == 0
    assert "90.00 % for every seed, 95 % interval 88.75 % to 91.25 %, n=2" in near.detail
    assert "an sd of half an example at least" in remark(found)
    (other,) = claimed("{difference: test/acc, to: base, at_least: 0}")
    assert "half an example" not in remark([other])


def test_differences_that_agree_are_known_as_well_as_two_accuracies(lab: Any, claimed: Any) -> None:
    """Both accuracies of a pair are whole digits of 360; one that is not makes differences fine."""
    train(lab, base=BASE, ctd=[b + 5 for b in BASE], other=[b + 0.01 for b in BASE])
    coarse, fine, ratio = claimed(
        "{difference: test/acc, to: base, at_least: 4.5}",
        "{difference: test/acc, to: other, at_least: 4.5}",
        "{ratio: test/acc, to: base, at_least: 0.1}",
    )
    t, step = stats.t.ppf(0.975, 2) / 3**0.5, 100 / 360
    assert coarse.plain()["low"] == pytest.approx(5 - t * step)
    assert coarse.word is Word.UNRESOLVED and fine.word is Word.REPRODUCED
    assert fine.plain()["low"] == pytest.approx(4.99)
    assert ratio.word is Word.REPRODUCED


def test_what_agrees_in_all_digits_and_is_no_share_decides(lab: Any, claimed: Any) -> None:
    train(lab, base=[50.0, 60.0], ctd=[50.5, 60.5])
    loss, flops = found = claimed(
        "{value: train/loss, at_most: 100}", "{ratio: parameters, to: base, at_least: 1}"
    )
    assert (loss.word, flops.word) == (Word.REPRODUCED, Word.REPRODUCED)
    assert "for every seed, n=2" in loss.detail and "interval" not in loss.detail
    assert "decided by the plan" in flops.detail
    assert "the same for every seed in all digits" in remark(found)
    assert "half an example" not in remark(found)
