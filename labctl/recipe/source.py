"""YAML read the way its author means it, every value with the place it came from."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from labctl.errors import Problem, RecipeError

Scalar = str | int | float | bool | None
Steps = tuple[str | int, ...]
"""From the root of a tree down: keys of mappings and positions in lists."""

MOST_DEPTH = 40
"""A tree that is deeper was not meant to be."""
MOST_VALUES = 100_000
"""Aliases can make a small file denote a tree of any size."""

_DIGITS = r"(?:0|[1-9]\d*|[1-9]\d{0,2}(?:_\d{3})+)"
_INTEGER = re.compile(rf"[+-]?{_DIGITS}")
_NUMBER = re.compile(rf"[+-]?(?:{_DIGITS}(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")
_NOT_FINITE = re.compile(r"[+-]?\.(?:inf|nan)", re.IGNORECASE)
_NORWAY = {"yes", "no", "on", "off"}
_TRUTHS = {"true": True, "false": False}
_NULLS = {"", "~", "null"}


@dataclass(frozen=True, slots=True)
class Mark:
    """Where something was written: a file with line and column, or an override."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file

    @property
    def position(self) -> tuple[str, int, int]:
        """To sort by."""
        return self.file, self.line, self.column


@dataclass(frozen=True, slots=True)
class Node:
    """A YAML value with its mark; a mapping's keys have marks of their own."""

    value: dict[str, Node] | list[Node] | Scalar
    mark: Mark
    keys: dict[str, Mark] = field(default_factory=dict)

    def plain(self) -> Any:
        """The value without marks: a dict, a list or a scalar."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value

    @property
    def children(self) -> dict[str, Node]:
        """The entries of a mapping; of anything else none."""
        return self.value if isinstance(self.value, dict) else {}

    def get(self, key: str) -> Node | None:
        """The entry `key` of a mapping; None if it has none, or is no mapping."""
        return self.children.get(key)

    def place(self, steps: Steps) -> Mark:
        """The mark of what `steps` lead to, a key's if it has one; else of the nearest parent."""
        node, mark = self, self.mark
        for step in steps:
            if isinstance(node.value, dict) and isinstance(step, str) and step in node.value:
                mark, node = node.keys.get(step, mark), node.value[step]
            elif isinstance(node.value, list) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
                mark = node.mark
            else:
                break
        return mark


def number(text: str) -> int | float | str:
    """The number that `text` is, as people write numbers (`1e-3`, `50_000`, `.5`), or the text.

    Numbers with leading zeros, hexadecimal and sexagesimal ones (`0.20:0.25`), and dates are text.
    """
    if _INTEGER.fullmatch(text):
        digits = text.replace("_", "")
        # Python refuses to read integers of thousands of digits; as a float such a number is inf.
        return int(digits) if len(digits) < 400 else float(digits)
    if _NUMBER.fullmatch(text):
        return float(text.replace("_", ""))
    return text


class _Reader:
    """Makes a tree of PyYAML's events, collecting every problem."""

    def __init__(self, text: str, whole: Mark, parser: type[Any] = yaml.BaseLoader) -> None:
        self.text, self.whole = text, whole
        self._is_file = whole.line == 1
        self.problems: list[Problem] = []
        self._values = 0
        self._anchors: dict[str, tuple[Node, int] | None] = {}
        """Node and number of values; None while the node is being read."""
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=parser)

    def document(self) -> Node:
        """The one document of the text."""
        tree: Node | None = None
        try:
            for event in self._events:
                if isinstance(event, yaml.DocumentStartEvent):
                    if tree is not None:
                        self._problem(
                            event, "a second document in one file", "remove the line `---`"
                        )
                        break
                    tree = self._node(next(self._events))
        except yaml.reader.ReaderError as error:
            self._unreadable(error)
        except yaml.MarkedYAMLError as error:
            self._malformed(error)
        if not self.problems and (tree is None or not isinstance(tree.value, dict)):
            hint = "write lines `field: value`"
            self._report(tree.mark if tree else self.whole, "empty, or no mapping at the top", hint)
        return self._unless_faulty(tree)

    def value(self) -> Node:
        """Any one value: a scalar, a list or a mapping."""
        tree: Node | None = None
        try:
            for event in self._events:
                if isinstance(event, yaml.NodeEvent):
                    tree = self._node(event)
                elif isinstance(event, yaml.DocumentStartEvent) and tree is not None:
                    self._problem(event, "several documents", "give one value")
        except (yaml.reader.ReaderError, yaml.MarkedYAMLError):
            hint = f"quote it: '\"{self.text}\"'"
            self._report(self.whole, f"the value {self.text!r} is not YAML", hint)
        return self._unless_faulty(tree or Node(None, self.whole))

    def _unless_faulty(self, tree: Node | None) -> Node:
        if self.problems:
            raise RecipeError(self.problems)
        assert tree is not None
        return tree

    def _report(self, mark: Mark, message: str, hint: str = "") -> None:
        self.problems.append(Problem(message, str(mark), hint))

    def _mark(self, event: yaml.Event) -> Mark:
        mark = event.start_mark
        assert mark is not None, "events of a text have marks"
        return self._at(mark.line, mark.column)

    def _at(self, line: int, column: int) -> Mark:
        """The mark of a place in the text, both counted from 0; an override has one mark only."""
        return Mark(self.whole.file, line + 1, column + 1) if self._is_file else self.whole

    def _problem(self, event: yaml.Event, message: str, hint: str = "") -> None:
        self._report(self._mark(event), message, hint)

    def _malformed(self, error: yaml.MarkedYAMLError) -> None:
        what = ", ".join(part for part in (error.context, error.problem) if part)
        hint = "a tab; use spaces" if "'\\t'" in what else ""
        mark = error.problem_mark or error.context_mark
        lines = self.text.splitlines()
        # What is not closed is noticed at the end, and `key:value` at the next line.
        if error.context_mark and (not mark or mark.line >= len(lines) or "simple key" in what):
            mark = error.context_mark
        if mark is None:
            self._report(self.whole, f"not YAML: {what}", hint)
            return
        if mark.line < len(lines):
            hint = f"{lines[mark.line]}\n  {' ' * mark.column}^ {hint}".rstrip()
        self._report(self._at(mark.line, mark.column), f"not YAML: {what}", hint)

    def _unreadable(self, error: yaml.reader.ReaderError) -> None:
        before = self.text[: error.position].split("\n")
        mark = self._at(len(before) - 1, len(before[-1]))
        self._report(mark, "a control character, which YAML does not allow", "remove it")

    def _node(self, event: yaml.Event, depth: int = 0) -> Node:
        if isinstance(event, yaml.AliasEvent):
            return self._aliased(event)
        assert isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent)
        before = self._values
        self._count(event, 1)
        if event.tag is not None:
            name = event.tag.replace("tag:yaml.org,2002:", "!!")
            self._problem(event, f"tags such as {name} are not read here", "write a plain value")
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            node = Node(self._scalar(event), self._mark(event))
        else:
            node = self._collection(event, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = (node, self._values - before)
        return node

    def _aliased(self, event: yaml.AliasEvent) -> Node:
        if event.anchor not in self._anchors:
            self._problem(event, f"an alias of nothing: no &{event.anchor} comes before it")
        elif (found := self._anchors[event.anchor]) is None:
            self._problem(event, f"an alias that contains itself: &{event.anchor}")
        else:
            self._count(event, found[1])
            return found[0]
        return Node(None, self._mark(event))

    def _count(self, event: yaml.Event, values: int) -> None:
        self._values += values
        if self._values > MOST_VALUES:
            self._problem(event, f"more than {MOST_VALUES:,} values", "a recipe is a page of text")
            raise RecipeError(self.problems)

    def _collection(self, event: yaml.Event, depth: int) -> Node:
        if depth >= MOST_DEPTH:
            self._problem(
                event, f"more than {MOST_DEPTH} levels deep", "a recipe needs four or five"
            )
            raise RecipeError(self.problems)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(event, depth + 1)
        entries = []
        while not isinstance(entry := next(self._events), yaml.SequenceEndEvent):
            entries.append(self._node(entry, depth + 1))
        return Node(entries, self._mark(event))

    def _mapping(self, event: yaml.Event, depth: int) -> Node:
        children: dict[str, Node] = {}
        keys: dict[str, Mark] = {}
        while not isinstance(key_event := next(self._events), yaml.MappingEndEvent):
            key = self._key(key_event, depth)
            child = self._node(next(self._events), depth)
            if key is None:
                continue
            if key in children:
                message = f"{key!r} is given twice; first at {keys[key]}"
                self._problem(key_event, message, "remove one of them")
            else:
                keys[key], children[key] = self._mark(key_event), child
        return Node(children, self._mark(event), keys)

    def _key(self, event: yaml.Event, depth: int) -> str | None:
        if not isinstance(event, yaml.ScalarEvent):
            self._node(event, depth)
        elif event.value == "<<" and not event.style:
            self._problem(event, "merge keys (<<) are not read here", "use `extends:`")
            return None
        elif event.value:
            return str(event.value)
        self._problem(event, "a key must be a word", "quote a text with special characters")
        return None

    def _scalar(self, event: yaml.ScalarEvent) -> Scalar:
        text = str(event.value)
        if event.style:
            return text
        if text in _NULLS:
            return None
        if text in _TRUTHS:
            return _TRUTHS[text]
        if text.lower() in _NORWAY or text.lower() in _TRUTHS:
            hint = f"write true or false, or quote it: '{text}'"
            self._problem(event, f"is {text!r} a truth value or a word?", hint)
            return text
        value = number(text)
        is_infinite = isinstance(value, float) and not math.isfinite(value)
        if is_infinite or _NOT_FINITE.fullmatch(text):
            self._problem(event, f"{_shortened(text)} is not a finite number", "write a number")
        elif isinstance(value, int) and abs(value) >= 2**63:
            self._problem(
                event, f"{_shortened(text)} does not fit into 64 bits", "write a smaller one"
            )
        return value


def _shortened(text: str) -> str:
    return text if len(text) <= 30 else f"{text[:20]}... ({len(text)} characters)"


@lru_cache(maxsize=256)
def parse(text: str, file: str) -> Node:
    """Read one YAML document; `file` is how messages call it.

    Raises:
        RecipeError: with every problem that was found.
    """
    tabs = [n for n, line in enumerate(text.splitlines(), 1) if re.match(r" *\t", line)]
    if tabs:
        problem = "a tab in the indentation"
        raise RecipeError([Problem(problem, str(Mark(file, n, 1)), "use spaces") for n in tabs])
    whole = Mark(file, 1, 1)
    # libyaml is much faster. It says less of a fault, and allows more tabs.
    if yaml.__with_libyaml__ and "\t" not in text:
        with suppress(RecipeError):
            return _Reader(text, whole, yaml.CBaseLoader).document()
    return _Reader(text, whole).document()


def parse_value(text: str, mark: Mark) -> Node:
    """Read one value that was written outside of a file, all of it at `mark`.

    Raises:
        RecipeError: it is not YAML, or is one of the traps that files do not allow either.
    """
    return _Reader(text, mark).value()


def read(path: Path, shown: str) -> Node:
    """Read a YAML file; `shown` is how messages call it.

    Raises:
        RecipeError: it cannot be read, or with every problem that was found in it.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RecipeError(f"cannot be read: {error.strerror}", where=shown) from None
    try:
        return parse(data.decode("utf-8-sig"), shown)
    except UnicodeDecodeError as error:
        before = data[: error.start].split(b"\n")
        mark = Mark(shown, len(before), len(before[-1]) + 1)
        raise RecipeError(
            "not UTF-8 text", where=str(mark), hint="save the file as UTF-8"
        ) from None
