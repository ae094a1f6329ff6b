"""What plugins, cards and knobs may be called: recipes and command lines spell it."""

from __future__ import annotations

import keyword
import re

RULE = "small letters, digits and _, beginning with a letter"
_NAME = re.compile(r"[a-z][a-z0-9_]*")


def is_name(text: str) -> bool:
    """Whether `text` keeps to the rule, and is no word of Python's own."""
    return _NAME.fullmatch(text) is not None and not keyword.iskeyword(text)


def nearest(text: str) -> str:
    """A name close to `text`: `my_vit` for `MyVit`, `my-vit` or `My ViT`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", text).lower()
    name = re.sub(r"[^a-z0-9]+", "_", words).strip("_").lstrip("0123456789_")
    return name if is_name(name) else "my_model"
