"""How far a run was delivered to a store: `mlflow.json` in the run's folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from labctl.store.atomic import write_json

NAME = "mlflow.json"
FORMAT = 1


@dataclass
class Mark:
    """What one store already has of one run."""

    run_id: str
    """MLflow's own name for the run."""
    through: dict[str, int] = field(default_factory=dict)
    """Step of the last point sent, by metric: one at or below it is never sent again."""
    is_settled: bool = False
    """False while something is on its way: whether it arrived, only the store can tell."""
    told: dict[str, str] = field(default_factory=dict)
    """Tags that change, as last sent."""
    files: dict[str, list[int]] = field(default_factory=dict)
    """Artifacts sent: size in bytes and time of change in ns, by name."""


def load(folder: Path, store: str) -> Mark | None:
    """The mark of the run in `folder` for `store`; None if there is none that can be read."""
    try:
        return Mark(**_stores(folder)[store])
    except (KeyError, TypeError):
        return None


def save(folder: Path, store: str, mark: Mark) -> None:
    """Keep `mark` beside those for other stores."""
    stores = {**_stores(folder), store: asdict(mark)}
    write_json(folder / NAME, {"format": FORMAT, "stores": stores})


def _stores(folder: Path) -> dict[str, Any]:
    try:
        text = json.loads((folder / NAME).read_text(encoding="utf-8"))
        return dict(text["stores"]) if text["format"] == FORMAT else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
