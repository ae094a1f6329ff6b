"""`labctl verify` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from labctl.cli.verifying import _exit_code
from labctl.execute.verification import Finding

SHORT = ("seeds=[0, 1]", "budget=24step", "evaluate.every=24step", "schedules.lr.warmup=2step",
         "schedules.token_drop.start=4step", "schedules.token_drop.end=20step")  # fmt: skip
PUBLISHED = Path(__file__).parents[2] / "docs/results/ctd_short.json"


def test_a_difference_outweighs_a_failure_and_that_what_cannot_be_told() -> None:
    every = list(Finding)
    assert _exit_code(every) == 4
    assert _exit_code([one for one in every if one is not Finding.DIFFERS]) == 3
    assert _exit_code([Finding.EQUAL, Finding.IMPOSSIBLE]) == 6
    assert _exit_code([Finding.EQUAL, Finding.CLOSE]) == _exit_code([]) == 0


@pytest.mark.slow
def test_one_run_of_two_differs(lab: Any) -> None:
    first, second = lab.train_here("tiny", *SHORT)
    code, output = lab.labctl("verify", "tiny/seed=0", "--steps", "4")
    line = f"{first.plan.name}  equal: 5 losses and means of the first 4 steps, bit for bit\n"
    assert (code, output) == (0, line)
    journal = second.folder / "journal/0001.jsonl"
    records = [json.loads(line) for line in journal.read_text().splitlines()]
    for record in records:
        if record["kind"] == "first_losses":
            record["losses"][2] = "9.5"
    journal.write_text("".join(json.dumps(record) + "\n" for record in records))
    code, output = lab.labctl("verify", "tiny", "--steps", "4", "--json")
    assert code == 4
    equal, differs = json.loads(output)
    assert (equal["finding"], equal["first"]) == ("equal", None)
    assert differs["first"] | {"now": "", "relative": 0} == {
        "step": 3, "metric": "loss", "then": "9.5", "now": "", "relative": 0,
    }  # fmt: skip
    code, output = lab.labctl("verify", "tiny/seed=1", "--steps", "4")
    assert code == 4 and "differs: the loss of step 3 was 9.5, now 2." in output


@pytest.mark.slow
def test_a_published_run_whose_data_are_not_here_says_what_would_work(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LABCTL_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(lab.root / "cache"))
    name = "ctd_baseline@short/seed=42"
    code, output = lab.labctl("verify", "--bundle", str(PUBLISHED), name)
    assert code == 6
    assert output.startswith("ctd_baseline@short seed=42  not verified\n")
    assert "data set cifar100 is not here" in output and "labctl data fetch cifar100" in output
    assert not (lab.root / "runs").exists()
    code, output = lab.labctl("verify")
    assert code == 2 and "labctl verify RUN..." in output
