"""The figures of a table as LaTeX macros, for the text of a paper."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import count
from string import ascii_uppercase

from .escape import in_latex
from .grid import Cell, Grid

_DIGITS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
_PART = re.compile(r"[A-Za-z]+|[^\W\d_]|\d|(?<=\d)\.(?=\d)|(?<![\w.])-(?=\d)")
_SIGNS = {".": "Point", "-": "Minus"}


def macros(grid: Grid) -> str:
    r"""A macro for each cell with figures, `\CtdGammaOnePointFiveTestAcc`, and one for each raw
    figure of it, `...Mean`, `...Sd`, `...N`.

    Named by the labels of row and column, in letters alone, as LaTeX wants it; where two would have
    the same name, later ones end in B, C, ...
    """
    lines = [f"% {' '.join(grid.title.split())}"]
    taken: set[str] = set()
    for row in grid.rows:
        label = " ".join(row.cells[0].text.replace(" (published)", "").split())
        lines.append(f"% {label}")
        for heading, cell in zip(grid.headings[1:], row.cells[1:], strict=True):
            if cell.numbers:
                name = _free(spelled(label) + spelled(heading.text), cell, taken)
                lines += _of_cell(name, cell)
    return "\n".join(lines)


def _of_cell(name: str, cell: Cell) -> Iterator[str]:
    yield rf"\newcommand{{\{name}}}{{{in_latex(cell.text)}}}"
    for figure, value in cell.numbers.items():
        yield rf"\newcommand{{\{name}{spelled(figure)}}}{{{value:.6g}}}"


def spelled(text: str) -> str:
    """Words joined by capitals, digits and letters of other alphabets as words: `gamma 1.5` and
    its symbol with `1.5` are `GammaOnePointFive`."""
    return "".join(map(_word, _PART.findall(text)))


def _word(part: str) -> str:
    if part.isdecimal():
        return _DIGITS[int(part)]
    if part in _SIGNS:
        return _SIGNS[part]
    if part.isascii():
        return part.capitalize()
    plain = unicodedata.normalize("NFKD", part).encode("ascii", "ignore").decode()
    named = re.sub(r"[^A-Z ]", "", unicodedata.name(part, "LETTER")).split()
    return plain.capitalize() or named[-1].capitalize()


def _free(name: str, cell: Cell, taken: set[str]) -> str:
    """The name, or the first of its likes, by which no macro of the cell is one that is taken."""

    def names(tried: str) -> set[str]:
        return {tried, *(tried + spelled(figure) for figure in cell.numbers)}

    likes = (name + _letters(number) for number in count())
    found = next(tried for tried in likes if not names(tried) & taken)
    taken |= names(found)
    return found


def _letters(number: int) -> str:
    """0 is nothing, 1 is B, 25 is Z, 26 is BA."""
    return _letters(number // 26) + ascii_uppercase[number % 26] if number else ""
