"""Seeds are added until an interval is narrow, whatever lies in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from labctl.reports.growing import Growth, growth, joining
from labctl.reports.statistics import estimate

RULE = "{min: 3, max: 10, until: ci_halfwidth <= 2}"


@pytest.fixture
def grown(lab: Any) -> Any:
    """What is wanted after runs of these accuracies, of seeds 0, 1, ..."""

    def after(accuracies: Sequence[float], seeds: str = RULE, **last: Any) -> Growth:
        lab.recipe("base", seeds=seeds)
        for seed, acc in enumerate(accuracies):
            options = last if seed == len(accuracies) - 1 else {}
            lab.run("base", seed, acc=acc, **options)
        return growth(lab.project, lab.registry, lab.loaded("base"))

    return after


def width(accuracies: Sequence[float], n: int) -> float:
    """Half the 95 % interval in points for `n` seeds of this spread, from scipy."""
    spread = 100 * stats.tstd(accuracies)
    return float(stats.t.ppf(0.975, n - 1) * spread / n**0.5)


def test_as_many_join_as_the_spread_asks_for(grown: Any) -> None:
    accuracies = [0.60, 0.62, 0.63]
    found = grown(accuracies)
    needed = next(n for n in range(4, 11) if width(accuracies, n) <= 2)
    assert width(accuracies, 3) > 2 and found.seeds == tuple(range(3, needed))
    assert found.why == (
        f"base: test/acc is known to \u00b1 {width(accuracies, 3):.2g} points (95 %, n=3), wanted "
        f"2: {needed - 3} more"
    )


@pytest.mark.parametrize("accuracies", [[0.600, 0.601, 0.602], [0.1, 0.1, 0.1]])
def test_a_narrow_interval_is_enough_whatever_its_mean(
    grown: Any, accuracies: Sequence[float]
) -> None:
    found = grown(accuracies)
    assert found.seeds == () and found.why.endswith("wanted 2: enough")


def test_no_more_join_at_once_than_there_are(grown: Any) -> None:
    assert grown([0.1, 0.5, 0.9]).seeds == (3, 4, 5)


def test_it_ends_at_the_most(grown: Any) -> None:
    found = grown([0.1, 0.5, 0.9, 0.2], seeds="{min: 3, max: 4, until: ci_halfwidth <= 2}")
    assert found.seeds == () and found.why.endswith("max 4 is reached")


def test_another_metric_has_its_own_unit(grown: Any) -> None:
    """test/loss is one minus the accuracy here: a spread of 0.058, not 5.8."""
    rule = "{{min: 3, max: 10, until: ci_halfwidth(test/loss) <= {}}}"
    found = grown([0.6, 0.6, 0.7], seeds=rule.format(0.2))
    assert found.seeds == ()
    assert found.why.startswith("base: test/loss is known to \u00b1 0.14 (95 %")
    assert grown([], seeds=rule.format(0.01)).seeds == (3, 4, 5), "the same runs"


def test_a_seed_without_a_result_ends_it(grown: Any) -> None:
    """To go on with those that came through would be to choose among seeds."""
    found = grown([0.1, 0.5, 0.9], status="DIVERGED", message="loss is nan")
    assert found == Growth((), "base: seed 2 has no result, so no more seeds are added")


@pytest.mark.parametrize(("first", "most"), [(3, 0.6), (3, 2.0), (5, 0.6)])
def test_intervals_of_seeds_so_chosen_cover_in_90_to_95_percent(first: int, most: float) -> None:
    """By simulation, with the width in standard deviations; the table's footnote says so."""
    draws = np.random.default_rng(first)
    covered = []
    for _ in range(2000):
        values = list(draws.normal(size=first))
        while True:
            found = estimate(values)
            assert found is not None
            if not (more := joining(found, most, 10)):
                break
            values += list(draws.normal(size=more))
        covered.append(abs(found.mean) <= found.half_width())
    assert 0.885 < np.mean(covered) < 0.965


def test_a_table_says_how_seeds_were_chosen(grown: Any, lab: Any) -> None:
    grown([0.60, 0.62, 0.63, 0.61])
    lab.table("rows: [{recipe: base}]\ncolumns: [{kind: metric, metric: test/acc}]\n")
    row = lab.report().rows[0]
    assert row.cells[1].text.endswith("(n=4)"), "the one that joined counts"
    assert any(
        note.startswith("seeds joined until ci_halfwidth <= 2") for note in row.cells[0].notes
    )
