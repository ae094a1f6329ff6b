"""How finely accuracies can be told."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.reports.resolution import step_of
from labctl.reports.rows import Row, Rows

TEST, TRAIN = 100 / 360, 100 / 1437
"""Points that one of the digits comes to."""


@pytest.fixture
def row(lab: Any) -> Any:
    """`row(acc, train_acc, data)`: a row of two runs, the first with these accuracies."""

    def make(acc: float, train_acc: float = 0.9, data: str = "{name: digits}") -> Row:
        lab.recipe("base", data=data)
        lab.run("base", 0, acc=acc, train_acc=train_acc)
        lab.run("base", 1, acc=0.5, train_acc=0.0)
        return Rows(lab.project, lab.registry, None, ()).of("base")[0]

    return make


@pytest.mark.parametrize("acc", [0.5, 324 / 360, 1.0, 0.0, float(f"{7 / 360:.7f}")])
def test_an_accuracy_moves_by_one_example(row: Any, acc: float) -> None:
    assert step_of(row(acc), "test/acc") == pytest.approx(TEST)


@pytest.mark.parametrize("acc", [0.501, 0.9001, float("nan")])
def test_one_that_is_no_whole_number_of_examples_is_finer(row: Any, acc: float) -> None:
    assert step_of(row(acc), "test/acc") == 0


@pytest.mark.parametrize(("train_acc", "step"), [(1000 / 1437, TEST + TRAIN), (0.5, 0.0)])
def test_a_gap_moves_by_either_of_its_accuracies(row: Any, train_acc: float, step: float) -> None:
    assert step_of(row(0.5, train_acc), "gap") == pytest.approx(step)


def test_examples_that_are_kept_for_validation_are_not_trained_on(row: Any) -> None:
    found = row(0.5, 1000 / 1337, "{name: digits, val: 100}")
    assert step_of(found, "train/clean/acc") == pytest.approx(100 / 1337)


@pytest.mark.parametrize("quantity", ["test/loss", "time", "parameters", "flops"])
def test_what_is_no_share_of_examples_has_no_step(row: Any, quantity: str) -> None:
    assert step_of(row(0.5), quantity) == 0
