"""`labctl eval`, as it is typed."""

from __future__ import annotations

import json
from typing import Any

import pytest

SHORT = ("schedules.token_drop=0.2", "schedules.lr=3e-3")


@pytest.mark.slow
def test_runs_are_evaluated_once_and_compared_with_the_first(lab: Any) -> None:
    lab.train_here("tiny", "budget=1ep", "evaluate.every=1ep", *SHORT)
    code, said = lab.labctl("eval", "tiny", "--suite", "cifar10-c")
    assert code == 2 and "suite 'cifar10-c' does not corrupt digits" in said
    assert "--suite digits-c" in said
    code, said = lab.labctl("eval", "tiny", "--official", "--suite", "digits-c")
    assert code == 6 and "nobody has published corrupted files of digits" in said
    options = ("--suite", "digits-c", "--images", "20", "--no-track")
    code, said = lab.labctl("eval", "tiny", *options)
    assert code == 0, said
    assert "digits-C-labctl v2: accuracy (%) on 20 images a cell" in said
    assert "relative CE" in said and "1.000" in said
    code, said = lab.labctl("eval", "tiny/seed=1", *options, "--json")
    assert code == 0, said
    assert "measures robustness" not in said, "it is not evaluated again"
    (found,) = json.loads(said[said.index("{") :]).values()
    cells = [value for row in found["accuracy"].values() for value in row]
    assert len(cells) == 75 and found["mean_accuracy"] == pytest.approx(sum(cells) / 75)
    assert [cell["accuracy"] for cell in found["worst"]] == sorted(cells)[:5]
    code, said = lab.labctl("eval", "tiny/seed=1", *options)
    assert "jpeg_compression" in said and "worst five" in said
    assert " frost* " in said and "frost*: needles of ice that labctl draws" in said
