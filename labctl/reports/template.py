"""Templates of this folder, filled in."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

from .plots.plot import INK, Plot

_ID = re.compile(r'<g id="[^"]*">')


def filled(name: str, **values: Any) -> str:
    """The template called `name` with these values; text in them is text, whatever it says."""
    from jinja2 import Environment, StrictUndefined

    surroundings = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return surroundings.from_string(_text(name)).render(
        style=_text("style.css").rstrip(), svg=inline, **values
    )


def inline(plot: Plot) -> str:
    """The plot's `<svg>` element, whose ink is that of the text around it, without names that two
    plots of a page would share."""
    element = plot.svg[plot.svg.index("<svg") :]
    return _ID.sub("<g>", element).replace(INK, "currentColor")


def _text(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")
