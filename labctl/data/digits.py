"""The 1,797 handwritten digits that come with scikit-learn: real data on every machine. No torch
until loaded."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labctl.registry.card import DataSpec, Places

if TYPE_CHECKING:
    from .examples import Images

SPEC = DataSpec(
    name="digits", version="uci1998", inputs="image", shape=(1, 8, 8), num_classes=10,
    sizes={"train": 1437, "test": 360}, mean=(0.3053,), std=(0.3762,),
)  # fmt: skip


def spec(config: Any, places: Places) -> DataSpec:
    """What a plan needs to know of the digits."""
    return SPEC


def missing(config: Any, places: Places) -> str | None:
    """Nothing ever is."""
    return None


def load(config: Any, places: Places) -> Mapping[str, Images]:
    """8x8 images, grey values 0..16 scaled to 0..255; every fifth is a test image, in the order of
    the set."""
    import torch

    from .examples import Images

    rows = torch.from_numpy(_rows())
    pixels = rows[:, :-1].mul(255 / 16).round().to(torch.uint8).unflatten(1, SPEC.shape)
    labels = rows[:, -1].long()
    is_test = torch.arange(len(labels)) % 5 == 0
    return {
        "train": Images(pixels[~is_test], labels[~is_test]),
        "test": Images(pixels[is_test], labels[is_test]),
    }


def _rows() -> Any:
    """float64 (1797, 65): pixels, then the digit, of the file that `sklearn.datasets.load_digits`
    reads. To import scikit-learn for that takes two seconds at the start of every run."""
    import numpy as np

    package = find_spec("sklearn")
    assert package is not None and package.origin is not None, "labctl depends on scikit-learn"
    return np.loadtxt(Path(package.origin).parent / "datasets/data/digits.csv.gz", delimiter=",")
