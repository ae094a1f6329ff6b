"""A digest of source code that comments, docstrings and layout do not change."""

from __future__ import annotations

import ast
import hashlib
from fnmatch import fnmatchcase
from pathlib import Path

TESTS = ("test_*.py", "conftest.py")
"""Files beside a plugin's code that decide no result."""
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def _without_docstrings(tree: ast.AST) -> ast.AST:
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED):
            node.body = [
                statement
                for statement in node.body
                if not (
                    isinstance(statement, ast.Expr)
                    and isinstance(statement.value, ast.Constant)
                    and isinstance(statement.value.value, str)
                )
            ]
    return tree


def code_digest(folder: Path) -> str:
    """12 hex digits over every `.py` file under `folder` (or the one file that it is), tests aside."""
    files = [folder] if folder.is_file() else sorted(folder.rglob("*.py"))
    files = [path for path in files if not any(fnmatchcase(path.name, test) for test in TESTS)]
    total = hashlib.sha256()
    for path in files:
        tree = _without_docstrings(ast.parse(path.read_text(encoding="utf-8"), filename=str(path)))
        name = path.name if folder.is_file() else path.relative_to(folder).as_posix()
        total.update(f"{name}\n{ast.dump(tree)}\n".encode())
    return total.hexdigest()[:12]
