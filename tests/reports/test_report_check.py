"""`labctl check`: what it judges, what it prints, and the exit code that scripts read."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from labctl.cli.main import main
from labctl.errors import RecipeError, UsageError
from labctl.reports.bundle import write_bundle
from labctl.reports.checked import check
from labctl.reports.listing import listing

CLAIMS = """
claims:
  kept: {difference: test/acc, to: base, at_least: -1, source: "a paper, table 1"}
"""


@pytest.fixture(autouse=True)
def only_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """No bundled recipes: what is checked is what a test wrote."""
    monkeypatch.setattr("labctl.recipe.catalogue.bundled_root", lambda: None)


@pytest.fixture
def race(lab: Any) -> Any:
    """`race(differences, claims)`: runs of base and ctd, whose accuracies differ by so much."""

    def run(differences: list[float], claims: str = CLAIMS) -> Any:
        lab.recipe("base")
        lab.recipe("ctd", claims, batch_size="32")
        for seed, difference in enumerate(differences):
            level = 0.5 + seed / 10
            lab.run("base", seed, acc=level)
            lab.run("ctd", seed, acc=level + difference / 100)
        return lab

    return run


@pytest.fixture
def labctl(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """`labctl(*words)`: exit code, stdout, stderr."""

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["labctl", *words])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return call


def test_a_claim_that_holds_is_reproduced(race: Any, labctl: Any) -> None:
    race([-0.1, 0.0, 0.1])
    code, out, err = labctl("check", "ctd")
    assert code == 0 and not err
    words = " ".join(out.split())
    for part in (
        "As expected",
        "ctd",
        "REPRODUCED",
        "kept",
        "n=3",
        "at least -1 points",
        "table 1",
    ):
        assert part in words
    assert out.splitlines()[-1] == "1 claim: 1 REPRODUCED; nothing unexpected"


def test_a_wrong_claim_is_refuted_and_the_exit_code_is_4(race: Any, labctl: Any) -> None:
    race([-3.1, -3.0, -2.9])
    code, out, err = labctl("check")
    assert code == 4
    assert out.startswith("Not as expected\n ctd")
    assert "1 REFUTED; 1 not as expected" in out
    assert "ctd: kept: REFUTED; expected REPRODUCED" in err


@pytest.mark.parametrize(("differences", "code"), [([-3.1, -3.0, -2.9], 0), ([0.1, 0.0, 0.2], 4)])
def test_a_claim_known_to_be_false_is_expected_to_be_refuted(
    race: Any, labctl: Any, differences: list[float], code: int
) -> None:
    race(differences, CLAIMS.replace("at_least: -1", "at_least: -1, known: refuted"))
    assert labctl("check")[0] == code


def test_too_few_seeds_are_unresolved_and_fail_only_if_strict(race: Any, labctl: Any) -> None:
    race([-0.9, -0.2])
    code, out, _ = labctl("check", "ctd")
    assert code == 0
    assert "Unresolved" in out and "seeds would settle it" in " ".join(out.split())
    code, _, err = labctl("check", "ctd", "--strict")
    assert code == 4 and "ctd: kept: UNRESOLVED; expected REPRODUCED" in err


def test_what_has_no_result_is_said_and_fails_only_if_strict(race: Any, labctl: Any) -> None:
    race([])
    code, out, _ = labctl("check")
    assert code == 0
    assert out.splitlines()[:2] == ["Without results", " ctd   kept"]
    assert labctl("check", "--strict")[0] == 4


def test_a_published_value_never_fails(race: Any, labctl: Any) -> None:
    race([], "\nclaims: {level: {reference: test/acc, value: 99}}\n")
    assert labctl("check", "--strict")[0] == 0


def test_a_speedup_above_its_bound_is_suspect(lab: Any, labctl: Any) -> None:
    lab.recipe("base")
    lab.recipe("ctd", "\nclaims: {fast: {ratio: time, to: base, at_least: 1.1}}\n")
    for seed in range(3):
        lab.run("base", seed, rate=0.016 + seed * 1e-4, flops=1e9)
        lab.run("ctd", seed, rate=0.010, flops=8e8, point=())
    lab.recipe("ctd", "\nclaims: {fast: {ratio: time, to: base, at_least: 1.1}}\n")
    code, out, _ = labctl("check", "ctd")
    assert code == 4
    assert "SUSPECT" in out
    assert "above the 1.25 that the executed FLOPs allow" in " ".join(out.split())


def test_more_flops_in_no_more_time_are_not_suspect(lab: Any, labctl: Any) -> None:
    """Small models keep no device busy."""
    speedup = "{ratio: time, to: base, "
    claims = f"\nclaims: {{fast: {speedup}at_least: 0.9}}, slow: {speedup}at_most: 5}}}}\n"
    lab.recipe("base")
    lab.recipe("ctd", claims)
    for seed in range(3):
        lab.run("base", seed, rate=0.010 + seed * 1e-5, flops=1e9)
        lab.run("ctd", seed, rate=0.010 + seed * 1e-5, flops=4e9, point=())
    lab.recipe("ctd", claims)
    code, out, _ = labctl("check", "ctd")
    assert code == 0 and "SUSPECT" not in out and out.count("REPRODUCED") >= 2


@pytest.mark.parametrize(("over", "word"), [(1.006, "REPRODUCED"), (1.015, "SUSPECT")])
def test_a_time_that_another_day_would_shift_so_far_is_not_suspect(
    lab: Any, labctl: Any, over: float, word: str
) -> None:
    lab.recipe("base")
    lab.recipe("ctd", "\nclaims: {fast: {ratio: time, to: base, at_least: 1.1}}\n")
    for seed in range(3):  # trained together: one time among them
        lab.run("base", seed, rate=0.0125 * over, flops=1e9)
        lab.run("ctd", seed, rate=0.010, flops=8e8, point=())
    _, out, _ = labctl("check", "ctd", "--json")
    assert json.loads(out)["claims"][0]["verdict"] == word


def test_json_has_everything(race: Any, labctl: Any) -> None:
    race([-3.1, -3.0, -2.9])
    code, out, _ = labctl("check", "--json")
    found = json.loads(out)
    (claim,) = found["claims"]
    assert code == 4 and found["unexpected"] == 1
    assert claim["recipe"] == "ctd" and claim["verdict"] == "REFUTED"
    assert claim["expected"] == "REPRODUCED" and not claim["is_expected"]
    assert claim["mean"] == pytest.approx(-3) and claim["n"] == 3
    assert claim["low"] < -3 < claim["high"] and claim["p"] < 0.05
    assert claim["claimed"] == "at least -1 points" and claim["source"] == "a paper, table 1"


def test_table_and_check_say_the_same(race: Any) -> None:
    lab = race([-3.1, -3.0, -2.9])
    lab.table("rows: [{recipe: ctd}]\ncolumns: [{kind: verdict}]\n")
    (shown,) = lab.cell(lab.report(), 0, "Claims").claims
    (_, judged), *others = check(lab.project, lab.registry, ["main"]).verdicts
    assert not others
    assert judged.plain() == shown


def test_a_sweep_is_judged_too(lab: Any, labctl: Any) -> None:
    lab.recipe("base")
    lab.sweep(
        "recipe: base\naxes: {width: '2,4'}\nseeds: 5\n"
        "claims: {edge: {stable_from: 4}, low: {stable_from: 2, known: refuted}}\n",
        "width",
    )
    for seed in range(5):
        lab.run("base", seed, status="DIVERGED", point=["model.width=2"])
        lab.run("base", seed, point=["model.width=4"])
    code, out, _ = labctl("check", "width")
    assert code == 0
    assert "width (sweep)   REPRODUCED" in out
    assert "0 of 5 seeds stable" in out


def test_a_sweep_published_before_its_recipe_changed_is_judged_and_said_to_be(lab: Any) -> None:
    lab.recipe("base")
    lab.sweep(
        "recipe: base\naxes: {width: '2,4'}\nseeds: 5\nclaims: {edge: {stable_from: 4}}\n", "width"
    )
    runs = [
        lab.run("base", seed, status=status, point=[f"model.width={width}"], folder=lab.project.root
                / "elsewhere" / f"{width}.{seed}")
        for seed in range(5)
        for width, status in ((2, "DIVERGED"), (4, "DONE"))
    ]  # fmt: skip
    path = lab.project.root / "docs" / "results" / "x.json"
    path.parent.mkdir(parents=True)
    write_bundle(runs, path)
    lab.recipe("base", optimizer="{kind: sgd}")
    ((who, verdict),) = check(lab.project, lab.registry, ["width"]).verdicts
    assert verdict.word == "REPRODUCED" and who.edition == "docs/results/x.json"
    assert "published in docs/results/x.json before the recipe changed" in verdict.detail


def test_what_the_recipe_lacks_is_judged_by_what_was_published_before_it_changed(lab: Any) -> None:
    claims = "{deep: {value: train/depth, at_least: 2}, level: {value: test/acc, at_least: 60}}"
    lab.recipe("base", f"\nclaims: {claims}\n")
    steps = lab.plan("base", 0).work.steps
    runs = [
        lab.run("base", seed, acc=0.5, evaluations={steps: {"train/depth": 3 + seed / 10}},
                folder=lab.project.root / "elsewhere" / str(seed))
        for seed in range(3)
    ]  # fmt: skip
    path = lab.project.root / "docs" / "results" / "x.json"
    path.parent.mkdir(parents=True)
    write_bundle(runs, path)
    lab.recipe("base", f"\nclaims: {claims}\n", optimizer="{kind: sgd}")
    for seed in range(3):
        lab.run("base", seed, acc=0.7 + seed / 100)
    (who, deep), (now, level) = check(lab.project, lab.registry, ["base"]).verdicts
    assert (deep.claim, deep.word, who.edition) == ("deep", "REPRODUCED", "docs/results/x.json")
    assert (level.claim, level.word, now.edition) == ("level", "REPRODUCED", "")


def test_a_bundle_is_judged_like_runs(race: Any, labctl: Any, tmp_path: Any) -> None:
    lab = race([])
    runs = [
        lab.run(name, seed, acc=0.5, folder=lab.project.root / "elsewhere" / f"{name}{seed}")
        for name in ("base", "ctd")
        for seed in range(3)
    ]
    write_bundle(runs, tmp_path / "b.json")
    assert "REPRODUCED" not in labctl("check")[1]
    assert "1 REPRODUCED" in labctl("check", "--bundle", str(tmp_path / "b.json"))[1]


def test_with_a_preset_only_those_that_have_it_are_asked(race: Any, labctl: Any) -> None:
    lab = race([])
    lab.recipe("plain", CLAIMS, presets="{other: {budget: 1ep}}")
    code, out, _ = labctl("check", "--preset", "smoke")
    assert code == 0
    assert "ctd@smoke" in out and "plain" not in out
    assert "the claim is about digits for 4ep" in out
    code, _, err = labctl("check", "plain", "--preset", "smoke")
    assert code == 2 and "no preset 'smoke'" in err


def test_a_name_can_be_that_of_a_recipe_a_table_and_a_sweep(race: Any) -> None:
    lab = race([])
    lab.recipe("other", CLAIMS)
    lab.table("rows: [{recipe: other}]\ncolumns: [{kind: verdict}]\n", "ctd")
    lab.sweep("recipe: base\naxes: {width: '2,4'}\nclaims: {edge: {stable_from: 4}}\n", "ctd")
    found = check(lab.project, lab.registry, ["ctd"])
    assert {(who.name, who.is_sweep) for who, _ in found.verdicts} == {
        ("ctd", False), ("other", False), ("ctd", True)
    }  # fmt: skip
    by_path = check(lab.project, lab.registry, ["recipes/sweeps/ctd.yaml", "recipes/ctd.yaml"])
    assert [(who.name, who.is_sweep) for who, _ in by_path.verdicts] == [
        ("ctd", False), ("ctd", True)
    ]  # fmt: skip


def test_an_unknown_name_says_what_there_is(race: Any) -> None:
    lab = race([])
    with pytest.raises(UsageError, match="no recipe, table or sweep 'cdt'") as caught:
        check(lab.project, lab.registry, ["cdt"])
    assert "did you mean 'ctd'?" in str(caught.value)


def test_a_sweep_without_a_file_says_where_claims_of_it_would_stand(race: Any) -> None:
    lab = race([])
    with pytest.raises(UsageError, match=r"ctd\.model\.width is a sweep without a file") as caught:
        check(lab.project, lab.registry, ["ctd.width"])
    assert "recipe: ctd, axes: {model.width: [..]} and claims" in caught.value.hint
    assert "labctl check ctd" in caught.value.hint
    with pytest.raises(UsageError, match="ctd has no field 'wdith'"):
        check(lab.project, lab.registry, ["ctd.wdith"])


def test_every_faulty_recipe_is_named_at_once(race: Any) -> None:
    lab = race([])
    lab.recipe("one", CLAIMS.replace("test/acc", "tset/acc"))
    lab.recipe("two", CLAIMS.replace("to: base", "to: bsae"))
    with pytest.raises(RecipeError) as caught:
        check(lab.project, lab.registry)
    assert "recipes/one.yaml" in str(caught.value) and "recipes/two.yaml" in str(caught.value)


def test_the_listing_says_how_many_were_corrected_for(race: Any) -> None:
    more = CLAIMS + "  same: {difference: test/acc, to: base, within: 1}\n"
    lab = race([-0.1, 0.0, 0.1], more)
    text = " ".join(listing(check(lab.project, lab.registry)).split())
    assert "p corrected for the 2 claims judged here (Holm)" in text
    assert "two one-sided t tests at 5 %" in text


def test_a_key_does_not_depend_on_claims(race: Any) -> None:
    lab = race([])
    before = lab.plan("ctd", 0).key
    lab.recipe("ctd", "\nclaims: {o: {ordering: test/acc, of: [ctd, base]}}\n", batch_size="32")
    assert lab.plan("ctd", 0).key == before


def test_a_table_that_shows_no_sweep_there_is_says_so(race: Any) -> None:
    lab = race([])
    lab.table("rows: [{sweep: wdith}]\ncolumns: [{kind: verdict}]\n")
    with pytest.raises(RecipeError, match="no sweep 'wdith'"):
        check(lab.project, lab.registry, ["main"])


@pytest.mark.parametrize("columns", ["10", "60", "200"])
def test_a_listing_fits_the_terminal(
    race: Any, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    lab = race([-0.1, 0.0, 0.1])
    monkeypatch.setenv("COLUMNS", columns)
    text = listing(check(lab.project, lab.registry))
    assert max(map(len, text.splitlines())) <= max(60, int(columns))
