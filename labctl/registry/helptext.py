"""The docstrings under the fields of a config: help for errors, recipes and the JSON schema.

pydantic can read them itself (`use_attribute_docstrings`), but does so when a class is made, which
every command would wait for; here they are read when somebody asks.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path

from pydantic import BaseModel


@cache
def help_texts(model: type[BaseModel]) -> Mapping[str, str]:
    """Help by the name of the field, each in one line; a `description` goes before a docstring."""
    texts: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        if issubclass(kind, BaseModel) and kind is not BaseModel:
            file = getattr(sys.modules.get(kind.__module__), "__file__", None)
            texts |= _docstrings(Path(file)).get(kind.__qualname__, {}) if file else {}
    described = {name: info.description for name, info in model.model_fields.items()}
    texts |= {name: text for name, text in described.items() if text}
    return {name: " ".join(text.split()) for name, text in texts.items()}


@cache
def _docstrings(file: Path) -> Mapping[str, Mapping[str, str]]:
    """Docstrings of fields, by the qualified name of the class and the name of the field."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError):  # moved or edited since it was imported
        return {}
    return dict(_classes(tree, ""))


def _classes(scope: ast.AST, prefix: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    for node in ast.iter_child_nodes(scope):
        if isinstance(node, ast.ClassDef):
            yield prefix + node.name, dict(_explained(node))
            yield from _classes(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _classes(node, f"{prefix}{node.name}.<locals>.")
        else:
            yield from _classes(node, prefix)


def _explained(definition: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, text in pairwise(definition.body):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(ast.Constant(str(docstring))):
                yield name, docstring
