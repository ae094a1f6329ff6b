"""The figures of a table as LaTeX macros, for the text of a paper."""

from __future__ import annotations

import re
from collections.abc import Iterator
from string import ascii_uppercase

from .escape import in_latex
from .grid import Cell, Grid

_DIGITS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
_PART = re.compile(r"[A-Za-z]+|\d|(?<=\d)\.(?=\d)")


def macros(grid: Grid) -> str:
    r"""A macro for each cell with figures, `\CtdGammaOnePointFiveTestAcc`, and one for each raw
    figure of it, `...Mean`, `...Sd`, `...N`.

    Named by the labels of row and column, in letters alone, as LaTeX wants it; where two would have
    the same name, later ones end in B, C, ...
    """
    lines = [f"% {grid.title}"]
    taken: set[str] = set()
    for row in grid.rows:
        label = row.cells[0].text.replace(" (published)", "")
        for heading, cell in zip(grid.headings[1:], row.cells[1:], strict=True):
            if cell.numbers:
                name = _free(spelled(label) + spelled(heading.text), taken)
                lines += _of_cell(name, cell)
    return "\n".join(lines)


def _of_cell(name: str, cell: Cell) -> Iterator[str]:
    yield rf"\newcommand{{\{name}}}{{{in_latex(cell.text)}}}"
    for figure, value in cell.numbers.items():
        yield rf"\newcommand{{\{name}{spelled(figure)}}}{{{value:.6g}}}"


def spelled(text: str) -> str:
    """Words joined by capitals, digits as words: `gamma 1.5` is `GammaOnePointFive`."""
    parts = _PART.findall(text)
    words = (
        _DIGITS[int(part)] if part.isdigit() else "Point" if part == "." else part.capitalize()
        for part in parts
    )
    return "".join(words)


def _free(name: str, taken: set[str]) -> str:
    tried = (name, *(name + letter for letter in ascii_uppercase[1:]))
    found = next(one for one in tried if one not in taken)
    taken.add(found)
    return found
