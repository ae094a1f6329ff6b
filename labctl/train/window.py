"""Metrics summed on the device over a stretch of steps, fetched once at its end."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .learner import Metrics
from .stopwatch import Stopwatch


class Window:
    """Sums and counts of metrics since the window was opened, and the time that its steps took."""

    def __init__(self, stopwatch: Stopwatch | None = None) -> None:
        stopwatch = stopwatch or Stopwatch()
        self._totals: dict[str, tuple[Tensor, Tensor]] = {}
        self.steps = 0
        self.replicas = 1
        """Most runs that were trained together meanwhile."""
        self.is_timed = True
        """Whether all of its time can be said to be this run's."""
        self.is_typical = True
        """Whether its time is that of all of its steps: none of them had to be compiled first."""
        self._stopwatch, self._since, self._before = stopwatch, stopwatch.share, 0.0

    @property
    def seconds(self) -> float:
        """What its steps took until now; their share, if other runs are trained beside this one."""
        return self._before + self._stopwatch.share - self._since

    def add(self, metrics: Metrics) -> None:
        """Add one step's metrics; does not wait for the device."""
        seen = [name for name in metrics if name in self._totals]
        if seen:  # one launch for all of them
            torch._foreach_add_(
                [tensor for name in seen for tensor in self._totals[name]],
                [tensor for name in seen for tensor in metrics[name]],
            )
        for name, (total, count) in metrics.items():
            if name not in self._totals:
                self._totals[name] = (total.clone(), count.clone())
        self.steps += 1
        self.is_timed &= self._stopwatch.is_fair
        self.replicas = max(self.replicas, self._stopwatch.runs)

    def means(self) -> dict[str, float]:
        """The mean of each metric of which anything was counted; waits for the device, once."""
        if not self._totals:
            return {}
        names = list(self._totals)
        pairs = torch.stack(
            [torch.stack([t.double(), c.double()]) for t, c in self._totals.values()]
        )
        return {
            name: total / count
            for name, (total, count) in zip(names, pairs.tolist(), strict=True)
            if count
        }

    def state_dict(self) -> dict[str, Any]:
        return {
            "totals": dict(self._totals),
            "steps": self.steps,
            "seconds": self.seconds,
            "is_timed": self.is_timed,
            "is_typical": self.is_typical,
            "replicas": self.replicas,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any], stopwatch: Stopwatch) -> Window:
        window = cls(stopwatch)
        window._totals = {name: (t.clone(), c.clone()) for name, (t, c) in state["totals"].items()}
        window.steps, window._before = state["steps"], state["seconds"]
        window.is_timed = state.get("is_timed", True)
        window.is_typical = state.get("is_typical", True)
        window.replicas = state.get("replicas", 1)
        return window
