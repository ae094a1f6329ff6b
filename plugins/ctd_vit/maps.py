"""Measurements: which patches are salient and kept, and what CLS attends to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labctl.api import Batch, DataSpec, LabctlError, MeasureContext

from .config import MapsConfig, SaliencyMapsConfig
from .model import CtdVit
from .saliency import cls_attention

Maps = NDArray[Any]
"""One value per image and patch, (B, rows, columns)."""


def saliency_maps(config: SaliencyMapsConfig, context: MeasureContext) -> dict[str, float]:
    """Saliency of each patch, and the patches kept, at every place where the model drops.

    Writes `saliency_maps.png` and `saliency_maps.npz`. Arrays: `index` and `targets` (B,) of the
    images; for each block l that drops, from 1, `saliency_block<l>` float32 (B, rows, columns),
    NaN where the patch was gone before, and `kept_block<l>`, bool of that shape.

    Returns:
        `kept_patches`: patches left at the first place. `position_bias`: how much of the variance
        of their mask position explains, var_i(p_i) / (p (1 - p)) with p_i the share of images that
        keep patch i and p the mean of p_i: 1 if all images keep the same patches, about 1/B if each
        of B images draws its own.

    Raises:
        LabctlError: nothing is dropped at `token_drop`, or there is no such split.
    """
    model, batch = _opened(context), _first_images(config, context)
    with torch.no_grad():
        chosen = model.run(batch.inputs, config.token_drop)[1]
    if not chosen:
        raise LabctlError(
            f"token_drop {config.token_drop:g} drops none of {model.num_patches} patches",
            hint="measure: {saliency_maps: {token_drop: 0.35}} drops some",
        )
    maps: dict[str, Maps] = {}
    for place in chosen:
        block, gone = place.block + 1, torch.nan
        maps[f"saliency_block{block}"] = _on_grid(model, place.candidates, place.scores, gone)
        maps[f"kept_block{block}"] = _on_grid(model, place.kept, torch.tensor(True), False)
    _save(context.folder / "saliency_maps.npz", batch, maps)
    _draw(context.folder / "saliency_maps.png", batch, context.spec, maps, config.shown)
    kept = maps[f"kept_block{chosen[0].block + 1}"].mean(axis=0)
    bias = kept.var() / (kept.mean() * (1 - kept.mean()))
    return {"kept_patches": float(chosen[0].index.shape[1]), "position_bias": float(bias)}


def attention_maps(config: MapsConfig, context: MeasureContext) -> dict[str, float]:
    """The attention of CLS to each patch in every block, with all patches there.

    Writes `attention_maps.png` and `attention_maps.npz`. The arrays: `index` and `targets` (B,) of
    the images; for each block l, from 1, `attention_block<l>` float32 (B, rows, columns), the mean
    over heads; its sum over patches falls short of 1 by what CLS attends to itself.

    Returns:
        `attention_entropy_block<l>`: mean over images and heads of the entropy, in nats, of the
        attention of CLS to all tokens, itself included; log(1 + n) if it attends to all alike.

    Raises:
        LabctlError: there is no such split.
    """
    model, batch = _opened(context), _first_images(config, context)
    maps: dict[str, Maps] = {}
    numbers: dict[str, float] = {}
    with torch.no_grad():
        for block, heads in enumerate(model.heads(batch.inputs), start=1):
            rows = cls_attention(heads.queries, heads.keys)
            patches = rows[:, :, 1:].mean(1)
            maps[f"attention_block{block}"] = patches.unflatten(1, model.grid).cpu().numpy()
            entropy = torch.special.entr(rows).sum(-1).mean()
            numbers[f"attention_entropy_block{block}"] = float(entropy)
    _save(context.folder / "attention_maps.npz", batch, maps)
    _draw(context.folder / "attention_maps.png", batch, context.spec, maps, config.shown)
    return numbers


def _opened(context: MeasureContext) -> CtdVit:
    assert isinstance(context.model, CtdVit), "the cards say only_for ctd_vit"
    return context.model


def _first_images(config: MapsConfig, context: MeasureContext) -> Batch:
    if config.split not in context.splits:
        known = ", ".join(sorted(context.splits))
        raise LabctlError(f"there is no split {config.split!r}", hint=f"there are: {known}")
    batch = next(iter(context.splits[config.split].in_order(config.images)))
    return replace(batch, inputs=batch.inputs.to(_opened(context).positions.dtype))


def _on_grid(model: CtdVit, patches: Tensor, values: Tensor, elsewhere: float) -> Maps:
    """(B, rows, columns) of `values` (B, m) at the int64 (B, m) `patches`."""
    values = values.to(patches.device).expand(patches.shape)
    grid = torch.full(
        (patches.shape[0], model.num_patches), elsewhere, dtype=values.dtype, device=patches.device
    )
    arranged: Maps = grid.scatter(1, patches, values).unflatten(1, model.grid).cpu().numpy()
    return arranged


def _save(path: Path, batch: Batch, maps: Mapping[str, Maps]) -> None:
    index, targets = batch.index.cpu().numpy(), batch.targets.cpu().numpy()
    np.savez_compressed(path, allow_pickle=False, index=index, targets=targets, **maps)


def _pictures(batch: Batch, spec: DataSpec) -> Maps:
    """The images as they were before scaling: (B, H, W, 3) in [0, 1]."""
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (spec.mean, spec.std))
    pixels = (batch.inputs.cpu() * std + mean).clamp(0, 1).expand(-1, 3, -1, -1)
    pictures: Maps = pixels.permute(0, 2, 3, 1).numpy()
    return pictures


def _draw(path: Path, batch: Batch, spec: DataSpec, maps: Mapping[str, Maps], shown: int) -> None:
    """A row per image: the image, then each of its maps."""
    from matplotlib.figure import Figure

    pictures = _pictures(batch, spec)[:shown]
    rows, columns = len(pictures), 1 + len(maps)
    figure = Figure(figsize=(1.3 * columns, 1.3 * rows + 0.4), layout="compressed")
    axes = figure.subplots(rows, columns, squeeze=False)
    for row, picture in enumerate(pictures):
        axes[row, 0].imshow(picture)
        for column, values in enumerate(maps.values(), start=1):
            axes[row, column].imshow(values[row])
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, name in zip(axes[0], ["image", *maps], strict=True):
        axis.set_title(name.replace("_", "\n"), fontsize=7)
    figure.savefig(path, dpi=120)
