"""Whether the parts of a recipe fit each other: what no block can tell by itself."""

from __future__ import annotations

from labctl.errors import LabctlError, PluginError, UsageError
from labctl.project import Project
from labctl.registry.card import Dataset, DataSpec, Places
from labctl.registry.registry import Registry

from . import catalogue
from .augment import Augment
from .check import Check
from .document import Document
from .metrics import unknown_metric, without_split, without_val
from .reach import reach_of
from .selection import UNNAMED, Selected, Selection
from .source import Steps


def spec_of(check: Check, data: Selected | None, places: Places) -> DataSpec | None:
    """What the data set says of itself."""
    if data is None:
        return None
    try:
        spec = data.ask("spec", places, expected=(OSError, ValueError))
    except PluginError as error:
        check.plugin(("data",), error)
    except LabctlError as error:
        check.report(("data",), f"data: {error.message}", error.hint)
    except (OSError, ValueError) as error:
        check.report(("data",), f"data: {error}")
    else:
        faults = spec.faults if isinstance(spec, DataSpec) else ("its spec is no DataSpec",)
        for fault in faults:
            message = f"data set {data.card.name!r}: {fault}"
            check.report(("data", "name"), message, "a fault of the plugin, to be mended there")
        return None if faults else spec
    return None


def check_model(check: Check, architecture: Selected | None, spec: DataSpec) -> None:
    """Whether the architecture can be trained on this data."""
    if architecture is None:
        return
    try:
        fault = architecture.ask("fault", spec)
    except PluginError as error:
        check.plugin(("model",), error)
    else:
        if fault:
            check.report(("model",), f"model and data do not fit: {fault}")


def check_learner(check: Check, selection: Selection) -> None:
    """Whether the learner can train this model with this loss in this precision."""
    document, learner = selection.document, selection.learner
    if learner is None:
        return
    name = learner.card.name
    try:
        reach = reach_of(learner.plugin, name)
    except PluginError as error:
        check.plugin(("learner",), error)
        return
    architecture, precision = document.model.architecture, document.numerics.precision
    if reach.architectures and architecture not in (UNNAMED, *reach.architectures):
        hint = f"it is for {', '.join(reach.architectures)}; name one of them, or another learner"
        check.report(("learner", "kind"), f"learner {name} cannot train {architecture}", hint)
    for term in document.loss if reach.losses else ():
        if term not in reach.losses:
            hint = f"it takes {', '.join(reach.losses)}; remove {term}, or name another learner"
            check.report(("loss", term), f"learner {name} cannot descend loss.{term}", hint)
    if reach.precisions and precision not in reach.precisions:
        message = f"learner {name} cannot train in {precision}"
        hint = f"it takes {', '.join(reach.precisions)}"
        check.report(("numerics", "precision"), message, hint)


def check_augment(check: Check, augment: Augment, spec: DataSpec) -> None:
    """Whether images can be augmented as asked."""
    if augment == Augment():
        return
    if spec.inputs != "image":
        check.report(("data", "augment"), f"{spec.name} has no images to augment", "remove augment")
        return
    channels, height, width = spec.shape
    if augment.crop >= min(height, width):
        message = f"data.augment.crop {augment.crop} leaves nothing of {height} x {width} pixels"
        check.report(("data", "augment", "crop"), message, "crops of a few pixels are usual")
    if augment.policy != "none" and channels not in (1, 3):
        message = f"policy {augment.policy} is for 1 or 3 channels; {spec.name} has {channels}"
        check.report(("data", "augment", "policy"), message, "remove policy")


def check_mix(check: Check, augment: Augment, selection: Selection) -> None:
    """Whether learner and loss know what to do with targets that are mixed."""
    if augment.mix is None:
        return
    for part in (selection.learner, *selection.losses.values()):
        if part is not None and not part.card.takes_mixtures:
            message = f"{part.card.kind} {part.card.name} does not take targets that are mixed"
            check.report(("data", "augment", "mix"), message, "remove mix")


def check_measures(check: Check, selection: Selection, spec: DataSpec | None) -> None:
    """Whether the measurements can open the model, and can be taken on this data."""
    architecture = selection.document.model.architecture
    for name, part in selection.measures.items():
        if part is None:
            continue
        only_for, steps = part.card.only_for, ("measure", name)
        if only_for and architecture not in (UNNAMED, *only_for):
            message = f"measurement {name!r} cannot open {architecture}"
            hint = f"it is for {', '.join(only_for)}; to take it away: {name}: null"
            check.report(steps, message, hint)
        elif spec is not None:
            splits = spec.splits(selection.document.data.val)
            if lacking := without_split(part.config, splits):
                message = f"measurement {name!r}: {lacking.message}"
                check.report((*steps, "split"), message, lacking.hint)
            try:
                fault = part.ask("fault", spec)
            except PluginError as error:
                check.plugin(steps, error)
            else:
                if fault:
                    message = f"measurement {name!r} and data do not fit: {fault}"
                    check.report(steps, message, f"to take it away: {name}: null")


def check_seeds(
    check: Check, registry: Registry, document: Document, spec: DataSpec | None
) -> None:
    """Whether the metric that seeds are added for is one that there is."""
    rule = document.growing
    if rule is None or spec is None:
        return
    fault = unknown_metric(registry, document, spec, rule.metric)
    if fault := fault or without_val(document, spec, rule.metric):
        check.report(("seeds", "until"), f"seeds.until: {fault.message}", fault.hint)


def check_claims(
    check: Check,
    registry: Registry,
    project: Project,
    file: catalogue.RecipeFile,
    document: Document,
    spec: DataSpec | None,
    *,
    is_as_written: bool,
) -> None:
    """Whether claims are about other recipes, data and metrics that there are.

    Args:
        is_as_written: without a preset or overrides, which claims are not about: they may leave
            out a validation part.
    """
    for name, claim in document.claims.items():
        steps: Steps = ("claims", name)
        if claim.data is not None and claim.data != document.data.name:
            check.card(registry, Dataset, claim.data, (*steps, "data"))
        for place, recipe in claim.recipes.items():
            where = (*steps, *place)
            try:
                other = catalogue.located(project, recipe)
            except UsageError as error:
                check.report(where, f"{'.'.join(map(str, where))}: {error.message}", error.hint)
                continue
            if place == ("to",) and other.path.resolve() == file.path.resolve():
                message = f"{'.'.join(map(str, where))}: {recipe} compared with itself is the same"
                check.report(where, message, f"name another recipe, or leave it out: {name}: null")
        for place, metric in claim.metrics.items() if spec else ():
            assert spec is not None, "without one there is nothing to look at"
            fault = unknown_metric(registry, document, spec, metric)
            if fault is None and is_as_written:
                fault = without_val(document, spec, metric)
            if fault:
                where = (*steps, *place)
                message = f"{'.'.join(map(str, where))}: {fault.message}"
                check.report(where, message, fault.hint)
