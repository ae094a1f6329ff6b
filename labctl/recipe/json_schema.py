"""The JSON schema of recipes, the fields of every plugin's cards included."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

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
from labctl.registry.helptext import help_texts
from labctl.registry.registry import Registry

from .claim import KINDS
from .document import (
    Block,
    DataBlock,
    Document,
    LearnerBlock,
    MeasureBlock,
    ModelBlock,
    OptimizerBlock,
    ScheduleBlock,
)
from .times import Time

Schema = dict[str, Any]

_BLOCKS: tuple[tuple[str, type[Block], type[Card]], ...] = (
    ("model", ModelBlock, Architecture),
    ("data", DataBlock, Dataset),
    ("learner", LearnerBlock, LearnerCard),
    ("optimizer", OptimizerBlock, OptimizerCard),
)
_NULL: Schema = {"type": "null", "description": "takes away the inherited entry"}
_TEXTS: Schema = {"type": "array", "items": {"type": "string"}}


class _Generate(GenerateJsonSchema):
    """pydantic's, with help, and with times as a recipe writes them."""

    def model_schema(self, schema: core_schema.ModelSchema) -> Schema:
        made = super().model_schema(schema)
        model: type[BaseModel] = schema["cls"]
        for name, text in help_texts(model).items():
            alias = model.model_fields[name].alias or name if name in model.model_fields else name
            if alias in made.get("properties", {}):
                made["properties"][alias].setdefault("description", text)
        return made

    def dict_schema(self, schema: core_schema.DictSchema) -> Schema:
        made = super().dict_schema(schema)
        if "patternProperties" in made:
            made["additionalProperties"] = False
        return made

    def encode_default(self, dft: Any) -> Any:
        return str(dft) if isinstance(dft, Time) else super().encode_default(dft)


def recipe_schema(registry: Registry) -> Schema:
    """JSON schema (draft 2020-12) for editors: completion and checks while typing."""
    defs: Schema = {}
    document = _schema(Document, "", defs)
    properties = dict(document["properties"])
    for field, block, kind in _BLOCKS:
        properties[field] = _block(block, [card for card, _ in registry.cards(kind)], defs)
    schedules = _block(ScheduleBlock, [card for card, _ in registry.cards(ScheduleCard)], defs)
    value = {"type": ["number", "string"], "description": "a constant"}
    properties["schedules"] = _entries({"anyOf": [schedules, value, _NULL]})
    properties["marks"] = _nullable(properties["marks"])
    properties["claims"] = _nullable(_with_inherited(properties["claims"], defs))
    properties["stop"] = _nullable(properties["stop"])
    properties["loss"] = _named(registry, LossTerm, None, defs)
    properties["measure"] = _named(registry, MeasurementCard, MeasureBlock, defs)
    preset = {"type": ["object", "null"], "properties": properties, "additionalProperties": False}
    defs["preset"] = preset
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "labctl recipe",
        "description": document["description"],
        "type": "object",
        "properties": {
            "extends": {"anyOf": [{"type": "string"}, _TEXTS], "description": "Recipes below it."},
            **properties,
            "presets": _entries({"$ref": "#/$defs/preset"}),
        },
        "additionalProperties": False,
        "anyOf": [{"required": ["extends"]}, {"required": document["required"]}],
        "$defs": defs,
    }


def _schema(model: type[BaseModel], prefix: str, defs: Schema) -> Schema:
    """The model's schema; the models inside it go to `defs`, their names prefixed."""
    schema = model.model_json_schema(
        by_alias=True, ref_template=f"#/$defs/{prefix}{{model}}", schema_generator=_Generate
    )
    own = schema.pop("$defs", {})
    defs.update({prefix + name: inner for name, inner in own.items()})
    if "$ref" in schema:  # a model that contains itself
        schema = defs[schema["$ref"].removeprefix("#/$defs/")]
    return schema


def _block(block: type[Block], cards: list[Card], defs: Schema) -> Schema:
    """One member for each card, and one for a block that leaves its name to what it extends."""
    base = dict(_schema(block, "", defs)["properties"])
    members = [_member(base, card, defs) for card in cards]
    naming = cards[0].field
    fields: Schema = {name: {} for member in members for name in member["properties"]}
    unnamed = {
        "type": "object",
        "title": f"{naming} as inherited",
        "properties": {name: fields[name] for name in fields if name != naming},
        "additionalProperties": False,
    }
    return {"anyOf": [*members, unnamed], "description": (block.__doc__ or "").strip()}


def _member(base: Schema, card: Card, defs: Schema) -> Schema:
    """labctl's fields, the card's, and the card's name."""
    own = _schema(card.config, f"{card.kind}.{card.name}.", defs).get("properties", {})
    naming = {card.field: {"const": card.name, "description": card.summary}}
    return {
        "type": "object",
        "title": card.name,
        "properties": {**base, **own, **naming},
        "required": [card.field],
        "additionalProperties": False,
    }


def _named(registry: Registry, kind: type[Card], block: type[Block] | None, defs: Schema) -> Schema:
    """Entries whose key is the name of a card."""
    base = _schema(block, "", defs)["properties"] if block else {}
    entries = {}
    for card, _ in registry.cards(kind):
        own = _schema(card.config, f"{card.kind}.{card.name}.", defs).get("properties", {})
        entries[card.name] = {
            "type": ["object", "null"],
            "description": card.summary,
            "properties": {**base, **own},
            "additionalProperties": False,
        }
    return {"type": "object", "properties": entries, "additionalProperties": False}


def _with_inherited(claims: Schema, defs: Schema) -> Schema:
    """Claims, and one member more for a claim that leaves its kind to what the recipe extends."""
    kinds = claims["additionalProperties"]["oneOf"]
    models = [defs[kind["$ref"].removeprefix("#/$defs/")] for kind in kinds]
    fields: Schema = {
        name: field for model in models for name, field in model["properties"].items()
    }
    inherited = {
        "type": "object",
        "title": "claim as inherited",
        "properties": {name: field for name, field in fields.items() if name not in KINDS},
        "additionalProperties": False,
    }
    return {**claims, "additionalProperties": {"anyOf": [*kinds, inherited]}}


def _entries(entry: Schema) -> Schema:
    return {"type": "object", "additionalProperties": entry}


def _nullable(collection: Schema) -> Schema:
    """Null takes an inherited entry away."""
    entry = collection["additionalProperties"]
    return {**collection, "additionalProperties": {"anyOf": [entry, _NULL]}}
