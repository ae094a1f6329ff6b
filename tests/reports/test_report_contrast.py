"""Two runs, recipes or published results held against each other."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from labctl.cli.contrasts import print_contrast
from labctl.cli.main import app
from labctl.errors import LabctlError, UsageError
from labctl.reports.bundle import write_bundle
from labctl.reports.contrast import Amount, Change, Contrast, compare
from labctl.reports.contrast_page import contrast_page
from labctl.reports.side import side
from labctl.store.run import Run, run_of


@pytest.fixture
def base(lab: Any) -> Any:
    lab.recipe("base")
    return lab


def held(lab: Any, a: str, b: str, *, with_code: bool = False) -> Contrast:
    sides = (side(lab.project, lab.registry, text) for text in (a, b))
    return compare(lab.registry, *sides, with_code=with_code)


def changes(found: tuple[Change, ...]) -> dict[str, tuple[Any, Any]]:
    return {change.path: (change.a, change.b) for change in found}


def rewrite(run: Run, change: Callable[[dict[str, Any]], None]) -> None:
    path = run.folder / "journal/0001.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records:
        change(record)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def test_exactly_the_fields_that_differ_are_named(base: Any) -> None:
    base.run("base", 0, acc=0.5)
    other = base.run("base", 0, acc=0.75, flops=3e9, point=("schedules.lr.peak=2e-3",))
    found = held(base, "base seed=0", other.plan.name)
    assert changes(found.fields) == {"schedules.lr.peak": (1e-3, 2e-3)}
    (lr,) = found.schedules
    assert lr.knob == "lr" and lr.b[0].value == 2 * float(lr.a[0].value)
    assert [point.step for point in lr.a] == [0, 22, 44, 66, 87]  # of 4 epochs of 22
    assert not (found.code or found.data or found.environment)
    by_metric = {one.metric: one for one in found.results}
    accuracy = by_metric["test/acc"]
    assert (accuracy.a.mean, accuracy.b.mean) == (50, 75)
    assert accuracy.difference == Amount(mean=25, sd=None, n=1)
    assert by_metric["flops"].difference == Amount(mean=2e9, sd=None, n=1)
    assert by_metric["seconds per step"].difference == Amount(mean=0, sd=None, n=1)
    (parting,) = found.partings
    assert parting.step is None and parting.compared > 2


def test_it_is_symmetric(base: Any) -> None:
    base.run("base", 0, acc=0.5)
    other = base.run("base", 1, acc=0.625, point=("batch_size=32", "ema={decay: 0.9}"))
    there, back = (
        held(base, *names)
        for names in (("base seed=0", other.plan.name), (other.plan.name, "base seed=0"))
    )
    assert {"batch_size", "ema.decay", "seed", "steps"} < set(changes(there.fields))
    for ours, theirs in ((there.fields, back.fields), (there.environment, back.environment)):
        assert changes(ours) == {path: (a, b) for path, (b, a) in changes(theirs).items()}
    assert [(k.knob, k.a, k.b) for k in there.schedules] == [
        (k.knob, k.b, k.a) for k in back.schedules
    ]
    for one, other_one in zip(there.results, back.results, strict=True):
        assert (one.metric, one.a, one.b) == (other_one.metric, other_one.b, other_one.a)
        assert one.difference is not None and other_one.difference is not None
        assert one.difference.mean == -other_one.difference.mean
    assert [(p.step, p.a, p.b) for p in there.partings] == [
        (p.step, p.b, p.a) for p in back.partings
    ]


def test_the_first_loss_that_is_not_the_same_is_said(base: Any) -> None:
    base.run("base", 0)
    other = base.run("base", 1)

    def change(record: dict[str, Any]) -> None:
        if record["kind"] == "first_losses":
            record["losses"][1] = "2.26"

    rewrite(other, change)
    (parting,) = held(base, "base/seed=0", "base/seed=1").partings
    assert (parting.seeds, parting.step, parting.metric) == ((0, 1), 2, "loss")
    assert (parting.a, parting.b) == ("2.25", "2.26")


def test_two_recipes_are_compared_by_plan_and_by_means_paired_by_seed(base: Any) -> None:
    base.recipe("deep", model="{architecture: toy, width: 8}")
    for seed, ours, theirs in ((0, 0.5, 0.5), (1, 0.25, 0.5), (2, 0.75, None)):
        base.run("base", seed, acc=ours)
        if theirs is not None:
            base.run("deep", seed, acc=theirs)
    found = held(base, "base", "deep")
    assert changes(found.fields) == {"model.width": (4, 8)}
    (accuracy,) = (one for one in found.results if one.metric == "test/acc")
    assert (accuracy.a, accuracy.b.n) == (Amount(mean=50, sd=25, n=3), 2)
    assert accuracy.difference is not None
    assert (accuracy.difference.mean, accuracy.difference.n) == (12.5, 2)
    assert [parting.seeds for parting in found.partings] == [(0, 0), (1, 1)]
    assert any("missing: seed 2" in note for note in found.notes)


def test_recipes_without_results_are_compared_by_plan(base: Any) -> None:
    found = held(base, "base", "base@smoke")
    assert changes(found.fields)["steps"] == (88, 44)
    assert [one.knob for one in found.schedules] == ["lr"]
    assert not (found.results or found.environment or found.partings)
    assert sum("has no result" in note for note in found.notes) == 2


def test_a_run_that_was_never_begun_is_its_plan(base: Any) -> None:
    base.run("base", 0)
    plan = base.plan("base", 1)
    run_of(base.project, plan).create(plan, {})
    found = held(base, "base/seed=0", "base/seed=1")
    assert changes(found.fields) == {"seed": (0, 1)}
    assert not found.results and found.b.statuses == {}
    assert found.notes[0] == "base seed=1 is PENDING"


def test_environment_data_and_conditions(base: Any, lab: Any) -> None:
    base.run("base", 0)
    base.recipe("other", data="{name: cifar10}")
    facts = {"device": "cpu", "device_name": "a CPU", "torch": "2.12.0", "threads": 2}
    kept = {
        "git": {"commit": "beef" * 10, "is_dirty": True},
        "labctl": "0.1.0",
        "packages": {"torch": "2.12.0", "numpy": "2.3.0"},
    }
    base.run("other", 0, facts=facts, provenance=kept)
    found = held(base, "base/seed=0", "other/seed=0")
    environment = changes(found.environment)
    assert environment["device_name"] == ("NVIDIA H200", "a CPU")
    assert environment["packages.torch"] == ("2.11.0", "2.12.0")
    assert environment["commit"] == ("c0ffee" * 6, "beef" * 10)
    assert environment["is_dirty"] == (False, True)
    assert "packages.numpy" not in environment and "labctl" not in environment
    assert changes(found.data)["name"] == ("digits", "cifar10")
    assert "times are not comparable" in " ".join(found.notes)


def test_code_is_told_by_file_and_line(base: Any) -> None:
    init = base.project.plugins / "toy" / "__init__.py"
    sides = []
    for text in ("WIDEST = 4\n", "WIDEST = 5\n", "WIDEST = 5  # for now\n"):
        init.write_text(init.read_text().partition("WIDEST")[0] + text)
        run = base.run("base", len(sides))
        folder = run.source_path / "toy"
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(init.read_text())
        sides.append(run.plan.name)
    (code,) = held(base, sides[0], sides[1], with_code=True).code
    assert code.a != code.b and code.files == ("__init__.py",)
    assert "\n-WIDEST = 4\n+WIDEST = 5\n" in code.diff and "--- a/toy/__init__.py\n" in code.diff
    (comment,) = held(base, sides[1], sides[2]).code
    assert comment.a == comment.b and comment.files == ("__init__.py",) and not comment.diff
    assert comment.is_equal and not code.is_equal
    (stored,) = base.project.runs.glob("base/*/seed=2/source/toy/__init__.py")
    stored.write_text(stored.read_text().replace("WIDEST = 5", "WIDEST = 6"))
    (altered,) = held(base, sides[1], sides[2]).code
    assert altered.a == altered.b and not altered.is_equal


def test_a_bundle_entry_is_a_side(base: Any, tmp_path: Path) -> None:
    runs = [base.run("base", seed) for seed in (0, 1)]
    write_bundle(runs, tmp_path / "x.json")
    found = held(base, "base/seed=0", "x.json:base/seed=0")
    parts = (found.fields, found.schedules, found.code, found.data, found.environment)
    assert parts == ((), (), (), (), ())
    assert all(one.a == one.b for one in found.results)
    assert found.b.name == "base seed=0 in x.json" and found.a.keys == found.b.keys
    together = held(base, "x.json:base", "base")
    assert sorted(together.a.keys) == ["0", "1"] and len(together.partings) == 2


def test_json_holds_all_of_it(base: Any) -> None:
    base.run("base", 0, acc=math.nan)
    base.run("base", 1, status="DIVERGED", message="loss stopped being finite")
    found = held(base, "base/seed=0", "base/seed=1")
    text = json.dumps(found.model_dump(mode="json"), allow_nan=False)
    again = Contrast.model_validate_json(text)
    assert again.model_dump(mode="json") == found.model_dump(mode="json")
    assert found.b.statuses == {"1": "DIVERGED"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", "no run and no recipe 'nothing'"),
        ("base@nothing", "nothing"),
        ("x.json:nothing", "no run 'nothing'"),
        ("x.json", "x.json is a bundle\n  name a run of it: x.json:base"),
    ],
)
def test_what_is_not_there(base: Any, tmp_path: Path, text: str, message: str) -> None:
    write_bundle([base.run("base", 0)], tmp_path / "x.json")
    with pytest.raises(LabctlError, match=message):
        side(base.project, base.registry, text)


def test_a_run_of_a_preset_is_called_as_status_calls_it(base: Any) -> None:
    run = base.run("base", 0, "smoke")
    found = side(base.project, base.registry, "base@smoke/seed=0")
    assert (found.name, list(found.results)) == (run.plan.name, [0])
    with pytest.raises(LabctlError, match="no preset 'quarter'"):
        side(base.project, base.registry, "base@quarter")


def test_runs_of_different_work_are_no_side(base: Any) -> None:
    for size in (16, 32):
        base.run("base", 0, point=(f"batch_size={size}",))
    with pytest.raises(UsageError, match="means different work") as caught:
        side(base.project, base.registry, "base/seed=0")
    assert "'base batch_size=32 seed=0'" in caught.value.hint


@pytest.mark.parametrize("width", [80, 160])
def test_it_can_be_read_at(
    base: Any, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base.run("base", 0)
    other = base.run("base", 0, acc=0.75, point=("schedules.lr.peak=2e-3", "model.width=8"))
    found = held(base, "base seed=0", other.plan.name)
    monkeypatch.setattr("labctl.cli.contrasts.console._width", width)
    print_contrast(found)
    printed = capsys.readouterr().out
    assert all(len(line) <= width for line in printed.splitlines())
    for whole in (
        "model.width",
        "schedules.lr.peak",
        "+25.00 points",
        "test/acc (%)",
    ):
        assert whole in printed


def test_runs_are_compared_without_torch(base: Any) -> None:
    base.run("base", 0)
    base.run("base", 1)
    script = (
        "import sys; from labctl.cli.main import app\n"
        "app(['compare', 'base/seed=0', 'base/seed=1', '--json'], standalone_mode=False)\n"
        "heavy = {'torch', 'mlflow', 'optuna', 'scipy', 'matplotlib'} & sys.modules.keys()\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=base.project.root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert changes(Contrast.model_validate_json(done.stdout).fields) == {"seed": (0, 1)}


def contrast_text(base: Any, a: str, b: str) -> str:
    ours, theirs = (side(base.project, base.registry, text) for text in (a, b))
    found = compare(base.registry, ours, theirs)
    return contrast_page(found, ours, theirs, "labctl compare A B")


@pytest.mark.slow
def test_a_page_says_what_the_terminal_says(
    base: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    early = {44: {"test/acc": 0.01}}
    base.run("base", 0, evaluations=early)
    other = base.run("base", 0, acc=0.75, point=("schedules.lr.peak=2e-3",), evaluations=early)
    text = contrast_text(base, "base seed=0", other.plan.name)
    monkeypatch.setattr("labctl.cli.contrasts.console._width", 160)
    print_contrast(held(base, "base seed=0", other.plan.name))
    shown = unescape(re.sub("<[^>]*>", " ", text.partition("</style>")[2]))
    for word in capsys.readouterr().out.split():
        assert word in shown or not word.strip("\u2500"), word
    assert text.count("<svg") == text.count("<figure") >= 1
    assert "test/acc over training" in text
    assert not re.search("<script|<link|<img|url\\(http|[^:]href=| src=", text)


def test_a_page_of_what_never_ran_has_no_curves(base: Any) -> None:
    base.recipe("later", model="{architecture: toy, width: 16}")
    text = contrast_text(base, "base", "later")
    assert "<svg" not in text and "later has no result" in text and "no schedule differs" in text


def test_a_page_shows_names_as_text(base: Any) -> None:
    base.run("base", 0, provenance={"system": "<b>odd</b>"})
    base.run("base", 1, provenance={"system": "plain"})
    text = contrast_text(base, "base seed=0", "base seed=1")
    assert "&lt;b&gt;odd" in text and "<b>odd" not in text


@pytest.mark.slow
def test_a_page_is_written_where_it_was_asked(base: Any, capsys: Any) -> None:
    base.run("base", 0)
    base.run("base", 1)
    for asked, found in (("site", "site/compare.html"), ("x/y.html", "x/y.html")):
        app(["compare", "base/seed=0", "base/seed=1", "--html", asked], standalone_mode=False)
        assert capsys.readouterr().out == f"wrote {found}\n"
        text = (base.project.root / found).read_text(encoding="utf-8")
        assert "labctl compare base/seed=0 base/seed=1" in text
    with pytest.raises(UsageError, match="--html writes a page, --json prints"):
        app(["compare", "base", "base", "--html", "x", "--json"], standalone_mode=False)
