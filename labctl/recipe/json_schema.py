"""The JSON schema of recipes, the fields of every plugin's cards included."""

from __future__ import annotations

from typing import Any

from labctl.registry.card import (
    Architecture,
    Card,
    Dataset,
    LearnerCard,
    LossTerm,
    MeasurementCard,
    OptimizerCard,
    ScheduleCard,
)
from labctl.registry.registry import Registry

from .document import DataBlock, Document, LearnerBlock, MeasureBlock, ModelBlock, OptimizerBlock, ScheduleBlock

_REF = "#/$defs/{model}"


def recipe_schema(registry: Registry) -> dict[str, Any]:
    """JSON schema (draft 2020-12) for editors: completion and checks while typing."""
    schema = Document.model_json_schema(by_alias=True, ref_template=_REF)
    defs: dict[str, Any] = schema.setdefault("$defs", {})
    for block, kind in (
        (ModelBlock, Architecture), (DataBlock, Dataset), (LearnerBlock, LearnerCard),
        (OptimizerBlock, OptimizerCard), (ScheduleBlock, ScheduleCard),
    ):  # fmt: skip
        base = defs.get(block.__name__) or block.model_json_schema(ref_template=_REF)
        defs[block.__name__] = {"anyOf": [_with_card(base, card, defs) for card, _ in registry.cards(kind)]}
    properties = schema["properties"]
    measures = {card.name: _named(card, defs, defs.get(MeasureBlock.__name__)) for card, _ in registry.cards(MeasurementCard)}
    properties["measure"] = {"type": "object", "properties": measures, "additionalProperties": False}
    losses = {card.name: _named(card, defs, None) for card, _ in registry.cards(LossTerm)}
    properties["loss"] = {"type": "object", "properties": losses, "additionalProperties": False}
    _nullable_entries(properties)
    properties["extends"] = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
    properties["presets"] = {"type": "object", "additionalProperties": {"type": "object"}}
    schema["required"] = ["model"]
    schema["title"] = "labctl recipe"
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema


def _card_schema(card: Card, defs: dict[str, Any]) -> dict[str, Any]:
    own = card.config.model_json_schema(by_alias=True, ref_template=_REF)
    defs.update(own.pop("$defs", {}))
    return own


def _with_card(base: dict[str, Any], card: Card, defs: dict[str, Any]) -> dict[str, Any]:
    """One member of a block's union: labctl's fields, the card's, and the card's name."""
    own = _card_schema(card, defs)
    naming = {card.field: {"const": card.name, "description": card.summary}}
    return {
        "type": "object",
        "title": card.name,
        "properties": {**base.get("properties", {}), **own.get("properties", {}), **naming},
        "required": [card.field],
        "additionalProperties": False,
    }


def _named(card: Card, defs: dict[str, Any], base: dict[str, Any] | None) -> dict[str, Any]:
    own = _card_schema(card, defs)
    return {
        "type": ["object", "null"],
        "description": card.summary,
        "properties": {**(base or {}).get("properties", {}), **own.get("properties", {})},
        "additionalProperties": False,
    }


def _nullable_entries(properties: dict[str, Any]) -> None:
    """Null takes an inherited entry away."""
    for name in ("schedules", "marks", "claims"):
        entry = properties[name].get("additionalProperties", {})
        properties[name]["additionalProperties"] = {"anyOf": [entry, {"type": "null"}]}
