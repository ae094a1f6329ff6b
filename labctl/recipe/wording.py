"""pydantic's findings in the words of a recipe: what should stand there, and what to write."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic_core import ErrorDetails

from labctl.errors import did_you_mean

from .source import number

_EXPECTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping of fields to values",
    "model_type": "a mapping of fields to values",
    "model_attributes_type": "a mapping of fields to values",
}
ELSEWHERE = {
    "lr": "the learning rate is a schedule: `schedules: {lr: 1e-3}`",
    "optimizer.lr": "the learning rate is a schedule: `schedules: {lr: 1e-3}`",
    "epochs": "how long to train is `budget: 50ep`",
    "steps": "how long to train is `budget: 20000step`",
    "data.batch_size": "batch_size stands at the top of the recipe",
    "model.name": "a model is named by `architecture`",
    "augment": "augmentation stands in `data`: `data: {augment: {flip: true}}`",
}
"""Fields as other tools have them: what they are here."""
SYNONYMS = {
    "gpu": "cuda", "fp16": "bf16", "half": "bf16", "float16": "bf16", "bfloat16": "bf16",
    "float32": "fp32", "float64": "fp64", "double": "fp64",
}  # fmt: skip
"""Values as other tools have them, and what comes nearest here."""
_FOR_NUMBERS = {"int_type", "float_type", "int_parsing"}
_SEVERAL = re.compile(r"^\w+ should have (at least|at most) (\d+) items? .*")
_LONGEST = 60


def sentence(found: Sequence[ErrorDetails]) -> str:
    """What is wrong with one value: ` should be a number or text, not true`, or `: ` and a reason.

    Several findings about one value come from the members of a union, of which one must fit.
    """
    expected = [_EXPECTED[details["type"]] for details in found if details["type"] in _EXPECTED]
    texts = [_text(details) for details in found if details["type"] not in _EXPECTED]
    others = [text.removeprefix("should be ") for text in texts if text.startswith("should be ")]
    reasons = [text for text in texts if not text.startswith("should be ")]
    wanted = " or ".join(dict.fromkeys(expected + others))
    sentences = [f"should be {wanted}, not {shown(found[0]['input'])}"] if wanted else []
    joined = "; ".join(dict.fromkeys(sentences + reasons))
    return f" {joined}" if joined.startswith("should ") else f": {joined}"


def _text(details: ErrorDetails) -> str:
    kind, message = details["type"], details["msg"]
    if kind in ("value_error", "assertion_error"):
        return message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if kind == "literal_error":
        return f"should be {_choices(details)}"
    if several := _SEVERAL.match(message):
        return f"should have {several[1]} {several[2]} entr{'y' if several[2] == '1' else 'ies'}"
    return message.removeprefix("Input ").removeprefix("Value ")


def shown(value: Any) -> str:
    """A value as its author would call it."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def hint_for(found: Sequence[ErrorDetails], is_optional: bool) -> str:
    """What to write instead, where the value that was given tells."""
    given, kinds = found[0]["input"], {details["type"] for details in found}
    if given is None:
        if not is_optional:
            return ""
        if kinds & {"model_type", "dict_type"}:
            return "leave it out for its default; NAME: null in it takes away an inherited entry"
        return "leave it out for its default"
    for details in found:
        if details["type"] == "literal_error":
            meant = SYNONYMS.get(str(given), str(given))
            return did_you_mean(meant, re.findall(r"'([^']*)'", _choices(details)))
    if "string_type" in kinds and isinstance(given, int | float) and not isinstance(given, bool):
        return f"quote it: '{given}'"
    if kinds & _FOR_NUMBERS and isinstance(given, str) and not isinstance(number(given), str):
        return f"write it without quotes: {given}"
    if kinds & _FOR_NUMBERS and isinstance(given, float) and given.is_integer():
        return f"write {int(given)}"
    if kinds & {"tuple_type", "list_type"} and not isinstance(given, dict | list):
        return f"write a list: [{given if isinstance(given, str) else shown(given)}]"
    return ""


def _choices(details: ErrorDetails) -> str:
    return str(details.get("ctx", {}).get("expected", ""))
