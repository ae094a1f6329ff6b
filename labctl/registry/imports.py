"""What a plugin's code may not import: code that is in no key."""

from __future__ import annotations

import ast
from pathlib import Path

from .digest import MEASUREMENTS, code_files, is_measurement, is_test


def imported_measurement(folder: Path, module: str) -> str | None:
    """A file of a plugin's code, neither its first nor a measurement's, that imports measurements,
    or what the first has of them, if there is such: what it takes from there would decide a
    training, and be in no key. What is imported by a name made up at run time is not seen.

    Args:
        module: what the plugin is imported as.
    """
    if not (folder / MEASUREMENTS).is_dir():
        return None
    package = module.split(".")
    files = {
        name: path.read_bytes() for name, path in code_files(folder) if not is_measurement(name)
    }
    first = ast.parse(files.pop("__init__.py", b""))
    passed_on = {"*"} | {
        alias.asname or alias.name
        for node in first.body
        if isinstance(node, ast.ImportFrom)
        for alias, path in zip(node.names, _paths(node, package), strict=True)
        if _within(path, package)[:1] == [MEASUREMENTS]
    }
    for name, code in files.items():
        own = [*package, *name.split("/")[:-1]]
        for node in ast.walk(ast.parse(code)):
            for path in _paths(node, own):
                inside = _within(path, package)
                if inside[:1] == [MEASUREMENTS] or (len(inside) == 1 and inside[0] in passed_on):
                    return name
    return None


def _paths(node: ast.AST, package: list[str]) -> list[list[str]]:
    """What a statement in a module of `package` imports, each as the parts of its whole name."""
    if isinstance(node, ast.Import):
        return [alias.name.split(".") for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    start = package[: len(package) + 1 - node.level] if node.level else []
    module = node.module.split(".") if node.module else []
    return [[*start, *module, alias.name] for alias in node.names]


def _within(path: list[str], package: list[str]) -> list[str]:
    """The parts of a name below a package; none if it is not of that."""
    return path[len(package) :] if path[: len(package)] == package else []


def imported_test(folder: Path) -> tuple[str, str] | None:
    """A file of a plugin's code and the name of a test that it imports, if there are such: tests
    are neither in the digest nor stored with a run."""
    if folder.is_file():
        return None
    tests = {path.stem for path in folder.rglob("*.py") if is_test(path)}
    for name, path in code_files(folder) if tests else ():
        for node in ast.walk(ast.parse(path.read_bytes(), filename=str(path))):
            if found := sorted(tests & _imported(node)):
                return name, found[0]
    return None


def _imported(node: ast.AST) -> set[str]:
    """Parts of the names of modules that a statement imports."""
    if isinstance(node, ast.Import):
        return {part for alias in node.names for part in alias.name.split(".")}
    if not isinstance(node, ast.ImportFrom):
        return set()
    return set(node.module.split(".")) if node.module else {alias.name for alias in node.names}
