"""A digest of source code that comments, docstrings and layout do not change."""

from __future__ import annotations

import ast
import hashlib
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

TESTS = ("test_*.py", "conftest.py")
"""Files beside a plugin's code that decide no result."""
MEASUREMENTS = "measurements"
"""Folder of a plugin for the code of its measurements: that decides no number of a training, so it
is in no key."""
ASSETS = (
    ".c", ".cc", ".cpp", ".cu", ".cuh", ".csv", ".h", ".hpp", ".json", ".npy", ".npz", ".pt",
    ".safetensors", ".toml", ".txt", ".yaml", ".yml",
)  # fmt: skip
"""Files beside a plugin's code that may decide a result, but for what the suite alone reads."""
FOR_SUITE = "learners.yaml"
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def is_test(path: Path) -> bool:
    """Whether a file beside a plugin's code is a test."""
    return any(fnmatchcase(path.name, pattern) for pattern in TESTS)


def code_digest(folder: Path) -> str:
    """12 hex digits over every `.py` file below `folder` but tests and measurements, and every
    other file that may decide a result; or over the one file it is."""
    return _digest(folder, of_measurements=False)


def stored_digest(folder: Path) -> str:
    """As `code_digest`, of a single file by the name that it is stored with a run under."""
    return _digest(folder, of_measurements=False, only="__init__.py")


def measurements_digest(folder: Path) -> str:
    """12 hex digits over the code in `measurements/`; empty if there is none."""
    return _digest(folder, of_measurements=True) if (folder / MEASUREMENTS).is_dir() else ""


def _digest(folder: Path, *, of_measurements: bool, only: str = "") -> str:
    total = hashlib.sha256()
    for name, path in [(only, folder)] if only and folder.is_file() else code_files(folder):
        if is_measurement(name) is of_measurements:
            total.update(f"{name}\n{_text_of(path.read_bytes(), str(path))}\n".encode())
    for name, path in _below(folder, ASSETS):
        if is_measurement(name) is of_measurements and name != FOR_SUITE:
            total.update(f"{name}\n{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()[:12]


def is_measurement(name: str) -> bool:
    """Whether a file, by its name below a plugin's folder, is code of measurements."""
    return name.startswith(f"{MEASUREMENTS}/")


def edited(then: Path | None, now: Path | None) -> list[str]:
    """Names of code files that differ between two folders of a plugin, each None if it is gone;
    comments count here, which they do not in the digest."""
    old, new = sources(then), sources(now)
    return [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]


def sources(folder: Path | None) -> dict[str, bytes]:
    """The code of a plugin by file name, as the key's digest takes it; of a single file as it is
    stored with a run."""
    if folder is None or not folder.exists():
        return {}
    if folder.is_file():
        return {"__init__.py": folder.read_bytes()}
    files = code_files(folder)
    return {name: path.read_bytes() for name, path in files if not is_measurement(name)}


def code_files(folder: Path) -> list[tuple[str, Path]]:
    """Relative names and paths, in an order that is the same on every machine."""
    if folder.is_file():
        return [(folder.name, folder)]
    return [(name, path) for name, path in _below(folder, (".py",)) if not is_test(path)]


def _below(folder: Path, suffixes: tuple[str, ...]) -> list[tuple[str, Path]]:
    """Files with one of `suffixes`; none of a plugin that is a single file, and none hidden."""
    found = []
    for path in folder.rglob("*") if folder.is_dir() else ():
        relative = path.relative_to(folder)
        is_hidden = any(part.startswith((".", "__pycache__")) for part in relative.parts)
        if path.suffix in suffixes and not is_hidden and path.is_file():
            found.append((relative.as_posix(), path))
    return sorted(found)


@lru_cache(maxsize=256)
def _text_of(code: bytes, path: str) -> str:
    return " ".join(_canonical(ast.parse(code, filename=path), []))


def _canonical(node: Any, parts: list[str]) -> list[str]:
    """The tree as text, in parts.

    Not `ast.dump`: what that says of an empty field differs between versions of Python, and with it
    the key of every run would.
    """
    if isinstance(node, ast.AST):
        parts.append(type(node).__name__)
        for name in node._fields:
            value = getattr(node, name, None)
            if name == "body" and isinstance(node, _DOCUMENTED):
                value = [statement for statement in node.body if not _is_text(statement)]
            if value is not None and value != []:
                parts.append(name)
                _canonical(value, parts)
        parts.append(")")
    elif isinstance(node, list):
        parts.append("[")
        for entry in node:
            _canonical(entry, parts)
        parts.append("]")
    else:
        parts.append(repr(node))
    return parts


def _is_text(statement: ast.stmt) -> bool:
    """Whether it is a string that nothing is done with: a docstring, also one under a field."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
