"""A grid as text: for a terminal, Markdown, LaTeX, CSV, JSON."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from labctl.errors import UsageError, did_you_mean

from .escape import in_latex
from .grid import Cell, Grid
from .macros import macros

WIDTH = 120
"""Characters in a line where the output is no terminal."""
PADDING = 3
"""Characters between two columns on a terminal."""
_WORD, _FIGURE = re.compile(r"\S+"), re.compile(r"\S+(?: \u00b1 \S+)?")
_BREAKS = re.compile(r" (?=\()|(?<=[,;]) ")
"""Where a line that is too long is broken without parting what belongs together."""


def render(grid: Grid, form: str) -> str:
    """The grid in one of `FORMATS`, without a newline at its end.

    Raises:
        UsageError: no such format.
    """
    if form not in FORMATS:
        raise UsageError(f"no format {form!r}", hint=did_you_mean(form, FORMATS))
    return FORMATS[form](grid)


def terminal(grid: Grid) -> str:
    """For reading: as wide as the terminal, without colours; where it has too many columns for
    that, they are its lines."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    width = shutil.get_terminal_size((WIDTH, 24)).columns
    texts = [[_marked(grid, cell) for cell in row.cells] for row in grid.rows]
    columns = list(zip((heading.text for heading in grid.headings), *texts, strict=True))
    are_figures = [heading.is_figure for heading in grid.headings]
    turned = list(zip(*columns, strict=True))
    if _narrowest(columns) > width >= _narrowest(turned):
        columns, are_figures = turned, [False] + [True] * (len(turned) - 1)
    is_broken = sum(max(map(len, cells)) + PADDING for _, *cells in columns) > width
    if is_broken:
        columns = [(head, *(_BREAKS.sub("\n", text) for text in cells)) for head, *cells in columns]
    widths = _widths(columns, width)
    table = Table(title=Text(grid.title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for (head, *_), is_figure, own in zip(columns, are_figures, widths, strict=True):
        justify: Literal["left", "right"] = "right" if is_figure else "left"
        table.add_column(Text(head), justify=justify, overflow="fold", width=own)
    for row in list(zip(*columns, strict=True))[1:]:
        table.add_row(*map(Text, row))
    printed = io.StringIO()
    console = Console(file=printed, width=width, color_system=None, emoji=False, markup=False)
    console.print(table, *(Text(line) for line in [*_numbered(grid), *grid.remarks]), sep="\n")
    return "\n".join(line.rstrip() for line in printed.getvalue().splitlines()).rstrip()


def _narrowest(columns: Iterable[Iterable[str]]) -> int:
    """Characters in a line of a table whose words are all whole."""
    return sum(PADDING + _longest(_WORD, column) for column in columns)


def _longest(piece: re.Pattern[str], column: Iterable[str]) -> int:
    return max((len(found) for text in column for found in piece.findall(text)), default=0)


def _widths(columns: Sequence[Sequence[str]], width: int) -> list[int | None]:
    """Of columns whose figures stay whole, or at least their words; what is left over is shared out
    among those that need more. None for all where not even the words fit."""
    room = width - PADDING * len(columns)
    tried = ([_longest(piece, column) for column in columns] for piece in (_FIGURE, _WORD))
    least = next((widths for widths in tried if sum(widths) <= room), None)
    if least is None:
        return [None] * len(columns)
    spare = room - sum(least)
    wanted = [
        max(len(line) for text in column for line in text.splitlines() or [""]) - own
        for column, own in zip(columns, least, strict=True)
    ]
    found = list(least)
    modest_first = sorted(range(len(columns)), key=lambda place: wanted[place])
    for rank, place in enumerate(modest_first):
        given = min(wanted[place], spare // (len(columns) - rank))
        found[place] += given
        spare -= given
    return list(found)


def markdown(grid: Grid) -> str:
    """A table as GitHub reads it, what qualifies it below."""
    cells = [[_marked(grid, cell) for cell in row.cells] for row in grid.rows]
    heads = [heading.text for heading in grid.headings]
    rule = ["---:" if heading.is_figure else ":---" for heading in grid.headings]
    below = [f"- {_in_markdown(line)}" for line in [*_numbered(grid), *grid.remarks]]
    lines = [_line(map(_in_markdown, heads)), _line(rule)]
    lines += [_line(map(_in_markdown, row)) for row in cells]
    return "\n".join([f"**{_in_markdown(grid.title)}**", "", *lines, "", *below])


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _in_markdown(text: str) -> str:
    return re.sub(r"([|*<`\\])", r"\\\1", " ".join(text.split()))


def latex(grid: Grid) -> str:
    """A floating table with the rules of booktabs, made smaller where it is wider than the text,
    and after it the notes.

    Columns of words, the first one aside, are half as wide as the text and broken into lines.
    """
    first, *others = grid.headings
    columns = "r" if first.is_figure else "l"
    columns += "".join("r" if one.is_figure else r"p{0.5\linewidth}" for one in others)
    heads = " & ".join(in_latex(heading.text) for heading in grid.headings)
    rows = [" & ".join(_latex_cell(grid, cell) for cell in row.cells) for row in grid.rows]
    notes = [
        rf"\textsuperscript{{{number}}}~{in_latex(note)}\par"
        for number, note in enumerate(grid.notes, 1)
    ]
    return "\n".join(
        [
            r"% needs \usepackage{booktabs,graphicx}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{in_latex(grid.title)}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            rf"{heads} \\",
            r"\midrule",
            *(rf"{row} \\" for row in rows),
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
            r"% What qualifies it, which may be longer than a page, as a float must not be.",
            r"{\footnotesize\raggedright\setlength{\parindent}{0pt}",
            *notes,
            *(rf"{in_latex(remark)}\par" for remark in grid.remarks),
            "}",
        ]
    )


def _latex_cell(grid: Grid, cell: Cell) -> str:
    numbers = ",".join(map(str, grid.numbers_of(cell)))
    return in_latex(cell.text) + (rf"\textsuperscript{{{numbers}}}" if numbers else "")


def separated(grid: Grid) -> str:
    """CSV, a line per row: the cells as shown, then their raw figures in columns of their own."""
    heads = ["row", *(heading.text for heading in grid.headings[1:])]
    names = [
        (place, name)
        for place in range(len(heads))
        for name in dict.fromkeys(name for row in grid.rows for name in row.cells[place].numbers)
    ]
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(
        [*heads, *(f"{heads[place]} {name}" for place, name in names), "recipe", "notes"]
    )
    for row in grid.rows:
        figures = [row.cells[place].numbers.get(name, "") for place, name in names]
        notes = dict.fromkeys(note for cell in row.cells for note in cell.notes)
        texts = [cell.text for cell in row.cells]
        writer.writerow([*texts, *figures, row.facts["recipe"], " | ".join(notes)])
    return written.getvalue().rstrip("\n")


def as_json(grid: Grid) -> str:
    """Everything: text, raw figures, values by seed, verdicts, those on whole sweeps beside the
    rows. What is not finite is a string."""
    rows = [
        {
            **row.facts,
            "label": row.cells[0].text,
            "notes": list(row.cells[0].notes),
            "cells": [_plain(cell) for cell in row.cells[1:]],
        }
        for row in grid.rows
    ]
    columns = [heading.text for heading in grid.headings[1:]]
    content = {
        "table": grid.name, "title": grid.title, "columns": columns, "rows": rows,
        "claims": [dict(claim) for claim in grid.claims], "remarks": list(grid.remarks),
    }  # fmt: skip
    return json.dumps(_finite(content), indent=1, allow_nan=False)


def _plain(cell: Cell) -> dict[str, Any]:
    optional: dict[str, Any] = {
        "figures": dict(cell.numbers),
        "seeds": {str(seed): value for seed, value in cell.seeds.items()},
        "claims": [dict(claim) for claim in cell.claims],
        "notes": list(cell.notes),
    }
    return {"text": cell.text, **{name: value for name, value in optional.items() if value}}


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, list) else value


def _marked(grid: Grid, cell: Cell) -> str:
    """The cell's text with the numbers of its footnotes."""
    return " ".join([cell.text, *(f"[{number}]" for number in grid.numbers_of(cell))])


def _numbered(grid: Grid) -> list[str]:
    return [f"[{number}] {note}" for number, note in enumerate(grid.notes, 1)]


FORMATS: Mapping[str, Callable[[Grid], str]] = {
    "terminal": terminal,
    "markdown": markdown,
    "latex": latex,
    "macros": macros,
    "csv": separated,
    "json": as_json,
}
