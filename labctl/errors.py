"""Everything that can go wrong and that a user can mend.

Each error says where, what, and what to type next; each class has its own exit code.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

MOST_LISTED = 20
"""Names that a message lists; after so many nobody reads on."""


class LabctlError(Exception):
    """Anything the user can fix. `hint` is the next thing to type."""

    exit_code = 1

    def __init__(self, message: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message, self.where, self.hint = message, where, hint

    @property
    def placed(self) -> str:
        """`where: message`, in one line."""
        return f"{self.where}: {self.message}" if self.where else self.message

    def __str__(self) -> str:
        return f"{self.placed}\n  {self.hint}" if self.hint else self.placed


class UsageError(LabctlError):
    """A command that cannot be understood: an unknown name, an option that does not fit."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of a recipe: where it stands, what it is, what would work."""

    message: str
    where: str = ""
    hint: str = ""

    @property
    def placed(self) -> str:
        """`where: message`, in one line."""
        return f"{self.where}: {self.message}" if self.where else self.message

    def __str__(self) -> str:
        return f"{self.placed}\n  {self.hint}" if self.hint else self.placed


class RecipeError(LabctlError):
    """A recipe that cannot be carried out; carries every problem found, not the first."""

    exit_code = 2

    def __init__(
        self, problems: Sequence[Problem] | str, *, where: str = "", hint: str = ""
    ) -> None:
        if isinstance(problems, str):
            problems = [Problem(problems, where, hint)]
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class PluginError(LabctlError):
    """A plugin that is missing, broken, or claims a name that is taken."""

    exit_code = 2


class RunError(LabctlError):
    """A run that failed, diverged or cannot be read."""

    exit_code = 3


class ClaimError(LabctlError):
    """A claim that did not come out as its recipe expects."""

    exit_code = 4


class PartialError(LabctlError):
    """Some of several runs failed; the others are done."""

    exit_code = 5


class EnvironmentProblem(LabctlError):
    """The machine lacks something: data, a device, disk space, a folder to write, a tracker."""

    exit_code = 6


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`did you mean 'x'?  there are: x, y` for a mistyped name; of very many, some."""
    names = sorted(set(known))
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    more = f", and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    listing = f"there are: {', '.join(names[:MOST_LISTED])}{more}" if names else "there are none"
    return f"did you mean {close[0]!r}?  {listing}" if close else listing
