"""Seeds as a recipe writes them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from labctl.recipe.seeds import Growing, SeedChoice, Seeds

CHOICE: TypeAdapter[Any] = TypeAdapter(SeedChoice)


@pytest.mark.parametrize(
    ("given", "seeds"), [(3, (0, 1, 2)), ([4], (4,)), ([7, 2], (7, 2)), (1, (0,))]
)
def test_a_number_counts_and_a_list_names(given: Any, seeds: tuple[int, ...]) -> None:
    assert CHOICE.validate_python(given) == seeds
    assert TypeAdapter(Seeds).validate_python(given) == seeds


@pytest.mark.parametrize("given", [0, [], [1, 1], [-1], "3", True, 1001])
def test_what_names_no_seeds_is_refused(given: Any) -> None:
    with pytest.raises(ValidationError):
        CHOICE.validate_python(given)


@pytest.mark.parametrize(
    ("until", "metric", "most"),
    [
        ("ci_halfwidth <= 0.3", "test/acc", 0.3),
        ("ci_halfwidth<=2", "test/acc", 2.0),
        ("ci_halfwidth(train/loss) <= 1e-3", "train/loss", 1e-3),
        ("ci_halfwidth(tokens) <= 1_000", "tokens", 1000.0),
        ("ci_halfwidth(train/clean/loss) <= .05", "train/clean/loss", 0.05),
    ],
)
def test_a_rule_names_a_metric_and_a_width(until: str, metric: str, most: float) -> None:
    rule = CHOICE.validate_python({"min": 2, "max": 5, "until": until})
    assert isinstance(rule, Growing)
    assert (rule.metric, rule.most) == (metric, most)
    assert (rule.first, rule.further) == ((0, 1), (2, 3, 4))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"until": "p < 0.05"}, "should be ci_halfwidth <= 0.3"),
        ({"until": "ci_halfwidth <= 0"}, "should be ci_halfwidth <= 0.3"),
        ({"until": "ci_halfwidth <= 0e5"}, "should be ci_halfwidth <= 0.3"),
        ({"until": "ci_halfwidth < 1"}, "should be ci_halfwidth <= 0.3"),
        ({"max": 3}, "max 3 should be more than min 3"),
        ({"min": 1}, "greater than or equal to 2"),
        ({"mim": 3}, "mim"),
    ],
)
def test_rules_that_say_nothing_are_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        CHOICE.validate_python({"max": 9, "until": "ci_halfwidth <= 1"} | fields)
