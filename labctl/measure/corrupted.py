"""How well a model does on corrupted images: what `robustness` found. Needs no torch."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from labctl.data.corruptions.names import PUBLISHED
from labctl.errors import RunError
from labctl.registry.card import DataSpec
from labctl.registry.config import Config

FILE = "robustness.json"
WORST = 5
"""Cells that are pointed out."""
STAR = "frost*: needles of ice that labctl draws, not the published photographs"
Share = Annotated[float, Field(ge=0, le=1)]
Cells = Annotated[tuple[Share, ...], Field(min_length=5, max_length=5)]
Source = Literal["generated", "official"]


def fault(spec: DataSpec) -> str | None:
    """Why data cannot be corrupted; None if they can."""
    if spec.inputs != "image":
        return f"robustness corrupts images, and {spec.name} holds {spec.inputs}"
    channels, height, width = spec.shape
    if height != width or channels not in (1, 3):
        return (
            f"robustness corrupts square images of 1 or 3 channels, and {spec.name} has "
            f"{channels} of {height}x{width} pixels"
        )
    return None if "test" in spec.sizes else f"{spec.name} has no test images to corrupt"


class Corrupted(Config):
    """Accuracies of one model on one corrupted test set."""

    data: str
    """The data set that is corrupted."""
    source: Source
    version: int | None
    """Of labctl's generator; None for published files."""
    seed: int | None
    images: int
    """Of each corruption at each severity."""
    clean: Share
    """Accuracy on the same images as they are."""
    accuracy: dict[str, Cells]
    """By corruption, at severities 1 to 5."""
    checksums: dict[str, Annotated[tuple[str, ...], Field(min_length=5, max_length=5)]]
    """SHA-256 of the images of each cell."""

    @property
    def suite(self) -> str:
        """Its name, which says who made the images."""
        return suite_name(self.data, self.source, self.version)

    def label(self, corruption: str) -> str:
        """Its name, with a star where labctl's images are of another kind than the published."""
        is_own = self.source == "generated" and corruption == "frost"
        return f"{corruption}*" if is_own else corruption

    @property
    def mean_accuracy(self) -> float:
        """mCA: plain mean over all corruptions and severities, as is usual for CIFAR."""
        return fmean(value for cells in self.accuracy.values() for value in cells)

    @property
    def mean_error(self) -> float:
        """mCE in the convention of CIFAR: 1 - mCA, divided by no other model's."""
        return 1 - self.mean_accuracy

    @property
    def drop(self) -> float:
        """What corruption costs in accuracy, on average."""
        return self.clean - self.mean_accuracy

    def relative_error(self, other: Corrupted) -> float:
        """Relative CE: the drop over that of another model (Hendrycks & Dietterich 2019, but summed
        over corruptions before the division).

        Raises:
            RunError: they were measured on different images.
        """
        if self.checksums != other.checksums:
            raise RunError(
                f"{self.suite} and {other.suite} were measured on different images "
                f"({self.images} and {other.images} a cell)",
                hint="labctl eval measures both on the same",
            )
        return self.drop / other.drop if other.drop else float("nan")

    def worst(self, count: int) -> list[tuple[str, int, float]]:
        """Corruption, severity and accuracy of the cells of lowest accuracy."""
        cells = [
            (name, severity, value)
            for name, values in self.accuracy.items()
            for severity, value in enumerate(values, start=1)
        ]
        return sorted(cells, key=lambda cell: cell[2])[:count]

    def plain(self) -> dict[str, Any]:
        """All of it, and what follows from it, as JSON has it."""
        worst = [
            {"corruption": name, "severity": severity, "accuracy": value}
            for name, severity, value in self.worst(WORST)
        ]
        return self.model_dump(mode="json") | {
            "suite": self.suite,
            "mean_accuracy": self.mean_accuracy,
            "mean_error": self.mean_error,
            "drop": self.drop,
            "worst": worst,
        }

    def numbers(self) -> dict[str, float]:
        """For the journal: `acc`, the mean over all, and `mce`, 1 less that; `clean/acc`; `drop`,
        clean less mean; `worst/acc`, the mean of the five worst cells; `s<k>/acc` of each severity,
        `<corruption>/acc` and `<corruption>/s<k>/acc`."""
        found = {"acc": self.mean_accuracy, "mce": self.mean_error, "clean/acc": self.clean}
        found |= {"drop": self.drop, "worst/acc": fmean(value for *_, value in self.worst(WORST))}
        for place in range(5):
            found[f"s{place + 1}/acc"] = fmean(cells[place] for cells in self.accuracy.values())
        for name, cells in self.accuracy.items():
            found[f"{name}/acc"] = fmean(cells)
            found |= {f"{name}/s{place}/acc": value for place, value in enumerate(cells, start=1)}
        return found


def suite_name(data: str, source: Source, version: int | None) -> str:
    """`CIFAR-10-C` of the published files, `CIFAR-10-C-labctl v2` of what labctl generates."""
    name = PUBLISHED.get(data, f"{data}-C")
    return name if source == "official" else f"{name}-labctl v{version}"


def read_corrupted(folder: Path) -> Corrupted:
    """What `robustness` left in the folder of a measurement.

    Raises:
        RunError: it is not there, or something else is.
    """
    path = folder / FILE
    try:
        return Corrupted.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError, json.JSONDecodeError) as error:
        raise RunError(
            f"{path} cannot be read: {error}", hint="labctl eval takes it again"
        ) from None
