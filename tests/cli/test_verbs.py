"""The command line as a user meets it, through `python -m labctl` in a project of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labctl.plans.derive import plans
from labctl.recipe.recipe import load
from labctl.store.run import run_of
from labctl.store.status import Status

pytestmark = pytest.mark.slow

SHORT = ("seeds=[1]", "budget=2ep", "schedules.token_drop.end=2ep", "evaluate.every=1ep")


@pytest.fixture
def trained(lab: Any) -> Any:
    lab.train_here("tiny", *SHORT)
    return lab


def test_a_flattened_copy_means_the_same_work(lab: Any) -> None:
    assert lab.labctl("cp", "ctd_gamma1.5", "mine.yaml")[0] == 0
    for preset in (None, "smoke"):
        original = plans(load(lab.project, lab.registry, "ctd_gamma1.5", preset))
        copied = plans(load(lab.project, lab.registry, str(lab.root / "mine.yaml"), preset))
        assert [plan.key for plan in original] == [plan.key for plan in copied]
    text = (lab.root / "mine.yaml").read_text()
    assert "extends" not in text
    # Every option that stands there as a comment is one, at the default it says.
    (lab.root / "all.yaml").write_text(
        "\n".join(_uncommented(line) for line in text.splitlines() if not _is_prose(line)),
        encoding="utf-8",
    )
    opened = plans(load(lab.project, lab.registry, str(lab.root / "all.yaml")))
    assert [plan.key for plan in opened] == [
        plan.key for plan in plans(load(lab.project, lab.registry, "ctd_gamma1.5"))
    ]
    code, output = lab.labctl("cp", "ctd_gamma1.5", "mine.yaml")
    assert code == 2 and "--force" in output


def _is_prose(line: str) -> bool:
    text = line.strip()
    return text.startswith("#") and not text.removeprefix("# ").split(" ")[0].endswith(":")


def _uncommented(line: str) -> str:
    return line.replace("# ", "", 1) if line.startswith("  # ") else line


def test_reading_verbs_speak_json(trained: Any) -> None:
    def parsed(*arguments: str) -> Any:
        code, output = trained.labctl(*arguments, "--json")
        assert code == 0, output
        return json.loads(output)

    assert "ctd_gamma1.5" in [row["name"] for row in parsed("ls")]
    assert {"digits", "cifar100", "npz"} <= {row["name"] for row in parsed("ls", "datasets")}
    assert parsed("status")[0]["status"] == "DONE"
    shown = parsed("show", "tiny/seed=1")
    assert (
        shown[0]["metrics"]["test/acc"] == trained.runs("tiny", *SHORT)[0].journal.last["test/acc"]
    )
    plan = parsed("plan", "tiny", *SHORT)
    assert plan["plans"][0]["key"] == shown[0]["plan"]["key"]
    assert parsed("validate", "tiny")["valid"] == ["tiny"]
    assert {"name": "digits", "state": "here"}.items() <= parsed("data")[0].items()
    assert all(row["state"] == "ok" for row in parsed("doctor"))


def test_status_says_what_was_set_otherwise_and_keeps_seeds_together(lab: Any) -> None:
    for depth in (1, 3):
        for job in lab.jobs("tiny", f"model.depth={depth}"):
            run_of(lab.project, job.plan).create(job.plan, {})
    code, output = lab.labctl("status", "--json")
    rows = [(row["set"], row["run"], row["status"]) for row in json.loads(output)]
    assert code == 0 and rows == [
        (f"model.depth={depth}", f"tiny/seed={seed}", "PENDING")
        for depth in (1, 3)
        for seed in (0, 1)
    ]
    assert "model.depth=3" in lab.labctl("status")[1]


def test_a_finished_run_is_repeated_bit_for_bit_from_its_stored_code(trained: Any) -> None:
    run = trained.runs("tiny", *SHORT)[0]
    model = run.source_path / "ctd_vit" / "model.py"
    code, output = trained.labctl("rerun", "tiny/seed=1")
    assert code == 0, output
    assert "identical" in output and "20 first losses" in output
    # The stored code is what is trained: a change in it shows, with the step.
    text = model.read_text()
    assert "std=0.02" in text or "0.02" in text
    model.write_text(text.replace("0.02", "0.021"))
    code, output = trained.labctl("rerun", "tiny/seed=1")
    assert code == 4 and "differs: the loss of step 1 " in output


def test_a_run_that_lies_elsewhere_is_repeated_as_well(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABCTL_RUNS", str(tmp_path / "large disk"))
    (run,) = lab.train_here("tiny", *SHORT)
    model = run.source_path / "ctd_vit" / "model.py"
    model.write_text(model.read_text().replace("0.02", "0.021"))
    code, output = lab.labctl("rerun", "tiny/seed=1")
    assert code == 4 and "differs: the loss of step 1 " in output


def test_plan_shows_cost_by_phase(lab: Any) -> None:
    code, output = lab.labctl("plan", "tiny", "--cost", "--json")
    assert code == 0, output
    cost = json.loads(output)["cost"]
    phases = cost["ledger"]["phases"]
    drops = [phase["structural"]["token_drop"] for phase in phases]
    flops = [phase["step_flops"] for phase in phases]
    assert drops == sorted(drops) and flops == sorted(flops, reverse=True) and len(drops) > 2
    assert cost["ledger"]["train_flops"] == sum(
        p["step_flops"] * (p["end"] - p["start"]) for p in phases
    )
    assert 0 < cost["estimates"][0]["seconds"] < 600


def test_plan_says_what_so_many_seeds_can_show(lab: Any) -> None:
    code, output = lab.labctl("plan", "tiny", "--power")
    assert code == 0, output
    assert "3.26 sd" in output and "two-sided t test at 0.05" in output
    code, output = lab.labctl("plan", "tiny", "--power", "--json")
    power = json.loads(output)["power"]
    assert power["seeds"] == sorted(power["seeds"]) and {3, 5, 10, 20} <= set(power["seeds"])
    assert power["in_sds"] == sorted(power["in_sds"], reverse=True)


def test_seeds_join_until_a_mean_is_known_and_later_runs_know_them(lab: Any) -> None:
    """Two seeds are never narrow enough here, so one joins, and with it the most is reached."""
    rule = '{"min": 2, "max": 3, "until": "ci_halfwidth <= 0.0001"}'
    words = ("run", "tiny", f"seeds={rule}", "budget=2ep", "schedules.token_drop=null")
    code, output = lab.labctl(*words, "--no-track")
    assert code == 0, output
    assert "(95 %, n=2), wanted 0.0001: 1 more" in output
    assert "max 3 is reached" in output and "3 runs: 3 DONE" in output
    code, output = lab.labctl(*words, "--no-track")
    assert code == 0 and "3 runs: 3 DONE before" in output, output
    code, output = lab.labctl("plan", *words[1:], "--json")
    assert code == 0 and list(json.loads(output)["status"].values()) == ["DONE"] * 3


def test_every_fault_of_a_recipe_is_one_message(lab: Any) -> None:
    lab.write("bad", "model: {architecture: ctd_vti, depth: 3}\nbatch_size: many\nbudgte: 3ep\n")
    code, output = lab.labctl("validate", "bad")
    assert code == 2
    assert "recipes/bad.yaml:1:9" in output and "did you mean 'ctd_vit'?" in output
    assert "recipes/bad.yaml:2:1" in output and "recipes/bad.yaml:3:1" in output
    assert "Traceback" not in output
    code, output = lab.labctl("run", "bad")
    assert code == 2 and "Traceback" not in output


def test_a_fault_of_presets_says_whose_it_is(lab: Any) -> None:
    base = (lab.root / "recipes" / "tiny.yaml").read_text()
    lab.write("under", f"{base}\npresets: {{small: {{schedules: {{lr: {{warmup: 20%}}}}}}}}\n")
    lab.write("over", "extends: under.yaml\nschedules: {lr: {kind: linear, from: 1e-3, to: 0}}\n")
    code, output = lab.labctl("validate", "under", "over")
    assert code == 2 and "under@small  valid" in output and "over  valid" in output, output
    assert "found in over@small" in output, output
    code, every = lab.labctl("validate")
    assert code == 2 and "tiny  valid" in every and "found in over@small" in every, every
    code, output = lab.labctl("validate", "model.depth=3")
    assert code == 2 and "model.depth=3 of which recipe?" in output


def test_a_split_that_a_measurement_shall_look_at_is_checked_before_training(lab: Any) -> None:
    asked = "measure={attention_maps: {split: val}}"
    code, output = lab.labctl("validate", "tiny", asked)
    assert code == 2 and "there is no split 'val'" in output and "there are: test, train" in output
    assert lab.labctl("validate", "tiny", asked, "data.val=32")[0] == 0


def test_a_name_that_no_file_can_have_is_no_run(lab: Any) -> None:
    code, output = lab.labctl("show", "x" * 300)
    assert code == 2 and "no run" in output and "fault of labctl" not in output


def test_the_best_of_a_metric_is_shown_where_one_is_better_and_chosen(trained: Any) -> None:
    code, output = trained.labctl("show", "tiny/seed=1")
    assert code == 0
    cells = {line.split()[0]: line.split()[1:] for line in output.splitlines() if "/" in line}
    assert len(cells["train/loss"]) == 4
    assert len(cells["test/acc"]) == 2, "no checkpoint is chosen by the test set"
    assert len(cells["train/grad_norm"]) == 2, "no direction is the better one"


def test_failed_runs_name_their_log_and_are_tried_again(
    lab: Any, make_lab: Callable[[str], Any]
) -> None:
    folder = lab.root / "plugins" / "fragile"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(
        "from labctl.api import Architecture\n"
        "def build(config, spec):\n"
        "    from pathlib import Path\n"
        f"    if not Path({str(lab.root / 'mended')!r}).exists():\n"
        "        raise RuntimeError('not mended yet')\n"
        "    from torch import nn\n"
        "    class Net(nn.Module):\n"
        "        def __init__(self):\n"
        "            super().__init__()\n"
        "            self.head = nn.Linear(64, 10)\n"
        "        def forward(self, inputs, knobs):\n"
        "            return self.head(inputs.flatten(1))\n"
        "    return Net()\n"
        "cards = (Architecture(name='fragile', build=build),)\n"
    )
    lab.write(
        "f",
        "data: {name: digits}\nmodel: {architecture: fragile}\nbatch_size: 64\nbudget: 2ep\n"
        "optimizer: {kind: sgd}\nschedules: {lr: 0.1}\n",
    )
    code, output = lab.labctl("run", "f", "--no-track")
    assert code == 3, output
    assert "not mended yet" in output and "worker.log" in output
    run = lab.runs("f")[0]
    assert run.status is Status.FAILED
    assert "RuntimeError" in lab.labctl("logs", "f")[1]
    (lab.root / "mended").touch()
    code, output = lab.labctl("run", "f", "--no-track")
    assert code == 0, output
    assert run.journal.last["test/acc"] > 0.8
