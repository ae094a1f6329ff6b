"""Plans in the words of a recipe: what is said of a field is what a user would write."""

from __future__ import annotations

from typing import Any

from labctl.plans.fields import fields_of, measure_fields
from labctl.plans.plan import differences, leaves

OVERRIDES = {
    "model.depth": ("3", 3),
    "data.augment.crop": ("2", 2),
    "loss.cross_entropy.smoothing": ("0.2", 0.2),
    "optimizer.weight_decay": ("0.01", 0.01),
    "optimizer.eps": ("1e-6", 1e-6),
    "batch_size": ("16", 16),
    "measure.attention_maps.images": ("7", 7),
}


def fields(lab: Any, *overrides: str) -> dict[str, Any]:
    plan = lab.jobs("tiny", "seeds=[0]", *overrides)[0].plan.model_dump(mode="json", by_alias=True)
    return {**fields_of(plan["work"]), "measure": measure_fields(plan["measures"])}


def test_a_field_is_called_as_it_is_overridden(lab: Any) -> None:
    """Whatever else follows from it: a batch size decides how many steps there are."""
    lab.write(
        "tiny", (lab.root / "recipes/tiny.yaml").read_text() + "measure: {attention_maps: {}}"
    )
    before = fields(lab)
    for name, (given, value) in OVERRIDES.items():
        changed = differences(before, fields(lab, f"{name}={given}"))
        assert name in changed and changed[name][1] == value, changed
        if name != "batch_size":
            assert set(changed) == {name}


def test_cards_are_called_as_a_recipe_does(lab: Any) -> None:
    found = leaves(fields(lab))
    named = {"model.architecture": "ctd_vit", "data.name": "digits", "optimizer.kind": "adamw"}
    assert {name: found[name] for name in named} == named
    assert found["learner.kind"] == "backprop" and "model.plugin" not in found
