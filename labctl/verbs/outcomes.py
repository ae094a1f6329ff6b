"""How runs stand after a command that trains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self, overload

from rich.console import Group, RenderableType

from labctl.errors import EnvironmentProblem, PartialError, RunError
from labctl.execute.job import Outcome
from labctl.store.run import Run
from labctl.store.status import ANSWERS, Status

from .looks import in_html, table_of

AGAIN = "labctl status; labctl logs RUN; `labctl run` again goes on where they were"
ANEW = "labctl status; labctl logs RUN; that is their answer: `labctl run --restart` asks again"
"""Where all that is missing diverged or was halted."""


@dataclass(frozen=True, slots=True, repr=False)
class Outcomes(Sequence[Outcome]):
    """One outcome for each run that was asked for, in the order of asking."""

    outcomes: tuple[Outcome, ...]
    answers: frozenset[Status] = frozenset({Status.DONE})
    """Ends that are what was asked for."""
    hint: str = AGAIN
    """What helps where an answer is missing."""

    @classmethod
    def of_sweep(cls, outcomes: Iterable[Outcome]) -> Self:
        """Of runs that may diverge or be halted, which answers a sweep as well."""
        again = "labctl why RUN; again: --retry failed"
        return cls(tuple(outcomes), frozenset(ANSWERS), again)

    @overload
    def __getitem__(self, place: int) -> Outcome: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Outcome]: ...
    def __getitem__(self, place: int | slice) -> Outcome | Sequence[Outcome]:
        return self.outcomes[place]

    def __len__(self) -> int:
        return len(self.outcomes)

    @property
    def runs(self) -> list[Run]:
        """The runs themselves."""
        return [outcome.run for outcome in self]

    @property
    def summary(self) -> str:
        """`4 runs: 3 DONE, 1 DONE before`."""
        words = (f"{o.status} before" if o.was_skipped else str(o.status) for o in self)
        counts = Counter(words)
        parts = ", ".join(f"{count} {word}" for word, count in counts.items())
        return f"{len(self)} run{'s' if len(self) != 1 else ''}: {parts}"

    def require(self, beside: int = 0) -> Self:
        """These outcomes, if all are answers.

        Args:
            beside: further runs, which had answered before.

        Raises:
            PartialError: some are not.
            RunError: none is.
            EnvironmentProblem: none is, for want of something on this machine.
        """
        bad = [outcome for outcome in self if outcome.status not in self.answers]
        if not bad:
            return self
        hint = self.hint
        if hint == AGAIN and all(outcome.status in ANSWERS for outcome in bad):
            hint = ANEW
        names = ", ".join(f"{outcome.run.plan.name} ({outcome.status})" for outcome in bad)
        codes = {int((outcome.run.end or {}).get("code", 0)) for outcome in bad}
        if len(bad) < (total := len(self) + beside):
            raise PartialError(f"{len(bad)} of {total} runs are not done: {names}", hint=hint)
        if codes == {EnvironmentProblem.exit_code}:
            raise EnvironmentProblem(f"not done: {names}", hint=hint)
        raise RunError(f"not done: {names}", hint=hint)

    def plain(self) -> list[dict[str, Any]]:
        """As JSON."""
        return [
            {"run": o.run.plan.name, "key": o.run.plan.key, "status": o.status,
             "skipped": o.was_skipped, "folder": o.run.folder, "message": o.message}
            for o in self
        ]  # fmt: skip

    def __repr__(self) -> str:
        return f"<{self.summary}>"

    def __rich__(self) -> RenderableType:
        table = table_of("run", "key", "status", "message")
        for one in self:
            words = (one.run.plan.name, one.run.plan.key, str(one.status), one.message)
            table.add_row(*words)
        return Group(table, self.summary)

    def _repr_html_(self) -> str:
        return in_html(self)
