"""labctl: one YAML recipe in, one honest table out.

The commands as functions: `load`, `plan`, `run`, `sweep`, `boundary`, `search`, `report`; `runs` as
a pandas frame; `load_model` for what was trained.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labctl.train.predictor import Predictor, load_model
    from labctl.verbs.listing import runs
    from labctl.verbs.planning import load, plan
    from labctl.verbs.reporting import report
    from labctl.verbs.seeking import boundary, search
    from labctl.verbs.sweeping import sweep
    from labctl.verbs.training import run

__version__ = "0.1.0"
__all__ = [
    "Predictor",
    "__version__",
    "boundary",
    "load",
    "load_model",
    "plan",
    "report",
    "run",
    "runs",
    "search",
    "sweep",
]
_HOMES = {
    "Predictor": "train.predictor",
    "boundary": "verbs.seeking",
    "load": "verbs.planning",
    "load_model": "train.predictor",
    "plan": "verbs.planning",
    "report": "verbs.reporting",
    "run": "verbs.training",
    "runs": "verbs.listing",
    "search": "verbs.seeking",
    "sweep": "verbs.sweeping",
}


def __getattr__(name: str) -> Any:
    """Loaded when it is first touched: reading a recipe needs no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'labctl' has no attribute {name!r}")
    return getattr(import_module(f"labctl.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
