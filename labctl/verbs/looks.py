"""How things look on a terminal, and the same in a notebook."""

from __future__ import annotations

import io

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table

WIDTH = 120
"""Columns where there is no terminal to ask, as in a pipe or a notebook."""
UNBROKEN = (
    "over training", "run", "name", "key", "knobs", "field", "environment", "result",
)  # fmt: skip
"""Columns that are no use in pieces."""
_FRAME = '<pre style="font-family:monospace;line-height:1.3">{code}</pre>'


def table_of(*columns: str, is_tight: bool = False) -> Table:
    """An empty table; `is_tight` if its columns are many, whose words then stay whole."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=is_tight)
    for column in columns:
        least = max(map(len, column.split())) if is_tight else None
        table.add_column(column, overflow="fold", no_wrap=column in UNBROKEN, min_width=least)
    return table


def in_html(renderable: RenderableType) -> str:
    """What a terminal would show, as an HTML element."""
    console = Console(
        file=io.StringIO(),
        width=WIDTH,
        record=True,
        highlight=False,
        emoji=False,
        markup=False,
        soft_wrap=True,
        force_jupyter=False,
    )
    console.print(renderable)
    return console.export_html(inline_styles=True, code_format=_FRAME)
