"""What a plan comes to, in the words of a recipe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def fields_of(work: Mapping[str, Any]) -> dict[str, Any]:
    """The work of a plan, as JSON, by the fields that a recipe has for it: `model.depth`,
    `loss.cross_entropy.smoothing`. Times are in steps; what a recipe has no field for keeps its
    name."""
    rest = {name: value for name, value in work.items() if name not in _PARTS}
    return {
        "model": _part(work["architecture"], "architecture"),
        "data": _part(work["data"], "name"),
        "learner": _part(work["learner"], "kind"),
        "loss": {part["name"]: part["config"] for part in work["losses"]},
        "optimizer": _part(work["optimizer"], "kind"),
        **rest,
    }


def measure_fields(measures: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What is measured, likewise: `measure.attention_maps.images`."""
    return {part["name"]: {**part["config"], **codes_of(part)} for part in measures}


def codes_of(part: Mapping[str, Any]) -> dict[str, str]:
    """Digests of a measurement's code that no key holds, as far as there are such."""
    named = {"its code": "code", "its plugin's code": "plugin_code"}
    return {word: part[name] for word, name in named.items() if part.get(name)}


_PARTS = ("architecture", "data", "learner", "losses", "optimizer")


def _part(part: Mapping[str, Any], named: str) -> dict[str, Any]:
    """A card, which the recipe calls by the field `named`, with its config and what stands beside
    that."""
    beside = {k: value for k, value in part.items() if k not in ("name", "plugin", "config")}
    return {named: part["name"], **part["config"], **beside}
