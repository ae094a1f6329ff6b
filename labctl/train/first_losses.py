"""The losses of a run's first steps, which tell two runs apart."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from labctl.store.journal import FIRST_LOSSES, JournalWriter

from . import checkpoint
from .learner import Metrics


class FirstLosses:
    """Those not yet journalled, on the device."""

    def __init__(self) -> None:
        self.losses: list[Tensor] = []

    def add(self, step: int, metrics: Metrics) -> None:
        """Take the loss of the step after `step` steps, if it is one of the first."""
        if step < FIRST_LOSSES:
            total, count = metrics["loss"]
            self.losses.append(total / count)

    def record(self, journal: JournalWriter, step: int) -> None:
        """Journal them exactly, after `step` steps."""
        if not self.losses:
            return
        losses = [repr(loss) for loss in torch.stack(self.losses).tolist()]
        journal.record("first_losses", step, of_step=step - len(losses), losses=losses)
        self.losses = []

    def load(self, losses: Any, device: torch.device) -> None:
        """Be as a checkpoint kept them."""
        self.losses = checkpoint.moved(losses, device)
