"""Which metrics a run of a recipe can have, as far as the recipe tells."""

from __future__ import annotations

from collections.abc import Sequence

from labctl.errors import PluginError, Problem, did_you_mean
from labctl.registry.card import DataSpec, MeasurementCard
from labctl.registry.config import Config
from labctl.registry.registry import Registry

from .derived import DERIVED
from .document import Document
from .looks import is_evaluated


def is_validated(document: Document, spec: DataSpec) -> bool:
    """Whether there is a validation part, the data's own or one that is carved."""
    return "val" in spec.splits(document.data.val)


def unknown_metric(
    registry: Registry, document: Document, spec: DataSpec, metric: str
) -> Problem | None:
    """Why no run of the recipe can have the metric; what stands after the first part of its name
    is known when a run has been made."""
    first, slash, _ = metric.partition("/")
    if not slash:
        if metric in DERIVED:
            return None
        hint = f"{did_you_mean(metric, DERIVED)}; a metric has the name of its split: test/acc"
        return Problem(f"no quantity {metric!r}", hint=hint)
    splits = sorted({*spec.sizes, "train", "val"})
    if is_evaluated(metric):
        return never_found(document, metric)
    if first in splits or first in document.measure:
        return None
    try:
        registry.find(MeasurementCard, first, near=(document.model.architecture,))
    except PluginError:
        known = [*splits, *document.measure]
        message = f"no metric {metric!r}: {first} is neither a split nor a measurement"
        return Problem(message, hint=did_you_mean(first, known))
    return None


def without_val(document: Document, spec: DataSpec, metric: str) -> Problem | None:
    """Why no run of the recipe has the metric: it is of a validation part that is not carved."""
    if not metric.startswith("val/") or is_validated(document, spec):
        return None
    return Problem(f"no {metric}: no validation part is carved", hint="set data.val")


def without_split(config: Config, splits: Sequence[str]) -> Problem | None:
    """Why a measurement finds no examples: its field `split` names none of `splits`."""
    split = getattr(config, "split", None)
    if split is None or split in splits:
        return None
    return Problem(f"there is no split {split!r}", hint=did_you_mean(str(split), splits))


def never_found(document: Document, metric: str) -> Problem | None:
    """Why no evaluation finds the metric, which has the name of one: each finds the same."""
    found = ["acc", "loss", *(f"loss_{term}" for term in document.loss if len(document.loss) > 1)]
    prefixes = ("train/clean/", "test/as_trained/", "val/as_trained/", "test/", "val/")
    prefix = next(prefix for prefix in prefixes if metric.startswith(prefix))
    name = metric.removeprefix(prefix)
    if name in found:
        return None
    message = f"no metric {metric!r}: an evaluation finds {', '.join(found)}"
    return Problem(message, hint=did_you_mean(metric, [prefix + name for name in found]))
