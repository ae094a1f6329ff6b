"""Calling code that a plugin brought: its failures are reported as its own."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from labctl.errors import LabctlError, PluginError

_LABCTL = str(Path(__file__).parents[1])


@contextmanager
def guarded(what: str, *expected: type[Exception]) -> Iterator[None]:
    """Turn an exception into a `PluginError` that says where the plugin raised it, and what it
    prints into words for people: standard output may be JSON.

    Errors of labctl and those `expected` pass.
    """
    try:
        with redirect_stdout(sys.stderr):
            yield
    except Exception as error:
        if isinstance(error, (LabctlError, *expected)):
            raise
        message = f"{what} failed: {described(error)}"
        hint = "a fault of the plugin, to be mended there"
        raise PluginError(message, where=place_of(error), hint=hint) from error


def described(error: BaseException) -> str:
    """Class and message; of a syntax error, whose place is given apart, only what it is."""
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def place_of(error: BaseException, folder: Path | None = None) -> str:
    """`file:line` of the innermost call in `folder`, else outside of labctl; empty if none is."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((_LABCTL, "<frozen importlib"))
    ]
    inside = [frame for frame in frames if folder and frame.filename.startswith(str(folder))]
    return next((f"{frame.filename}:{frame.lineno}" for frame in (inside or frames)[::-1]), "")


def place_within(error: BaseException, folders: Iterable[Path]) -> str:
    """`file:line` of the innermost call in one of `folders`, relative to it; empty if none is."""
    around = [folder.resolve() for folder in folders]
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename).resolve()
        for folder in around:
            if path.is_relative_to(folder):
                return f"{path.relative_to(folder)}:{frame.lineno}"
    return ""
