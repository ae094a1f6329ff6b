"""What is checked of a plugin's cards: nothing here runs a model."""

from __future__ import annotations

import ast
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.errors import PydanticUserError

from labctl.errors import Problem
from labctl.recipe import document
from labctl.recipe.schedule import Schedule
from labctl.registry.card import (
    Architecture,
    Card,
    Dataset,
    Knob,
    KnobValue,
    LearnerCard,
    MeasurementCard,
    OptimizerCard,
    ScheduleCard,
)
from labctl.registry.config import Config
from labctl.registry.digest import is_test
from labctl.registry.helptext import help_texts

from .bench import Bench, positions, usable_positions
from .naming import RULE, is_name

_BLOCKS: dict[type[Card], type[BaseModel]] = {
    Architecture: document.ModelBlock,
    Dataset: document.DataBlock,
    LearnerCard: document.LearnerBlock,
    OptimizerCard: document.OptimizerBlock,
    MeasurementCard: document.MeasureBlock,
}
"""Blocks of a recipe that have fields of labctl's own beside the card's."""
_MUTABLE = (list, set, bytearray)


def heavy_imports(bench: Bench) -> Iterator[Problem]:
    """Reading, planning and describing a recipe must not import torch."""
    order = {
        "root": str(bench.project.root),
        "plugin": bench.plugin,
        "recipe": bench.name,
        "preset": bench.preset,
        "overrides": bench.overrides,
    }
    command = [sys.executable, "-m", "labctl.testing.probe", json.dumps(order)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        yield Problem(f"cannot be loaded in a fresh process:\n{done.stderr.strip()}", bench.plugin)
        return
    for message, where in json.loads(done.stdout.splitlines()[-1]):
        yield Problem(message, where, "import it in the function that needs it, as _build does")


def foreign_imports(bench: Bench) -> Iterator[Problem]:
    """Of labctl, a plugin may import `labctl.api` alone: nothing else keeps its shape."""
    for path in _sources(bench.source):
        for line, module in _imports(ast.parse(path.read_text(encoding="utf-8"))):
            top, _, rest = module.partition(".")
            if top == "labctl" and rest.partition(".")[0] != "api":
                hint = "all that a plugin may use is in labctl.api"
                yield Problem(f"imports {module}", f"{path}:{line}", hint)
            elif top in ("plugins", "labctl_plugins"):
                hint = "a second copy would be loaded; import from . instead"
                yield Problem(f"imports {module}", f"{path}:{line}", hint)


def _sources(source: Path) -> Iterable[Path]:
    if source.is_file():
        return [source]
    return [path for path in sorted(source.rglob("*.py")) if not is_test(path)]


def _imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and module of every absolute import; `from a import b` names `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def names(bench: Bench) -> Iterator[Problem]:
    """Names that a recipe can spell, that mean one card, and that say what it is."""
    if not is_name(bench.plugin):
        yield Problem(f"plugin {bench.plugin!r}: a name is {RULE}")
    seen: set[tuple[str, str]] = set()
    for card in bench.loaded.cards:
        called = f"{card.kind} {card.name!r}"
        if not is_name(card.name):
            yield Problem(f"{called}: a name is {RULE}")
        if (card.kind, card.name) in seen:
            yield Problem(f"{called} is there twice", hint="rename one of them")
        seen.add((card.kind, card.name))
        if not card.summary.strip() or "\n" in card.summary:
            yield Problem(f"{called} has no summary of one line", hint="`labctl ls` shows it")
        for other, owner in bench.registry.cards(type(card)):
            if other.name == card.name and owner.plugin.name != bench.plugin:
                yield Problem(f"{called} is also brought by {owner.plugin.origin}", hint="rename")


def configs(bench: Bench) -> Iterator[Problem]:
    """Configs are closed, frozen, documented values that JSON can carry."""
    for card in bench.loaded.cards:
        yield from _config_problems(card)
    for block, part in bench.own_parts():
        yield from _round_trip_problems(block, part.config)


def _config_problems(card: Card) -> Iterator[Problem]:
    config: Any = card.config
    base = Schedule if isinstance(card, ScheduleCard) else Config
    if not (isinstance(config, type) and issubclass(config, base)):
        hint = f"derive it from labctl.api.{base.__name__}"
        yield Problem(f"{card.kind} {card.name!r}: {config!r} is no config", hint=hint)
        return
    for model in _models(config):
        name, hint = model.__name__, "derive it from labctl.api.Config and leave model_config alone"
        if model.model_config.get("extra") != "forbid":
            yield Problem(f"{name} takes unknown fields, so a misspelt one passes", hint=hint)
        if not model.model_config.get("frozen"):
            yield Problem(f"{name} can be changed, and a run's key stands for it", hint=hint)
        yield from _field_problems(model)
    block = _BLOCKS.get(type(card))
    for field, info in config.model_fields.items():
        if block is not None and (info.alias or field) in block.model_fields:
            where = f"{config.__name__}.{field}"
            yield Problem("labctl has a field of that name in the same block", where, "rename it")
    try:
        config.model_json_schema()
    except PydanticUserError as error:
        yield Problem(
            f"{config.__name__} has no JSON schema: {error}", hint="`labctl schema` fails"
        )


def _field_problems(model: type[BaseModel]) -> Iterator[Problem]:
    documented = help_texts(model)
    for field, info in model.model_fields.items():
        where = f"{model.__name__}.{field}"
        if not documented.get(field) and field != "kind":
            hint = "say what it means, in which unit, in a docstring under the field"
            yield Problem("is not documented", where, hint)
        if any(kind in _MUTABLE for kind in _types(info.annotation)):
            hint = "use a tuple or a frozenset"
            yield Problem(f"{info.annotation} can be changed in place", where, hint)


def _round_trip_problems(block: str, config: Config) -> Iterator[Problem]:
    text = config.model_dump_json(by_alias=True)
    hint = "what a plan stores must give the same config back"
    try:
        again = type(config).model_validate_json(text)
    except ValidationError as error:
        yield Problem(f"{block}: the config writes {text} and cannot read it: {error}", hint=hint)
        return
    if again != config:
        yield Problem(f"{block}: {config!r} becomes {again!r} on its way through JSON", hint=hint)


def _models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """`model` and every model that its fields hold."""
    yield model
    for info in model.model_fields.values():
        for kind in _types(info.annotation):
            if isinstance(kind, type) and issubclass(kind, BaseModel) and kind is not model:
                yield from _models(kind)


def _types(annotation: Any) -> Iterator[Any]:
    """Every type that an annotation mentions, without its parameters."""
    yield get_origin(annotation) or annotation
    for argument in get_args(annotation):
        yield from _types(argument)


def knobs(bench: Bench) -> Iterator[Problem]:
    """Defaults and evaluation lie in the declared range; a ladder is a fixed point of itself."""
    for block, part in bench.own_parts():
        if not hasattr(part.card, "knobs"):
            continue
        declared: Any = part.card.knobs(part.config, bench.recipe.spec)
        if not isinstance(declared, tuple) or not all(isinstance(knob, Knob) for knob in declared):
            yield Problem("`knobs` must return a tuple of Knob", block)
            continue
        for knob in declared:
            for message, hint in _knob_problems(knob):
                yield Problem(message, f"{block}: knob {knob.name!r}", hint)


def _knob_problems(knob: Knob) -> Iterator[tuple[str, str]]:
    if not is_name(knob.name) or knob.name == "lr":
        yield f"a name is {RULE}", "`lr` is the optimizer's own"
    if not knob.summary.strip():
        yield "has no summary", "recipes are written by people who read it"
    if knob.low is not None and knob.high is not None and knob.low > knob.high:
        yield f"low {knob.low:g} is above high {knob.high:g}", ""
        return
    for what, value in (("default", knob.default), ("at_eval", knob.at_eval)):
        if value is not None and (fault := knob.fault(value)):
            yield f"{what}: {fault}", "widen the range, or move it"
        if knob.kind == "continuous" and isinstance(value, str):
            yield f"{what} {value!r} is no number", "a choice needs kind='structural' and choices"
    if knob.ladder is not None:
        yield from _ladder_problems(knob, knob.ladder)


def _ladder_problems(
    knob: Knob, ladder: Callable[[Sequence[float]], Sequence[float]]
) -> Iterator[tuple[str, str]]:
    rising = [float(value) for value in positions(knob) if not isinstance(value, str)]
    for asked in (rising, rising[::-1], [float(knob.default)]):
        used = list(ladder(asked))
        if len(used) != len(asked):
            yield f"its ladder gives {len(used)} values for {len(asked)} epochs", "one per epoch"
            return
        for value in used:
            if fault := knob.fault(value):
                yield f"its ladder uses a value that the knob forbids: {fault}", ""
        if list(ladder(used)) != used:
            hint = "values that training uses must be used when asked for"
            yield f"its ladder is not idempotent: {used} becomes {list(ladder(used))}", hint
        if list(ladder(asked)) != used:
            yield "its ladder answers differently when asked again", "keep no state in it"


def realised(bench: Bench) -> Iterator[Problem]:
    """What structural knobs come to: finite numbers, the same ones each time."""
    part, spec = bench.recipe.architecture, bench.recipe.spec
    standing = {name: knob.default for name, knob in bench.recipe.knobs.items()}
    cases: list[dict[str, KnobValue]] = [{}]
    for name, knob in bench.knobs.items():
        if knob.kind == "structural":
            cases += [{name: value} for value in usable_positions(knob)]
    for moved in cases:
        where = "`realised` with " + (shown(moved) or "every knob at its default")
        values = part.card.realised(part.config, spec, {**standing, **moved})
        if wrong := not_finite(values):
            yield Problem(f"gives {wrong}", where, "the journal takes finite numbers")
        if part.card.realised(part.config, spec, {**standing, **moved}) != values:
            yield Problem("answers differently when asked again", where, "keep no state in it")


def not_finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are no finite numbers."""
    return {
        name: value
        for name, value in values.items()
        if not (isinstance(value, float | int) and math.isfinite(value))
    }


def shown(values: Mapping[str, KnobValue]) -> str:
    """`token_drop=0.5, mode=far`."""
    return ", ".join(f"{name}={value}" for name, value in values.items())


def schedules(bench: Bench) -> Iterator[Problem]:
    """A schedule stays within the values that it names, and reads back what it wrote."""
    last = bench.plan.work.steps - 1
    steps = sorted({round(share * last / 50) for share in range(51)})
    for name, schedule in bench.recipe.schedules.items():
        where = f"schedules.{name}"
        fixed = schedule.resolved(bench.recipe.clock)
        values = [fixed.at(step) for step in steps]
        for step, value in zip(steps, values, strict=True):
            if not _lies_within(value, list(fixed.values())):
                message = f"stands at {value!r} at step {step}, beyond all that `values` names"
                yield Problem(message, where, "let `values` yield the extremes: they are checked")
                break
        again = type(fixed).model_validate_json(fixed.model_dump_json(by_alias=True))
        if [again.at(step) for step in steps] != values:
            hint = "all that decides `at` must be a field"
            yield Problem("gives other values after a way through JSON", where, hint)


def _lies_within(value: KnobValue, named: Sequence[KnobValue]) -> bool:
    if isinstance(value, str):
        return value in named
    numbers = [number for number in named if not isinstance(number, str)]
    if not numbers:
        return False
    rounding = 1e-9 * max(1.0, *map(abs, numbers))
    return min(numbers) - rounding <= value <= max(numbers) + rounding
