"""A comparison as one HTML page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Iterator

from labctl import __version__

from .contrast import Contrast
from .plots.curves import learning_curves
from .plots.plot import Plot
from .sections import named, of_code, remarks, sections
from .side import Side
from .template import filled

MOST_CURVES = 8
"""Metrics that are drawn: those of evaluations first."""


def contrast_page(found: Contrast, a: Side, b: Side, command: str) -> str:
    """The page of a comparison.

    Args:
        a, b: what was compared, whose curves are drawn.
        command: what prints the comparison again.
    """
    return filled(
        "contrast.html",
        found=found,
        command=command,
        version=__version__,
        named=named,
        sections=list(sections(found)),
        code=list(of_code(found)),
        remarks=list(remarks(found)),
        plots=list(_plots(a, b)),
    )


def _plots(a: Side, b: Side) -> Iterator[Plot]:
    """Curves of metrics that both sides have."""
    theirs = set(_curves(b))
    shared = [name for name in _curves(a) if name in theirs]
    for name in shared[:MOST_CURVES]:
        plot = learning_curves([("A", a), ("B", b)], name, f"compare-{name.replace('/', '-')}")
        if plot is not None:
            yield plot


def _curves(one: Side) -> list[str]:
    """Metrics that some result has at two steps or more, those of evaluations first."""
    results = one.results.values()
    found: list[str] = []
    for curves in (*(r.evaluations for r in results), *(r.training for r in results)):
        found += sorted(name for name, curve in curves.items() if len(curve.steps) > 1)
    return [name for name in dict.fromkeys(found) if not name.startswith("knob/")]
