"""Where every knob stands at a step, in the form that models take it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from labctl.plans.plan import Work
from labctl.plans.stored import schedule_of
from labctl.registry.card import Knob, KnobValue
from labctl.registry.registry import Registry


class KnobBoard:
    """The knobs of one run: asks the schedules, and hands out values.

    Continuous knobs are 0-d tensors on the device that stay the same objects while their value
    changes.
    """

    def __init__(
        self,
        work: Work,
        knobs: Mapping[str, Knob],
        registry: Registry,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.work = work
        self.knobs = knobs
        self.schedules = {
            name: schedule_of(registry, block) for name, block in work.schedules.items()
        }
        self.device, self.dtype = device, dtype
        names = [name for name, knob in knobs.items() if knob.kind == "continuous"]
        self._tensors: dict[str, Tensor] = {
            name: torch.zeros((), device=device, dtype=dtype) for name in names
        }

    def values(self, step: int) -> dict[str, KnobValue]:
        """Plain values at `step`."""
        scheduled = {name: schedule.at(step) for name, schedule in self.schedules.items()}
        return {**self.work.constants, **scheduled, **self.work.structural_at(step)}

    def at(self, step: int) -> dict[str, Tensor | KnobValue]:
        """What model, learner and loss are handed at `step`."""
        values = self.values(step)
        return self._handed(values, self._tensors)

    def for_evaluation(self, step: int) -> dict[str, Tensor | KnobValue]:
        """As `at`, with the knobs that evaluation moves moved."""
        return self._handed(self.evaluation_values(step), None)

    def evaluation_values(self, step: int) -> dict[str, KnobValue]:
        moved = {
            name: knob.at_eval for name, knob in self.knobs.items() if knob.at_eval is not None
        }
        return {**self.values(step), **moved}

    def as_trained(self, step: int) -> dict[str, Tensor | KnobValue] | None:
        """The training knobs at `step`, if evaluation moves one of them; else None."""
        if self.evaluation_values(step) == self.values(step):
            return None
        return self._handed(self.values(step), None)

    def _handed(
        self, values: Mapping[str, KnobValue], tensors: dict[str, Tensor] | None
    ) -> dict[str, Tensor | KnobValue]:
        handed: dict[str, Tensor | KnobValue] = {}
        for name, value in values.items():
            if self.knobs[name].kind == "structural":
                handed[name] = value
            elif tensors is None:
                handed[name] = torch.full((), float(value), device=self.device, dtype=self.dtype)
            else:
                handed[name] = tensors[name].fill_(float(value))
        return handed
