"""Measurement: accuracy on a test set corrupted in fifteen ways at five severities."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from labctl.data.batches import Batches
from labctl.data.corruptions.catalogue import CORRUPTIONS
from labctl.data.corruptions.corruption import SEVERITIES
from labctl.data.corruptions.kept import folder_of, kept
from labctl.data.corruptions.suite import VERSION, checksum, generated, published
from labctl.data.corruptions.suite import Images as Corrupting
from labctl.data.examples import Images
from labctl.errors import LabctlError

from .corrupted import FILE, STAR, Corrupted, fault
from .measurement import MeasureContext

if TYPE_CHECKING:
    from labctl.builtin import OfficialRobustnessConfig, RobustnessConfig

BATCH = 1000


def robustness(config: RobustnessConfig, context: MeasureContext) -> dict[str, float]:
    """Accuracy on each of 75 corrupted copies of the test set, which labctl makes.

    The model computes in the precision in which it was tested. What is generated is kept in the
    user's cache, 2.3 GB for the test set of CIFAR-10, so that runs share it.

    Writes `robustness.json`, with the checksum of the images of each, and `robustness.png`.

    Returns:
        The numbers of `Corrupted`, their names after `generated/`.

    Raises:
        LabctlError: the data are no square images of one or three channels, or are no images.
    """
    spec = context.spec
    if why := fault(spec):
        raise LabctlError(why, hint="measure: {robustness: null}")
    pixels, labels = _first(context, config.images)
    images = generated(pixels, config.seed)
    folder = folder_of(spec.name, pixels, config.seed, context.places)
    images = images if folder is None else kept(images, pixels, folder)
    made = {"source": "generated", "version": VERSION, "seed": config.seed}
    found = _classified(context, images, pixels, labels, made)
    return {f"generated/{name}": value for name, value in found.numbers().items()}


def official_robustness(
    config: OfficialRobustnessConfig, context: MeasureContext
) -> dict[str, float]:
    """As `robustness`, on the published files.

    Returns:
        The numbers of `Corrupted`.

    Raises:
        EnvironmentProblem: the files are not there, are others, or there are none of these data.
    """
    _, every_label = _first(context, None)
    images = published(context.spec.name, every_label, context.places)
    pixels, labels = _first(context, config.images)
    made = {"source": "official", "version": None, "seed": None}
    return _classified(context, images, pixels, labels, made).numbers()


def _first(context: MeasureContext, count: int | None) -> tuple[Tensor, Tensor]:
    """The first images of the test set and their labels; all for None."""
    batches = context.splits["test"]
    index = torch.arange(min(len(batches), count or len(batches)), device=context.device)
    pixels, labels = batches.examples.take(index)
    return pixels, labels


@torch.no_grad()
def _classified(
    context: MeasureContext,
    images: Corrupting,
    pixels: Tensor,
    labels: Tensor,
    made: Mapping[str, Any],
) -> Corrupted:
    accuracy, checksums = {}, {}
    with ThreadPoolExecutor(1) as beside:  # the device classifies while the host sums up
        for corruption in CORRUPTIONS:
            cells = []
            for severity in range(1, SEVERITIES + 1):
                corrupted = images(corruption, severity)[: len(labels)].to(context.device)
                digest = beside.submit(checksum, corrupted)
                cells.append((_accuracy(context, corrupted, labels), digest))
            accuracy[corruption.name] = tuple(value for value, _ in cells)
            checksums[corruption.name] = tuple(digest.result() for _, digest in cells)
    found = Corrupted(
        **made,
        data=context.spec.name,
        images=len(labels),
        clean=_accuracy(context, pixels, labels),
        accuracy=accuracy,
        checksums=checksums,
    )
    text = found.model_dump_json(indent=1)
    (context.folder / FILE).write_text(text, encoding="utf-8")
    _draw(found, context)
    return found


def _accuracy(context: MeasureContext, pixels: Tensor, labels: Tensor) -> float:
    batches = Batches(Images(pixels, labels), context.spec, context.device)
    dtype = next(context.model.parameters()).dtype
    right = 0
    for batch in batches.in_order(BATCH):
        batch = replace(batch, inputs=batch.inputs.to(dtype))
        with context.autocast():
            output = context.model(batch.inputs, context.knobs)
        logits = output if isinstance(output, Tensor) else output.logits
        right += int((logits.argmax(-1) == batch.targets).sum())
    return right / len(labels)


def _draw(found: Corrupted, context: MeasureContext) -> None:
    """A cell for each corruption and severity, with its accuracy."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 5.6), layout="compressed")
    axis = figure.subplots()
    values = [[100 * value for value in cells] for cells in found.accuracy.values()]
    axis.imshow(values, vmin=0, vmax=100, cmap="viridis", aspect="auto")
    for row, cells in enumerate(values):
        for column, value in enumerate(cells):
            ink = "black" if value > 60 else "white"
            axis.text(column, row, f"{value:.1f}", ha="center", va="center", color=ink, fontsize=8)
    axis.set_xticks(range(SEVERITIES), [str(n) for n in range(1, SEVERITIES + 1)])
    axis.set_yticks(
        range(len(values)), [found.label(name).replace("_", " ") for name in found.accuracy]
    )
    note = f"\n{STAR}" if found.source == "generated" else ""
    axis.set_xlabel(f"severity{note}", fontsize=8)
    axis.set_title(
        f"{found.suite}: {100 * found.mean_accuracy:.2f} %, clean {100 * found.clean:.2f} %",
        fontsize=10,
    )
    figure.savefig(context.folder / "robustness.png", dpi=120)
