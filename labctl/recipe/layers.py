"""Recipes laid on one another: what a recipe extends, the recipe, its preset, overrides."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from labctl.errors import Problem, RecipeError

from .source import Mark, Node, parse_value

COLLECTIONS = ("loss", "marks", "schedules", "measure", "stop", "claims", "presets")
"""Parts of a recipe that are entries by name; null takes an inherited entry away."""
_OPTIONS = ("loss", "measure")
"""Collections whose entries may well have no fields."""
NAMING = ("architecture", "name", "kind")
"""Fields that say what a block is; a layer that changes one replaces the whole block."""
TABLE = "values"
"""Of a schedule, by time. Its keys are data: a layer that has one replaces it whole."""
NOTHING = Node({}, Mark(""))


def laid(under: Node, over: Node) -> Node:
    """The recipe `over` laid on the recipe `under`: mappings key by key; anything else, and the
    table of a schedule, is replaced.

    A block that names another thing than the one below it (another `name`, `kind` or
    `architecture`) replaces it whole: the fields of the one mean nothing to the other.

    Raises:
        RecipeError: null for an entry that is not there to be taken away.
    """
    tree = _stacked(under, over)
    problems = []
    children = dict(tree.children)
    for name in COLLECTIONS:
        part = children.get(name)
        if part is None or not isinstance(part.value, dict):
            continue
        below = under.get(name) or NOTHING
        kept = {}
        for key, entry in part.value.items():
            if entry.value is not None:
                kept[key] = entry
            elif key not in below.children:
                hint = f"for its defaults write {key}: {{}}" if name in _OPTIONS else "remove it"
                message = f"{name}.{key}: null takes away an inherited entry, and there is none"
                problems.append(Problem(message, str(part.keys[key]), hint))
        children[name] = Node(kept, part.mark, part.keys)
    if problems:
        raise RecipeError(problems)
    return Node(children, tree.mark, tree.keys)


def _stacked(under: Node, over: Node) -> Node:
    """As `laid`, with the nulls left in."""
    children, keys = dict(under.children), dict(under.keys)
    for key, child in over.children.items():
        below = children.get(key, NOTHING)
        if key == "presets":
            children[key] = _entries(below, child, _preset)
        elif key in COLLECTIONS:
            children[key] = _entries(below, child, _schedule if key == "schedules" else _block)
        else:
            children[key] = _block(below, child)
        keys[key] = over.keys[key]
    return Node(children, over.mark, keys)


def _entries(under: Node, over: Node, lay: Callable[[Node, Node], Node]) -> Node:
    if not isinstance(over.value, dict):
        return over
    children, keys = dict(under.children), dict(under.keys)
    for key, child in over.value.items():
        children[key] = lay(children.get(key, NOTHING), child)
        keys[key] = over.keys[key]
    return Node(children, over.mark, keys)


def _preset(under: Node, over: Node) -> Node:
    return _stacked(under, over) if isinstance(over.value, dict) else over


def _schedule(under: Node, over: Node) -> Node:
    block, table = _block(under, over), over.get(TABLE)
    if table is None:
        return block
    return Node({**block.children, TABLE: table}, block.mark, block.keys)


def _block(under: Node, over: Node) -> Node:
    if not isinstance(over.value, dict) or _renames(under, over):
        return over
    children, keys = dict(under.children), dict(under.keys)
    for key, child in over.value.items():
        children[key] = _block(children.get(key, NOTHING), child)
        keys[key] = over.keys[key]
    return Node(children, over.mark, keys)


def _renames(under: Node, over: Node) -> bool:
    for key in NAMING:
        above, below = over.get(key), under.get(key)
        if above is not None and below is not None and above.value != below.value:
            return True
    return False


def overridden(tree: Node, overrides: Iterable[str]) -> Node:
    """The recipe with every `a.b=value` of the command line laid on it.

    `optimizer.groups.0.lr_scale=2` reaches into a list. Those that name what a block is come first,
    so that `model.depth=4 model.architecture=x` means the depth of x.

    Raises:
        RecipeError: with every override that is not of that form, or finds no place.
    """
    problems: list[Problem] = []
    parsed = []
    for text in overrides:
        path, equals, value = text.partition("=")
        parts = path.strip().split(".")
        mark = Mark(f"override {text!r}")
        if not equals or not all(parts):
            hint = "write field=value, for example model.depth=4"
            problems.append(Problem(f"{text!r} is not an override", hint=hint))
            continue
        try:
            parsed.append((parts, parse_value(value.strip(), mark), mark))
        except RecipeError as error:
            problems += error.problems
    for parts, node, mark in sorted(parsed, key=lambda one: one[0][-1] not in NAMING):
        try:
            tree = laid(tree, _branch(tree, parts, node, mark))
        except RecipeError as error:
            problems += error.problems
    if problems:
        raise RecipeError(problems)
    return tree


def point_of(overrides: Iterable[str]) -> dict[str, Any]:
    """What overrides that `overridden` took set, but for the seeds: plain values by path, in order
    of paths; the last counts of several for one path."""
    point = {}
    for text in overrides:
        path, _, value = text.partition("=")
        if path.strip() != "seeds":
            point[path.strip()] = parse_value(value.strip(), Mark(text)).plain()
    return dict(sorted(point.items()))


def _branch(below: Node, parts: list[str], value: Node, mark: Mark) -> Node:
    """A tree with `value` at `parts`, and but for that only the rest of lists and tables on the
    way."""
    if not parts:
        return value
    part, rest = parts[0], parts[1:]
    if not isinstance(below.value, list):
        branch = _branch(below.get(part) or NOTHING, rest, value, mark)
        if part == TABLE and len(rest) == 1:
            table = below.get(part) or NOTHING
            branch = _block(table, branch)
        return Node({part: branch}, mark, {part: mark})
    entries = list(below.value)
    if not part.isdecimal() or int(part) >= len(entries):
        count = len(entries)
        hint = f"positions go from 0 to {count - 1}" if count else "the list is empty"
        raise RecipeError(f"no position {part!r} in a list of {count}", where=str(mark), hint=hint)
    entry = entries[int(part)]
    entries[int(part)] = _block(entry, _branch(entry, rest, value, mark))
    return Node(entries, below.mark)
