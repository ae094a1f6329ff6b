"""Two checkpoints, example by example."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from labctl.reports.contrast import compare
from labctl.reports.items import Items, items
from labctl.reports.sections import remarks, sections
from labctl.reports.side import side
from labctl.store.run import Run


def keep(run: Run, right: Any, targets: Any | None = None) -> None:
    """Predictions that are right where `right` says, of three classes."""
    right = np.asarray(right, dtype=bool)
    classes = np.arange(len(right)) % 3 if targets is None else np.asarray(targets)
    predicted = np.where(right, classes, (classes + 1) % 3).astype(np.uint16)
    np.savez_compressed(
        run.predictions_path, test=predicted, test_targets=classes.astype(np.uint16)
    )


@pytest.fixture
def two(lab: Any) -> tuple[Run, Run]:
    lab.recipe("base")
    lab.recipe("other", model="{architecture: toy, width: 16}")
    return lab.run("base", 0), lab.run("other", 0)


def test_examples_that_one_alone_has_right_are_counted(two: tuple[Run, Run]) -> None:
    a, b = two
    right = np.zeros(1000, dtype=bool)
    ours, theirs = right.copy(), right.copy()
    ours[:600] = True
    theirs[50:700] = True
    keep(a, ours)
    keep(b, theirs)
    found = items(a, b)
    assert found is not None
    assert (found.seeds, found.n, found.only_a, found.only_b) == ((0, 0), 1000, 50, 100)
    assert found.difference == pytest.approx(5)
    sd = 100 * np.sqrt((150 / 1000 - 0.05**2) / 1000)  # of the mean of -1, 0 and 1
    assert found.low == pytest.approx(5 - 1.96 * sd, abs=0.15 * sd)
    assert found.high == pytest.approx(5 + 1.96 * sd, abs=0.15 * sd)
    assert items(a, b) == found, "the same examples, the same interval"


def test_models_that_agree_differ_by_nothing(two: tuple[Run, Run]) -> None:
    for run in two:
        keep(run, [True, False, True])
    found = items(*two)
    assert found is not None and (found.difference, found.low, found.high) == (0, 0, 0)


@pytest.mark.slow
def test_the_interval_holds_the_truth_as_often_as_it_says(two: tuple[Run, Run]) -> None:
    """B is right on 4 points more of all examples; 300 are drawn, two hundred times."""
    rng, hits = np.random.default_rng(5), 0
    for _ in range(200):
        kinds = rng.choice(3, size=300, p=[0.08, 0.12, 0.8])
        keep(two[0], kinds != 1)
        keep(two[1], kinds != 0)
        found = items(*two)
        assert found is not None
        hits += found.low <= 4 <= found.high
    assert 0.90 <= hits / 200 <= 0.985


def test_other_examples_are_not_compared(two: tuple[Run, Run]) -> None:
    a, b = two
    keep(a, [True] * 3, [0, 1, 2])
    keep(b, [True] * 3, [0, 2, 1])
    assert items(a, b) is None
    keep(b, [True] * 4)
    assert items(a, b) is None


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 cut off"])
def test_what_was_not_kept_is_not_compared(two: tuple[Run, Run], content: bytes | None) -> None:
    a, b = two
    keep(a, [True])
    if content is not None:
        b.predictions_path.write_bytes(content)
    assert items(a, b) is None


def test_predictions_of_before_targets_were_kept_are_not_compared(two: tuple[Run, Run]) -> None:
    a, b = two
    keep(a, [True, True])
    np.savez_compressed(b.predictions_path, test=np.zeros(2, dtype=np.uint16))
    assert items(a, b) is None


def test_a_comparison_tells_them(lab: Any, two: tuple[Run, Run]) -> None:
    keep(two[0], [True, False, False, True])
    keep(two[1], [True, True, True, True])
    found = compare(lab.registry, *(side(lab.project, lab.registry, n) for n in ("base", "other")))
    (one,) = found.items
    assert isinstance(one, Items) and (one.only_a, one.only_b) == (0, 2)
    (section,) = (s for s in sections(found) if s.title == "Examples")
    (row,) = section.rows
    assert row[:3] == ("seed 0, n=4", "0", "2") and row[3].startswith("+50.00 (+")
    assert any("not of other seeds" in text for text in remarks(found))
