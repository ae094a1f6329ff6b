"""Validating a tree that came from a file: every problem found, each with its place."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from labctl.errors import PluginError, Problem, did_you_mean
from labctl.registry.card import Card
from labctl.registry.config import Config
from labctl.registry.registry import Loaded, Registry

from .source import Node

C = TypeVar("C", bound=Card)
M = TypeVar("M", bound=Config)
Path_ = tuple[str | int, ...]


@dataclass
class Check:
    """Problems collected over a tree."""

    tree: Node
    subject: str = "the recipe"
    """What messages call the tree as a whole."""
    problems: list[Problem] = field(default_factory=list)

    def report(self, path: Path_, message: str, hint: str = "") -> None:
        """Note a problem of what `path` leads to."""
        self.problems.append(Problem(message, str(self.tree.place(path)), hint))

    def model(self, model: type[M], data: Any, path: Path_) -> M | None:
        """`data` validated by `model`; None after reporting what is wrong."""
        try:
            return model.model_validate_json(json.dumps(data))
        except ValidationError as error:
            for details in error.errors():
                self._report_pydantic(model, details, path)
            return None

    def _report_pydantic(self, model: type[BaseModel], details: ErrorDetails, path: Path_) -> None:
        loc = tuple(part for part in details["loc"] if part != "[key]")
        name = ".".join(str(part) for part in (*path, *loc)) or self.subject
        message, hint = f"{name}: {_message(details)}", ""
        if details["type"] == "extra_forbidden":
            message = f"unknown field {name!r}"
            hint = did_you_mean(str(loc[-1]), _fields(model, loc[:-1]))
        elif details["type"] == "missing":
            message = f"{name} is missing"
            hint = _help(model, loc)
        self.report((*path, *loc), message, hint)

    def card(
        self, registry: Registry, kind: type[C], name: str, path: Path_, near: list[str]
    ) -> tuple[C, Loaded] | None:
        """The card `name` of `kind`; None after reporting that there is none."""
        try:
            return registry.find(kind, name, near=near)
        except PluginError as error:
            where = f"{error.where}: " if error.where else ""
            self.report(path, where + error.message, error.hint)
            return None


def _message(details: ErrorDetails) -> str:
    text = details["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    text = text.replace("Input should be", "should be").replace("Input", "value")
    given = details["input"]
    is_shown = not isinstance(given, dict | list) and details["type"] != "value_error"
    return f"{text}, not {given!r}" if is_shown else text


def _fields(model: type[BaseModel], loc: tuple[Any, ...]) -> list[str]:
    """Names of the fields that the part of `model` at `loc` has."""
    for part in loc:
        if isinstance(part, int):  # a place in a list, whose entries have the type of the list
            continue
        info = model.model_fields.get(str(part))
        inner = info.annotation if info else None
        candidates = [inner, *getattr(inner, "__args__", ())]
        found = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if not found:
            return []
        model = found[0]
    return [info.alias or name for name, info in model.model_fields.items()]


def _help(model: type[BaseModel], loc: tuple[Any, ...]) -> str:
    for name, info in model.model_fields.items():
        if loc and (info.alias or name) == loc[-1]:
            return info.description or ""
    return ""
