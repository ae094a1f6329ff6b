"""YAML read the way its author means it, every value with the place it came from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from labctl.errors import Problem, RecipeError

Scalar = str | int | float | bool | None

_NUMBER = re.compile(r"[+-]?(\d[\d_]*)(\.[\d_]*)?([eE][+-]?\d+)?|[+-]?\.\d+([eE][+-]?\d+)?")
_INTEGER = re.compile(r"[+-]?\d[\d_]*")
_SPECIAL = {".inf": float("inf"), "-.inf": float("-inf"), "+.inf": float("inf"), ".nan": float("nan")}
_NORWAY = {"yes", "no", "on", "off", "y", "n"}
COLLECTIONS = ("loss", "marks", "schedules", "measure", "claims")
"""Parts of a recipe that are entries by name; null takes an inherited entry away."""
NAMING = ("architecture", "name", "kind")
"""Fields that say what a block is; a child that changes one replaces the whole block."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Where something was written: a file with line and column, or an override."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Node:
    """A YAML value with its mark; a mapping's keys have marks of their own."""

    value: dict[str, Node] | list[Node] | Scalar
    mark: Mark
    keys: dict[str, Mark] = field(default_factory=dict)

    def plain(self) -> Any:
        """The value without marks."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value

    def get(self, key: str) -> Node | None:
        return self.value.get(key) if isinstance(self.value, dict) else None

    def place(self, path: tuple[str | int, ...]) -> Mark:
        """The mark of what `path` leads to: of the key if it is there, else of the nearest parent.

        Parts of the path that no key matches, such as the name of a union's member, are passed over.
        """
        node, mark = self, self.mark
        for part in path:
            if isinstance(node.value, dict) and str(part) in node.value:
                mark = node.keys.get(str(part), mark)
                node = node.value[str(part)]
            elif isinstance(node.value, list) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
                mark = node.mark
        return mark


class _Reader:
    """Turns PyYAML's event-level nodes into ours, collecting every problem."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []

    def mark(self, node: yaml.Node) -> Mark:
        return Mark(self.file, node.start_mark.line + 1, node.start_mark.column + 1)

    def problem(self, node: yaml.Node, message: str, hint: str = "") -> None:
        self.problems.append(Problem(message, str(self.mark(node)), hint))

    def read(self, node: yaml.Node, parents: tuple[int, ...] = ()) -> Node:
        if id(node) in parents:
            self.problem(node, "an alias that contains itself")
            return Node(None, self.mark(node))
        if node.tag.startswith("!") or (
            node.tag.startswith("tag:yaml.org,2002:python")
        ):
            self.problem(node, f"tags such as {node.tag} are not read here", "write a plain value")
        parents = (*parents, id(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, parents)
        if isinstance(node, yaml.SequenceNode):
            return Node([self.read(child, parents) for child in node.value], self.mark(node))
        assert isinstance(node, yaml.ScalarNode)
        return Node(self._scalar(node), self.mark(node))

    def _mapping(self, node: yaml.MappingNode, parents: tuple[int, ...]) -> Node:
        children: dict[str, Node] = {}
        keys: dict[str, Mark] = {}
        for key_node, child in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.problem(key_node, "a key must be a word")
                continue
            key = str(key_node.value)
            if key == "<<":
                self.problem(key_node, "merge keys (<<) are not read here", "use `extends:`")
            elif key in children:
                self.problem(key_node, f"{key!r} is given twice; first at {keys[key]}", "remove one of them")
            else:
                keys[key] = self.mark(key_node)
                children[key] = self.read(child, parents)
        return Node(children, self.mark(node), keys)

    def _scalar(self, node: yaml.ScalarNode) -> Scalar:
        text = str(node.value)
        if node.style in ("'", '"', "|", ">"):
            return text
        if text in ("", "~", "null"):
            return None
        if text in ("true", "false"):
            return text == "true"
        if text.lower() in _NORWAY or text.lower() in ("true", "false"):
            self.problem(node, f"is {text!r} a truth value or a word?", f"write true or false, or quote it: '{text}'")
            return text
        return number(text)


def number(text: str) -> int | float | str:
    """The number that `text` is, as people write numbers (`1e-3`, `50_000`), or the text."""
    if text in _SPECIAL:
        return _SPECIAL[text]
    if _INTEGER.fullmatch(text) and not re.match(r"[+-]?0[\d_]", text):
        return int(text.replace("_", ""))
    if _NUMBER.fullmatch(text) and not re.match(r"[+-]?0\d", text):
        return float(text.replace("_", ""))
    return text


def parse(text: str, file: str) -> Node:
    """Read one YAML document.

    Raises:
        RecipeError: with every problem that was found.
    """
    tabs = [n for n, line in enumerate(text.splitlines(), 1) if re.match(r" *\t", line)]
    if tabs:
        raise RecipeError([Problem("a tab in the indentation", f"{file}:{n}:1", "use spaces") for n in tabs])
    try:
        documents = list(yaml.compose_all(text, Loader=yaml.BaseLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else file
        raise RecipeError(f"not YAML: {error.problem or error.context}", where=where, hint=_caret(text, mark)) from None
    except yaml.YAMLError as error:
        raise RecipeError(f"not YAML: {error}", where=file) from None
    if len(documents) > 1:
        raise RecipeError("several documents in one file", where=file, hint="remove the lines `---`")
    if not documents or not isinstance(documents[0], yaml.MappingNode):
        raise RecipeError("empty, or no mapping at the top", where=file, hint="a recipe begins `model: ...`")
    reader = _Reader(file)
    tree = reader.read(documents[0])
    if reader.problems:
        raise RecipeError(reader.problems)
    return tree


def _caret(text: str, mark: yaml.Mark | None) -> str:
    lines = text.splitlines()
    if mark is None or mark.line >= len(lines):
        return ""
    return f"{lines[mark.line]}\n  {' ' * mark.column}^"


def read(path: Path, shown: str) -> Node:
    """Read a YAML file; `shown` is how messages call it."""
    try:
        return parse(path.read_text(encoding="utf-8"), shown)
    except UnicodeDecodeError as error:
        raise RecipeError(f"not UTF-8 text: {error.reason} at byte {error.start}", where=shown) from None
    except OSError as error:
        raise RecipeError(f"cannot be read: {error.strerror}", where=shown) from None


def merged(under: Node, over: Node) -> Node:
    """`over` laid on `under`: mappings key by key, anything else replaced.

    A mapping that names another thing than the one below it (another `name`, `kind` or
    `architecture`) replaces it whole: the fields of the one mean nothing to the other.
    """
    if not isinstance(under.value, dict) or not isinstance(over.value, dict) or _renames(under, over):
        return over
    children = dict(under.value)
    keys = dict(under.keys)
    for key, child in over.value.items():
        below = children.get(key)
        children[key] = merged(below, child) if below is not None else child
        keys[key] = over.keys.get(key, child.mark)
    return Node(children, over.mark, keys)


def _renames(under: Node, over: Node) -> bool:
    for key in NAMING:
        above, below = over.get(key), under.get(key)
        if above is not None and below is not None and above.value != below.value:
            return True
    return False


def pruned(tree: Node) -> Node:
    """Without the entries of `COLLECTIONS` that are null: so a child takes away what its parent listed."""
    assert isinstance(tree.value, dict)
    children = dict(tree.value)
    for name in COLLECTIONS:
        part = children.get(name)
        if part is not None and isinstance(part.value, dict):
            kept = {key: child for key, child in part.value.items() if child.value is not None}
            children[name] = Node(kept, part.mark, part.keys)
    return Node(children, tree.mark, tree.keys)


def override(text: str) -> Node:
    """A tree for one `a.b=value` of the command line.

    Raises:
        RecipeError: it is not of that form, or its value is not YAML.
    """
    path, equals, value = text.partition("=")
    parts = path.strip().split(".")
    if not equals or not all(parts):
        raise RecipeError(f"{text!r} is not an override", hint="write field=value, for example model.depth=4")
    mark = Mark(f"override {text!r}")
    try:
        composed = yaml.compose(value.strip() or "null", Loader=yaml.BaseLoader)
    except yaml.YAMLError:
        composed = None
    if composed is None:
        raise RecipeError(f"the value {value!r} is not YAML", where=str(mark), hint="quote it: 'a.b=\"...\"'")
    reader = _Reader(str(mark))
    node = _remarked(reader.read(composed), mark)
    if reader.problems:
        raise RecipeError([Problem(p.message, str(mark), p.hint) for p in reader.problems])
    for part in reversed(parts):
        node = Node({part: node}, mark, {part: mark})
    return node


def _remarked(node: Node, mark: Mark) -> Node:
    if isinstance(node.value, dict):
        children = {key: _remarked(child, mark) for key, child in node.value.items()}
        return Node(children, mark, dict.fromkeys(children, mark))
    if isinstance(node.value, list):
        return Node([_remarked(child, mark) for child in node.value], mark)
    return Node(node.value, mark)


def walk(node: Node, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Node]]:
    """Every node below `node`, with its path."""
    yield path, node
    if isinstance(node.value, dict):
        for key, child in node.value.items():
            yield from walk(child, (*path, key))
    elif isinstance(node.value, list):
        for number_, child in enumerate(node.value):
            yield from walk(child, (*path, number_))
