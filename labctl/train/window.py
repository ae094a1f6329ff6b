"""Metrics summed on the device over a stretch of steps, fetched once at its end."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .learner import Metrics


class Window:
    """Sums and counts of metrics since the window was opened, and the time that its steps took."""

    def __init__(self) -> None:
        self._totals: dict[str, tuple[Tensor, Tensor]] = {}
        self.steps = 0
        self.seconds = 0.0

    def add(self, metrics: Metrics) -> None:
        """Add one step's metrics; does not wait for the device."""
        for name, (total, count) in metrics.items():
            if name in self._totals:
                before = self._totals[name]
                self._totals[name] = (before[0] + total, before[1] + count)
            else:
                self._totals[name] = (total.clone(), count.clone())
        self.steps += 1

    def means(self) -> dict[str, float]:
        """Each metric's mean; waits for the device, once."""
        if not self._totals:
            return {}
        names = list(self._totals)
        pairs = torch.stack(
            [torch.stack([t.double(), c.double()]) for t, c in self._totals.values()]
        )
        return {
            name: total / count if count else 0.0
            for name, (total, count) in zip(names, pairs.tolist(), strict=True)
        }

    def state_dict(self) -> dict[str, Any]:
        return {"totals": dict(self._totals), "steps": self.steps, "seconds": self.seconds}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Window:
        window = cls()
        window._totals = dict(state["totals"])
        window.steps, window.seconds = state["steps"], state["seconds"]
        return window
