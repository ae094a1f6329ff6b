"""Published image sets: what is known of them without their files, and where those are.

No torch until they are loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labctl.registry.card import DataSpec, Places

if TYPE_CHECKING:
    from .examples import Images


@dataclass(frozen=True, slots=True)
class Published:
    """An image set that torchvision can read and download."""

    facts: DataSpec
    torchvision_name: str
    folder: str
    """What torchvision's class looks for below its root."""

    def spec(self, config: Any, places: Places) -> DataSpec:
        return self.facts

    def missing(self, config: Any, places: Places) -> str | None:
        """Where it was looked for and how to get it; None if it is there."""
        if places.find(self.folder) is not None:
            return None
        looked = ", ".join(str(root / self.folder) for root in places.roots)
        fetch = f"labctl data fetch {self.facts.name}"
        return f"looked for {looked}. Get it with `{fetch}`, or set LABCTL_DATA"

    def load(self, config: Any, places: Places) -> Mapping[str, Images]:
        from .vision import read

        found = places.find(self.folder)
        assert found is not None, "asked to load what `missing` reports"
        return read(self.torchvision_name, found.parent)

    def fetch(self, config: Any, folder: Path) -> None:
        """Download into `folder`, checksums and all."""
        from .vision import download

        download(self.torchvision_name, folder)


MNIST = Published(
    DataSpec(
        name="mnist",
        version="lecun1998",
        inputs="image",
        shape=(1, 28, 28),
        num_classes=10,
        sizes={"train": 60_000, "test": 10_000},
        mean=(0.1307,),
        std=(0.3081,),
    ),
    "MNIST",
    "MNIST",
)
CIFAR10 = Published(
    DataSpec(
        name="cifar10",
        version="krizhevsky2009",
        inputs="image",
        shape=(3, 32, 32),
        num_classes=10,
        sizes={"train": 50_000, "test": 10_000},
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
    ),
    "CIFAR10",
    "cifar-10-batches-py",
)
CIFAR100 = Published(
    DataSpec(
        name="cifar100",
        version="krizhevsky2009",
        inputs="image",
        shape=(3, 32, 32),
        num_classes=100,
        sizes={"train": 50_000, "test": 10_000},
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
    ),
    "CIFAR100",
    "cifar-100-python",
)
