"""The cards that a recipe names, each with the config that the recipe gives it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from labctl.registry.card import (
    Architecture,
    Card,
    CostCard,
    Dataset,
    LearnerCard,
    LossTerm,
    MeasurementCard,
    OptimizerCard,
    ScheduleCard,
)
from labctl.registry.guard import guarded
from labctl.registry.registry import Loaded, Registry

from .budget import Match
from .check import Check
from .document import Block, Document, ScheduleBlock
from .schedule import Constant, Schedule
from .source import Steps

UNNAMED = "\0"
"""For a name that is missing, which was reported; no YAML can hold it."""


@dataclass(frozen=True, slots=True)
class Selected:
    """A card that a recipe names, with the config that the recipe gives it."""

    card: Any
    config: Any
    plugin: Loaded

    def ask(
        self, question: str, *arguments: Any, expected: tuple[type[Exception], ...] = ()
    ) -> Any:
        """What the card's function `question` answers about the config.

        Raises:
            PluginError: it raised something other than an error of labctl or one `expected`.
        """
        with guarded(f"{question}() of {self.card.kind} {self.card.name!r}", *expected):
            return getattr(self.card, question)(self.config, *arguments)


@dataclass
class Selection:
    """The parts of a recipe; None stands for a part over which a problem was reported."""

    check: Check
    registry: Registry
    document: Document
    near: list[str] = field(default_factory=list)
    """Plugins that the recipe has named already: where further cards are looked for first."""

    def __post_init__(self) -> None:
        document = self.document
        self.architecture = self._block(
            Architecture, document.model.architecture, document.model, ("model",)
        )
        self.data = self._block(Dataset, document.data.name, document.data, ("data",))
        self.learner = self._block(
            LearnerCard, document.learner.kind, document.learner, ("learner",)
        )
        self.optimizer = self._block(
            OptimizerCard, document.optimizer.kind, document.optimizer, ("optimizer",)
        )
        self.losses = {
            name: self._card(LossTerm, name, options, ("loss", name), ("loss", name))
            for name, options in document.loss.items()
        }
        self.measures = {
            name: self._card(
                MeasurementCard, name, block.options(), ("measure", name), ("measure", name), block
            )
            for name, block in document.measure.items()
        }
        budget = document.budget
        self.cost = (
            self._card(CostCard, budget.match, {}, ("budget",), ("budget", CostCard.field))
            if isinstance(budget, Match)
            else None
        )
        self.schedule_plugins: list[Loaded] = []
        self.schedules = {
            knob: self._schedule(entry, ("schedules", knob))
            for knob, entry in document.schedules.items()
        }

    @property
    def with_knobs(self) -> list[Selected] | None:
        """The parts that may declare knobs; None if one of them is not known."""
        parts = [self.architecture, self.learner, *self.losses.values()]
        known = [part for part in parts if part is not None]
        is_whole = len(known) == len(parts) and not self.check.is_faulty("loss")
        return known if is_whole else None

    def _block(self, kind: type[Card], name: str, block: Block, steps: Steps) -> Selected | None:
        return self._card(kind, name, block.options(), steps, (*steps, kind.field), block)

    def _card(
        self,
        kind: type[Card],
        name: str,
        options: Mapping[str, Any],
        steps: Steps,
        named_at: Steps,
        block: BaseModel | None = None,
    ) -> Selected | None:
        if name == UNNAMED:
            return None
        found = self.check.card(self.registry, kind, name, named_at, self.near)
        if found is None:
            return None
        card, plugin = found
        self.near.append(plugin.plugin.name)
        config = self.check.model(card.config, dict(options), steps, type(block) if block else None)
        return None if config is None else Selected(card, config, plugin)

    def _schedule(self, entry: ScheduleBlock | float | str, steps: Steps) -> Schedule | None:
        if not isinstance(entry, ScheduleBlock):
            return Constant(value=entry)
        selected = self._block(ScheduleCard, entry.kind, entry, steps)
        if selected is None:
            return None
        self.schedule_plugins.append(selected.plugin)
        if isinstance(selected.config, Schedule):
            return selected.config
        message = f"{selected.plugin.plugin.origin}: {entry.kind} is no labctl.api.Schedule"
        self.check.report(steps, message, "a fault of the plugin, to be mended there")
        return None
