"""What a recipe's seeds can show, from what has been seen."""

from __future__ import annotations

import statistics
from typing import Any

import pytest

from labctl.reports.power import power_of
from labctl.reports.statistics import resolvable

CLAIMS = """\
claims:
  better: {difference: test/acc, to: base, at_least: 1}
  level: {value: test/acc, near: 60, within: 5}
  paper: {reference: test/acc, value: 60}
  slow: {ratio: time, to: base, at_least: 1}
"""


def test_spreads_are_those_of_what_is_judged(lab: Any) -> None:
    lab.recipe("base")
    lab.recipe("ctd", CLAIMS, seeds="[0, 1, 2, 3]", model="{architecture: toy, width: 8}")
    ours, theirs = {0: 0.60, 1: 0.64, 2: 0.63}, {0: 0.50, 1: 0.52, 2: 0.54}
    for seed in ours:
        lab.run("base", seed, acc=theirs[seed])
        lab.run("ctd", seed, acc=ours[seed])
    power = power_of(lab.project, lab.registry, lab.loaded("ctd"))
    assert power.seeds == (3, 4, 5, 10, 20)
    assert power.in_sds == tuple(map(resolvable, power.seeds))
    known = {one.claim: one for one in power.known}
    assert set(known) == {"better", "level"}, "a reference is not judged, a ratio has other units"
    differences = [100 * (ours[seed] - theirs[seed]) for seed in ours]
    assert known["better"].sd == pytest.approx(statistics.stdev(differences))
    assert (known["better"].n, known["better"].unit) == (3, " points")
    assert known["level"].sd == pytest.approx(statistics.stdev(100 * x for x in ours.values()))
    (better, _) = power.plain()["claims"]
    assert better["shows_from"][0] == pytest.approx(resolvable(3) * known["better"].sd)


def test_without_results_there_are_the_numbers_of_seeds(lab: Any) -> None:
    lab.recipe("base", seeds="[7]")
    power = power_of(lab.project, lab.registry, lab.loaded("base"))
    assert power.seeds == (3, 5, 10, 20) and power.known == ()
