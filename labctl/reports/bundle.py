"""Bundles: finished runs as one JSON file that can be published and read back into a table."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from labctl.errors import UsageError
from labctl.project import Project
from labctl.registry.config import Config
from labctl.store.atomic import write_text
from labctl.store.run import Run

from .result import Result, result_of

FORMAT = 1
MARKER = "labctl_bundle"
"""The key under which a bundle says its format."""
_PATH = re.compile(r"(?<![\w./~])~?/(?:[^\s/]+/)*([^\s/]+)")


@dataclass(frozen=True, slots=True)
class Bundle:
    """A published file and the results in it."""

    name: str
    """As messages call the file."""
    results: tuple[Result, ...]


def bundle(runs: Iterable[Run]) -> dict[str, Any]:
    """What is published of `runs`: plans, provenance, curves, ledgers, but no host or folder names.

    Raises:
        UsageError: no run, or runs that have not come to their end.
    """
    found = list(runs)
    unfinished = [run for run in found if not run.status.is_final]
    if not found:
        raise UsageError("no runs to bundle", hint="labctl bundle RUN... -o docs/results/NAME.json")
    if unfinished:
        names = ", ".join(f"{run.plan.name} ({run.status})" for run in unfinished)
        raise UsageError(
            f"only finished runs can be published: {names}",
            hint="finish them with `labctl resume`, or leave them out: --finished",
        )
    results = {result.key: result for result in map(result_of, found)}
    ordered = sorted(results.values(), key=lambda r: (r.label, r.group, r.seed))
    return {MARKER: FORMAT, "runs": [without_paths(r.model_dump(mode="json")) for r in ordered]}


def without_paths(value: Any) -> Any:
    """JSON with every absolute path in it cut down to its last part."""
    if isinstance(value, str):
        return _PATH.sub(r"\1", value)
    if isinstance(value, dict):
        return {name: without_paths(part) for name, part in value.items()}
    if isinstance(value, list):
        return [without_paths(part) for part in value]
    return value


def write_bundle(runs: Iterable[Run], path: Path) -> None:
    """Write the bundle of `runs`, one line per run; the same runs give the same bytes."""
    content = bundle(runs)
    lines = [
        json.dumps(run, sort_keys=True, separators=(",", ":"), allow_nan=False)
        for run in content["runs"]
    ]
    write_text(path, f'{{"{MARKER}":{FORMAT},"runs":[\n' + ",\n".join(lines) + "\n]}\n")


class NoBundle(UsageError):
    """JSON that does not claim to be a bundle."""


class _File(Config, extra="ignore"):
    format: Literal[1] = Field(alias=MARKER)
    runs: tuple[Result, ...]


def read_bundle(path: Path, shown: str = "") -> Bundle:
    """Read a bundle back; `shown` is how messages call it.

    Raises:
        NoBundle: it is something else.
        UsageError: it cannot be read, is damaged, or of a format unknown here.
    """
    shown = shown or str(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=shown) from None
    try:
        return Bundle(shown, _File.model_validate_json(data).runs)
    except ValidationError as error:
        raise _fault(error, shown) from None


def _fault(error: ValidationError, shown: str) -> UsageError:
    """What is wrong with a file that could not be read as a bundle."""
    first, *_ = errors = error.errors()
    loc = first["loc"]
    if first["type"] == "json_invalid":
        return UsageError(f"not JSON: {first['msg']}", where=shown)
    if not loc or (loc == (MARKER,) and first["type"] == "missing"):
        return NoBundle("not a bundle", where=shown, hint="labctl bundle RUN... -o FILE makes one")
    if loc == (MARKER,):
        return UsageError(
            f"a bundle of format {first['input']}; this labctl reads format {FORMAT}",
            where=shown,
            hint="read it with the labctl that wrote it, or bundle the runs again",
        )
    if loc == ("runs",):
        return UsageError("damaged: no list of runs", where=shown)
    of_run = [e for e in errors if e["loc"][:2] == loc[:2]]
    faults = [f"{'.'.join(map(str, e['loc'][2:]))}: {e['msg']}" for e in of_run]
    more = f", and {len(faults) - 3} more" if len(faults) > 3 else ""
    where = f"{shown}: run {int(loc[1]) + 1}"
    return UsageError(f"damaged: {'; '.join(faults[:3])}{more}", where=where)


def published(project: Project, named: Sequence[Path] = ()) -> tuple[Bundle, ...]:
    """The bundles `named`, and those in `docs/results/` of the project; other JSON is left alone.

    Raises:
        UsageError: a bundle that cannot be read.
    """
    found = {path.resolve(): read_bundle(path, project.shown(path)) for path in named}
    for path in sorted(project.results.glob("*.json")):
        if path.resolve() not in found:
            with suppress(NoBundle):
                found[path.resolve()] = read_bundle(path, project.shown(path))
    return tuple(found.values())
