"""Validating a tree that came from a file: every problem found, each with its place."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from labctl.errors import PluginError, Problem, did_you_mean
from labctl.registry.card import Card
from labctl.registry.guard import guarded
from labctl.registry.registry import Loaded, Registry

from .form import Found, field_at, fields_at
from .source import Node, Steps
from .times import Time
from .wording import ELSEWHERE, hint_for, sentence, shown

C = TypeVar("C", bound=Card)
M = TypeVar("M", bound=BaseModel)
_ABOUT_KEYS = ("missing", "extra_forbidden")


@dataclass
class Check:
    """Problems collected over a tree."""

    tree: Node
    subject: str = "the recipe"
    """What messages call the tree as a whole."""
    problems: list[Problem] = field(default_factory=list)
    faulty: list[Steps] = field(default_factory=list)
    """What each of the problems is about."""

    def report(self, steps: Steps, message: str, hint: str = "") -> None:
        """Note a problem of what `steps` lead to."""
        self.problems.append(Problem(message, str(self.tree.place(steps)), hint))
        self.faulty.append(steps)

    @property
    def in_order(self) -> list[Problem]:
        """The problems in the order in which an author comes upon them, file by file."""
        marks = [self.tree.place(steps) for steps in self.faulty]
        found = zip(marks, self.problems, strict=True)
        return [problem for _, problem in sorted(found, key=lambda one: one[0].position)]

    def is_faulty(self, *steps: str) -> bool:
        """Whether a problem was found at, below or above `steps`."""
        return any(steps[: len(other)] == other[: len(steps)] for other in self.faulty)

    def model(
        self, model: type[M], data: Any, steps: Steps = (), block: type[BaseModel] | None = None
    ) -> M | None:
        """`data` validated by `model`; None after reporting what is wrong.

        `block` has further fields that the author may have meant, which have been checked before.
        """
        name = _dotted(steps) or self.subject
        try:
            with guarded(f"the check of {name} by {model.__name__}", ValidationError):
                return model.model_validate_json(json.dumps(data), by_alias=True, by_name=False)
        except ValidationError as error:
            _Findings(self, model, data, steps, block).report(error.errors())
        except PluginError as error:
            self.plugin(steps, error)
        return None

    def plugin(self, steps: Steps, error: PluginError) -> None:
        """Note that a plugin failed over what `steps` lead to."""
        self.report(steps, error.placed, error.hint)

    def card(
        self, registry: Registry, kind: type[C], name: str, steps: Steps, near: Iterable[str] = ()
    ) -> tuple[C, Loaded] | None:
        """The card `name` of `kind`; None after reporting that there is none."""
        try:
            return registry.find(kind, name, near=near)
        except PluginError as error:
            self.plugin(steps, error)
            return None


def _dotted(steps: Steps) -> str:
    return ".".join(map(str, steps))


@dataclass(frozen=True)
class _Findings:
    """What pydantic says of one block, in the words of a recipe."""

    check: Check
    model: type[BaseModel]
    data: Any
    steps: Steps
    block: type[BaseModel] | None

    def report(self, errors: list[ErrorDetails]) -> None:
        together: dict[Steps, list[ErrorDetails]] = {}
        for details in errors:
            # A list of faulty entries is also found to be empty.
            if details["type"] == "too_short" and _has_faults_inside(details, errors):
                continue
            together.setdefault(self._place(details), []).append(details)
        unknown = {place for place, found in together.items() if _is_unknown(found[0])}
        for place, found in together.items():
            if place in unknown:
                self._unknown(place, found[0])
            elif found[0]["type"] == "missing":
                self._missing(place, found[0], unknown)
            elif found[0]["type"].startswith("union_tag"):
                self._tag(place, found[0])
            else:
                self._wrong(place, found)

    def _place(self, details: ErrorDetails) -> Steps:
        """Where in the data the error is, without the names of validators and members of unions."""
        loc = details["loc"]
        here, place = self.data, []
        for number, part in enumerate(loc):
            is_key = isinstance(here, dict) and isinstance(part, str) and part in here
            is_index = isinstance(here, list) and isinstance(part, int) and part < len(here)
            if is_key or is_index:
                here = here[part]
                place.append(part)
            elif number == len(loc) - 1 and details["type"] in _ABOUT_KEYS:
                place.append(part)
        return tuple(place)

    def _name(self, place: Steps) -> str:
        return _dotted((*self.steps, *place)) or self.check.subject

    def _report(self, place: Steps, message: str, hint: str = "") -> None:
        self.check.report((*self.steps, *place), message, hint)

    def _known(self, loc: Steps) -> list[str]:
        own = [] if loc or self.block is None else fields_at(self.block, ())
        return [*own, *fields_at(self.model, loc)]

    def _unknown(self, place: Steps, details: ErrorDetails) -> None:
        known = self._known(details["loc"][:-1])
        name = self._name(place)
        hint = ELSEWHERE.get(name) or did_you_mean(str(place[-1]), known)
        self._report(place, f"unknown field {name!r}", hint)

    def _missing(self, place: Steps, details: ErrorDetails, unknown: set[Steps]) -> None:
        """Name the key that was probably meant, if a similar one is taken for another's field."""
        missing, known = str(place[-1]), self._known(details["loc"][:-1])
        keys = [key for key in _keys(self.data, place[:-1]) if key not in known]
        strangers = [key for key in keys if (*place[:-1], key) not in unknown]
        close = get_close_matches(missing, strangers, n=1)
        found = field_at(self.model, details["loc"])
        hint = found.help if found else ""
        if close:
            place, hint = (*place[:-1], close[0]), f"did you mean {missing!r} by {close[0]!r}?"
        self._report(place, f"{_dotted((*self.steps, *place[:-1], missing))} is missing", hint)

    def _tag(self, place: Steps, details: ErrorDetails) -> None:
        """A block that should say what it is, and does not, or says something unknown."""
        context = details.get("ctx", {})
        known = [t for t in str(context.get("expected_tags", "")).replace("'", "").split(", ") if t]
        key = str(context["discriminator"]).strip("'") if "discriminator" in context else "kind"
        key = key if key.isidentifier() else "kind"
        known = [tag for tag in known if not tag.startswith("<")]
        given = context.get("tag")
        if given is None:
            listing = did_you_mean("", known) if known else ""
            self._report(place, f"{self._name((*place, key))} is missing", listing)
        else:
            place = (*place, key)
            self._report(
                place, f"{self._name(place)}: unknown {given!r}", did_you_mean(given, known)
            )

    def _wrong(self, place: Steps, found: list[ErrorDetails]) -> None:
        field = field_at(self.model, found[0]["loc"])
        is_optional = field is not None and not field.info.is_required()
        hint = hint_for(found, is_optional) or (field.help if field else "") or _default(field)
        self._report(place, self._name(place) + sentence(found), hint)


def _has_faults_inside(outer: ErrorDetails, errors: list[ErrorDetails]) -> bool:
    place = outer["loc"]
    return any(one["loc"][: len(place)] == place and one["loc"] != place for one in errors)


def _is_unknown(details: ErrorDetails) -> bool:
    return details["type"] == "extra_forbidden"


def _default(found: Found | None) -> str:
    """A value that would work, where nothing else is known of a field."""
    if found is None or found.info.is_required():
        return ""
    default = found.info.get_default(call_default_factory=True)
    if isinstance(default, Time):
        return f"its default is {default}"
    return f"its default is {shown(default)}" if isinstance(default, str | int | float) else ""


def _keys(data: Any, steps: Steps) -> list[str]:
    """Keys of the mapping that `steps` lead to."""
    for step in steps:
        data = data[step]
    return list(data) if isinstance(data, dict) else []
