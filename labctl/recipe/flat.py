"""A recipe as one file, for people who begin from it: all it extends laid in, fields explained."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from labctl.errors import PluginError, RecipeError
from labctl.project import Project
from labctl.registry.card import Architecture, Card, Dataset, OptimizerCard
from labctl.registry.helptext import help_texts
from labctl.registry.registry import Registry

from .catalogue import composed, located
from .document import Document
from .source import Mark, parse_value

WIDTH = 100
_CARDS: dict[str, tuple[type[Card], str]] = {
    "model": (Architecture, "architecture"),
    "data": (Dataset, "name"),
    "optimizer": (OptimizerCard, "kind"),
}


def flattened(project: Project, name: str, registry: Registry | None = None) -> str:
    """The text of a recipe that extends nothing and means the same.

    With a registry, the fields that a block leaves at their defaults follow it as comments.

    Raises:
        UsageError: no such recipe.
        RecipeError: a file of it cannot be read.
    """
    file = located(project, name)
    tree = composed(project, file).plain()
    known = [field for field in Document.model_fields if field in tree]
    order = [*known, *(field for field in tree if field not in Document.model_fields)]
    parts = [f"# Made from {file.name}. Check with: labctl validate THIS_FILE\n"]
    for field in order:
        help_ = help_texts(Document).get(field)
        comment = _comment(help_) if help_ else ""
        own = "".join(_unused(field, tree[field], registry))
        parts.append(comment + _entry(field, tree[field], is_open=bool(own)) + own)
    return "\n".join(parts)


def _flow(value: Any) -> str:
    """YAML on one line, which `labctl.recipe.source` reads as `value`."""
    text = yaml.dump(
        value,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=10**6,
        default_flow_style=True,
    )
    return str(text).removesuffix("...\n").strip(" \n")  # other white space is text


def _entry(key: str, value: Any, *, is_open: bool = False, indent: str = "") -> str:
    """`key: value`, mappings opened where they do not fit on a line or `is_open` asks for it."""
    name = f"{indent}{_flow(key)}:"
    line = f"{name} {_flow(value)}\n"
    if not isinstance(value, dict) or not value or (len(line) <= WIDTH and not is_open):
        return line
    entries = (_entry(k, v, indent=indent + "  ") for k, v in value.items())
    return f"{name}\n" + "".join(entries)


def _comment(text: str, indent: str = "") -> str:
    start = indent + "# "
    return textwrap.fill(text, WIDTH, initial_indent=start, subsequent_indent=start) + "\n"


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
            explained = f"{line}  # {help_}" if help_ else line
            if len(explained) > WIDTH:
                yield _comment(help_, "  ")
                explained = line
            yield f"{explained}\n"


def _fields(config: type[BaseModel]) -> Iterator[tuple[str, Any, str]]:
    """Name, default as JSON has it, and help of every field that may be left out."""
    for name, info in config.model_fields.items():
        if not info.is_required():
            default = info.get_default(call_default_factory=True)
            help_ = help_texts(config).get(name, "")
            yield info.alias or name, to_jsonable_python(default, by_alias=True), help_


_BREAKS = ("\x85", "\u2028", "\u2029")
"""Line breaks to YAML beside the usual ones."""


class _Dumper(yaml.SafeDumper):
    """PyYAML's, with quotes where labctl would read a text as something else."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """A text, quoted unless a plain one reads the same."""
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=_style(text))


def _style(text: str) -> str | None:
    if any(mark in text for mark in _BREAKS):
        return '"'  # single quotes would fold it
    try:
        plain = parse_value(text, Mark("")).value
    except RecipeError:
        plain = None
    return None if plain == text else "'"


_Dumper.add_representer(str, _Dumper.represent_text)
