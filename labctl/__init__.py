"""labctl: one YAML recipe in, one honest table out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labctl.train.predictor import Predictor, load_model

__version__ = "0.1.0"
__all__ = ["Predictor", "__version__", "load_model"]


def __getattr__(name: str) -> Any:
    """What needs torch is loaded when it is first touched."""
    if name in ("Predictor", "load_model"):
        from labctl.train import predictor

        return getattr(predictor, name)
    raise AttributeError(f"module 'labctl' has no attribute {name!r}")
