"""The recipe's stop rules, held against what a run journals."""

from __future__ import annotations

from collections.abc import Mapping

from labctl.recipe.predicate import Predicate, Watch
from labctl.store.run import Run


class Stopping:
    """The stop rules of one run; what they remember follows from the journal alone."""

    def __init__(self, rules: Mapping[str, str]) -> None:
        self.rules = rules
        self._watches = {name: Watch(Predicate.parse(rule)) for name, rule in rules.items()}

    @classmethod
    def resumed(cls, rules: Mapping[str, str], run: Run, step: int) -> Stopping:
        """The rules as they stood when the run had journalled everything up to `step`."""
        stopping = cls(rules)
        if rules and step:
            for record in run.journal.of("metrics"):
                if record.step <= step:
                    stopping.note(record.step, record.values)
        return stopping

    def note(self, step: int, values: Mapping[str, float]) -> str | None:
        """Take what was journalled after `step` steps; the name of a rule that is met now."""
        met = [name for name, watch in self._watches.items() if watch.note(step, values)]
        return met[0] if met else None

    @property
    def unseen(self) -> dict[str, list[str]]:
        """By rule: its metrics that were never journalled."""
        return {name: sorted(watch.unseen) for name, watch in self._watches.items() if watch.unseen}
