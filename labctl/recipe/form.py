"""What pydantic models have where: the fields that an author may have meant."""

from __future__ import annotations

from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, Tag
from pydantic.fields import FieldInfo

from labctl.registry.helptext import help_texts

from .source import Steps


class _Member(NamedTuple):
    """A type that a place may hold, and the tag that chooses it if it is one of several."""

    kind: Any
    tag: str


def fields_at(model: type[BaseModel], loc: Steps) -> list[str]:
    """Names of the fields of the models that an error's `loc` leads to, as a recipe writes them."""
    models = _models(model, loc)
    fields = [field for found in models for field in found.model_fields.items()]
    return list(dict.fromkeys(info.alias or name for name, info in fields))


class Found(NamedTuple):
    """A field of a model, and what its author says of it."""

    info: FieldInfo
    help: str


def field_at(model: type[BaseModel], loc: Steps) -> Found | None:
    """The field that an error's `loc` names last; None if it leads elsewhere."""
    for end in range(len(loc), 0, -1):
        for found in _models(model, loc[: end - 1]):
            if name := _name(found, loc[end - 1]):
                return Found(found.model_fields[name], help_texts(found).get(name, ""))
    return None


def _name(model: type[BaseModel], part: str | int) -> str | None:
    """Name of the field that a recipe calls `part`."""
    for name, info in model.model_fields.items():
        if (info.alias or name) == part:
            return name
    return None


def _models(model: type[BaseModel], loc: Steps) -> list[type[BaseModel]]:
    here = [_Member(model, "")]
    for part in loc:
        chosen = [member for member in here if member.tag == part and part]
        here = chosen or [below for member in here for below in _below(member, part)] or here
    return [member.kind for member in here if _is_model(member.kind)]


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _below(member: _Member, part: str | int) -> Iterator[_Member]:
    """What a model, mapping or list has at `part`."""
    if _is_model(member.kind):
        if name := _name(member.kind, part):
            yield from _members(member.kind.model_fields[name].annotation)
        return
    origin, arguments = get_origin(member.kind), get_args(member.kind)
    if origin is dict and isinstance(part, str):
        yield from _members(arguments[1])
    elif origin in (list, tuple) and isinstance(part, int):
        yield from _members(
            arguments[part if 0 < part < len(arguments) and ... not in arguments else 0]
        )


def _members(annotation: Any, tag: str = "") -> Iterator[_Member]:
    """The members of a union, with their tags; anything else is its own only member."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        tags = [extra.tag for extra in arguments[1:] if isinstance(extra, Tag)]
        yield from _members(arguments[0], tags[0] if tags else tag)
    elif origin in (Union, UnionType):
        for argument in arguments:
            yield from _members(argument, tag)
    else:
        yield _Member(annotation, tag or _kind(annotation))


def _kind(annotation: Any) -> str:
    """The constant `kind` of a model, which is its tag in a union discriminated by that field."""
    info = annotation.model_fields.get("kind") if _is_model(annotation) else None
    return str(info.default) if info is not None else ""
