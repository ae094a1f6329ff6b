"""The conformance suite that every plugin must pass, and the scaffold that a new one begins from.

from labctl.testing import PluginSuite

class TestMyVit(PluginSuite):
    plugin = "my_vit"
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .suite import PluginSuite

__all__ = ["PluginSuite"]


def __getattr__(name: str) -> Any:
    # The suite needs pytest and torch; the scaffold, in this package too, needs neither.
    if name == "PluginSuite":
        from .suite import PluginSuite

        return PluginSuite
    raise AttributeError(f"module 'labctl.testing' has no attribute {name!r}")
