"""What people call corrupted test sets, and where their files are. Needs no torch."""

from __future__ import annotations

from labctl.errors import EnvironmentProblem
from labctl.registry.card import Places

PUBLISHED = {"cifar10": "CIFAR-10-C", "cifar100": "CIFAR-100-C"}
"""Of each data set that there are published files of: their name, which is also their folder's."""
SOURCES = {"cifar10": "records/2535967", "cifar100": "records/3555552"}
"""Where they are, below https://zenodo.org/."""


def files_missing(data: str, places: Places) -> EnvironmentProblem | None:
    """Why the published files of a data set cannot be read; None if they are there."""
    if data not in PUBLISHED:
        return EnvironmentProblem(
            f"nobody has published corrupted files of {data}",
            hint="labctl eval without --official makes its own; there are files of "
            + ", ".join(PUBLISHED),
        )
    if places.find(PUBLISHED[data]) is not None:
        return None
    looked = ", ".join(str(root / PUBLISHED[data]) for root in places.roots)
    return EnvironmentProblem(
        f"{PUBLISHED[data]} is not there: looked for {looked}",
        hint=f"unpack it there (https://zenodo.org/{SOURCES[data]}), set LABCTL_DATA, or source: "
        "generated",
    )
