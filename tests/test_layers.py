"""Who may import whom, where import-linter cannot look: plugins, and names in the text."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLUGINS = sorted(init.parent.name for init in (ROOT / "plugins").glob("*/__init__.py"))


def imports(source: str) -> Iterator[tuple[int, str]]:
    """Line and absolute module of every import in `source`; `from a import b` counts as `a.b`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def is_forbidden_to_plugins(module: str) -> bool:
    return is_in(module, "labctl") and not is_in(module, "labctl.api")


def bypasses_the_registry(module: str) -> bool:
    """`plugins.x` loads a plugin under a second name; `labctl_plugins.x` ties us to that plugin."""
    return is_in(module, "plugins") or is_in(module, "labctl_plugins")


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def test_plugins_import_labctl_api_alone() -> None:
    wrong = [
        f"{where(path, line)}: {module}"
        for path in sources("plugins")
        for line, module in imports(path.read_text(encoding="utf-8"))
        if is_forbidden_to_plugins(module)
    ]
    assert wrong == []


@pytest.mark.slow
def test_plugins_are_reached_through_the_registry() -> None:
    wrong = [
        f"{where(path, line)}: {module}"
        for path in sources("labctl", "plugins")
        for line, module in imports(path.read_text(encoding="utf-8"))
        if bypasses_the_registry(module)
    ]
    wrong += [
        f"{where(path, line)}: {module}"
        for path in sources("tests")
        for line, module in imports(path.read_text(encoding="utf-8"))
        if is_in(module, "plugins")
    ]
    assert wrong == []


def test_labctl_names_no_plugin() -> None:
    assert PLUGINS, "there are plugins to look for"
    names = re.compile(rf"(?<![A-Za-z0-9])({'|'.join(PLUGINS)})(?![A-Za-z0-9])")
    wrong = [
        f"{where(path, number)}: {found[0]}"
        for path in sources("labctl")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if (found := names.search(line))
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "source",
    [
        "import labctl",
        "import labctl.train.learner as learner",
        "from labctl import api, errors",
        "def build():\n    from labctl.train.learner import Learner",
    ],
)
def test_the_first_check_sees(source: str) -> None:
    assert any(is_forbidden_to_plugins(module) for _, module in imports(source))


@pytest.mark.parametrize(
    "source", ["from labctl.api import Config", "from labctl import api", "from . import train"]
)
def test_the_first_check_allows(source: str) -> None:
    assert not any(is_forbidden_to_plugins(module) for _, module in imports(source))


@pytest.mark.parametrize(
    "source", ["import plugins.one", "from plugins import one", "from labctl_plugins.one import a"]
)
def test_the_second_check_sees(source: str) -> None:
    assert any(bypasses_the_registry(module) for _, module in imports(source))
