"""A recipe as one file: what it extends laid in, every field explained. For people who begin from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from labctl.errors import PluginError
from labctl.project import Project
from labctl.registry.card import Architecture, Card, Dataset, OptimizerCard
from labctl.registry.registry import Registry

from .catalogue import composed, located
from .document import Document

SCHEMA_FILE = "recipe.schema.json"
_CARDS: dict[str, tuple[type[Card], str]] = {
    "model": (Architecture, "architecture"),
    "data": (Dataset, "name"),
    "optimizer": (OptimizerCard, "kind"),
}


def flattened(project: Project, name: str, registry: Registry | None = None) -> str:
    """The text of a recipe that extends nothing and means the same.

    With a registry, the fields that a block leaves at their defaults follow it as comments.
    """
    file = located(project, name)
    tree = composed(project, file).plain()
    order = [*(field for field in Document.model_fields if field in tree), *(k for k in tree if k not in Document.model_fields)]
    parts = [f"# Made from {file.name}. Check with: labctl validate THIS_FILE"]
    for field in order:
        info = Document.model_fields.get(field)
        comment = f"# {info.description}\n" if info and info.description else ""
        parts.append(comment + _dumped({field: tree[field]}) + "".join(_unused(field, tree[field], registry)))
    return "\n".join(parts)


def _dumped(value: Any) -> str:
    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100, default_flow_style=None)
    return text


def _unused(field: str, block: Any, registry: Registry | None) -> Iterator[str]:
    """The card's fields that the block does not set, as comments with their defaults."""
    if registry is None or field not in _CARDS or not isinstance(block, dict):
        return
    kind, naming = _CARDS[field]
    try:
        card, _ = registry.find(kind, str(block.get(naming)))
    except PluginError:
        return
    for name, default, help_ in _fields(card.config):
        if name not in block:
            shown = _dumped({name: default}).strip()
            yield f"  # {shown}{'   # ' + help_ if help_ else ''}\n"


def _fields(config: type[BaseModel]) -> Iterator[tuple[str, Any, str]]:
    for name, info in config.model_fields.items():
        default = info.get_default(call_default_factory=True) if info.default is not PydanticUndefined else None
        plain = default.model_dump(mode="json") if isinstance(default, BaseModel) else default
        yield info.alias or name, list(plain) if isinstance(plain, tuple) else plain, " ".join((info.description or "").split())
