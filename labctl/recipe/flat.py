"""A recipe as one file: what it extends laid in, every field explained. For people who begin from it."""

from __future__ import annotations

import textwrap
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

WIDTH = 100
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
    known = [field for field in Document.model_fields if field in tree]
    order = [*known, *(field for field in tree if field not in Document.model_fields)]
    parts = [f"# Made from {file.name}. Check with: labctl validate THIS_FILE\n"]
    for field in order:
        info = Document.model_fields.get(field)
        comment = _comment(info.description) if info and info.description else ""
        own = "".join(_unused(field, tree[field], registry))
        parts.append(comment + _entry(field, tree[field], is_open=bool(own)) + own)
    return "\n".join(parts)


def _flow(value: Any) -> str:
    """YAML on one line."""
    text = yaml.safe_dump(
        value, sort_keys=False, allow_unicode=True, width=10**6, default_flow_style=True
    )
    return text.removesuffix("...\n").strip()


def _entry(key: str, value: Any, *, is_open: bool = False, indent: str = "") -> str:
    """`key: value`, mappings opened where they do not fit on a line or `is_open` asks for it."""
    line = f"{indent}{key}: {_flow(value)}\n"
    if not isinstance(value, dict) or not value or (len(line) <= WIDTH and not is_open):
        return line
    return f"{indent}{key}:\n" + "".join(
        _entry(k, v, indent=indent + "  ") for k, v in value.items()
    )


def _comment(text: str, indent: str = "") -> str:
    flat = " ".join(text.split())
    return (
        textwrap.fill(flat, WIDTH, initial_indent=indent + "# ", subsequent_indent=indent + "# ")
        + "\n"
    )


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
            line = f"  # {name}: {_flow(default)}"
            if help_ and len(line) + len(help_) + 4 > WIDTH:
                yield _comment(help_, "  ")
            yield (
                line
                + (f"  # {help_}" if help_ and len(line) + len(help_) + 4 <= WIDTH else "")
                + "\n"
            )


def _fields(config: type[BaseModel]) -> Iterator[tuple[str, Any, str]]:
    for name, info in config.model_fields.items():
        default = (
            info.get_default(call_default_factory=True)
            if info.default is not PydanticUndefined
            else None
        )
        plain = default.model_dump(mode="json") if isinstance(default, BaseModel) else default
        yield (
            info.alias or name,
            list(plain) if isinstance(plain, tuple) else plain,
            " ".join((info.description or "").split()),
        )
