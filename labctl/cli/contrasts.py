"""What a comparison found, as a terminal shows it."""

from __future__ import annotations

from rich.text import Text

from labctl.reports.contrast import Contrast
from labctl.reports.sections import Section, named, of_code, remarks, sections
from labctl.verbs.looks import table_of

from .pictures import console


def print_contrast(found: Contrast) -> None:
    """A table for each kind of difference; what is alike is a line."""
    for letter, one in (("A", found.a), ("B", found.b)):
        console.print(Text.assemble((letter, "bold"), f"  {named(one)}"))
    for section in sections(found):
        if section.title == "Data":
            _print_code(found)
        _print(section)
    for text in remarks(found):
        console.print(text)


def _print(section: Section) -> None:
    if not section.rows:
        console.print(section.alike)
        return
    table = table_of(*section.heads)
    for column in table.columns[1:] if section.are_figures else ():
        column.justify = "right"
    for row in section.rows:
        table.add_row(*map(Text, row))
    console.print(table)


def _print_code(found: Contrast) -> None:
    for one in of_code(found):
        console.print(one.text)
        if one.diff:
            console.print(one.diff)
