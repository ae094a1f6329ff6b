"""Two trained models held against each other, example by example."""

from __future__ import annotations

from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from labctl.registry.config import Config
from labctl.store.run import Run

from .statistics import LEVEL

RESAMPLES = 2000
SPLIT = "test"


class Items(Config):
    """The test examples of two checkpoints."""

    seeds: tuple[int, int]
    n: int
    """Examples."""
    only_a: int
    """That A alone has right."""
    only_b: int
    difference: float
    """Accuracy of B minus that of A, in points."""
    low: float
    """Of the 95 % interval for it: what other examples of the same kind would show of these very
    checkpoints. It says nothing of other seeds."""
    high: float


def items(a: Run, b: Run) -> Items | None:
    """None if not both kept what they predicted, and for the same examples."""
    ours, theirs = _right(a), _right(b)
    if ours is None or theirs is None or not np.array_equal(ours[1], theirs[1]):
        return None
    apart = theirs[0].astype(np.int8) - ours[0].astype(np.int8)
    low, high = _interval(apart)
    return Items(
        seeds=(a.plan.work.seed, b.plan.work.seed),
        n=len(apart),
        only_a=int((apart < 0).sum()),
        only_b=int((apart > 0).sum()),
        difference=100 * float(apart.mean()),
        low=100 * low,
        high=100 * high,
    )


def _right(run: Run) -> tuple[NDArray[np.bool_], NDArray[np.int64]] | None:
    """(N,) whether each example was classified rightly, and its class."""
    try:
        with run.predictions_path.open("rb") as file, np.load(file) as kept:
            predicted, targets = kept[SPLIT], kept[f"{SPLIT}_targets"]
    except (
        OSError,
        EOFError,
        KeyError,
        ValueError,
        BadZipFile,
    ):  # none, or of before targets were kept
        return None
    return predicted == targets, targets


def _interval(apart: NDArray[np.int8]) -> tuple[float, float]:
    """Percentile bootstrap over examples (Efron 1979) of the mean of (N,) differences, each -1, 0
    or 1; the same for the same examples."""
    from scipy.stats import bootstrap

    if not apart.any():
        return 0.0, 0.0
    found = bootstrap(
        (apart,), np.mean, n_resamples=RESAMPLES, batch=100, method="percentile",
        confidence_level=1 - LEVEL, rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    return float(found.low), float(found.high)
