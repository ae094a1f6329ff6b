"""Measurement: importance of patches and attention of CLS in every block, over images."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labctl.api import Batch, DataSpec, MeasureContext

from ..model import DendriticLiquidViT, Seen
from ..watching import look
from .config import ImportanceMapsConfig
from .opening import batches, opened

Maps = dict[str, NDArray[Any]]
"""By name, a value per image and patch, (B, rows, columns)."""


def importance_maps(config: ImportanceMapsConfig, context: MeasureContext) -> dict[str, float]:
    """Which patches count in each block, and what CLS attends to.

    Writes `importance_maps.png` and `importance_maps.npz`. Arrays: `index` and `targets` (B,) of
    the images; for each block l, from 1, `attention_block<l>`, mean over heads, 0 where a patch is
    left out; where patches are scored, `importance_block<l>`, NaN where one was gone before, and
    `kept_block<l>`, bool.

    Returns:
        `importance_spread_block<l>`: mean over images of the deviation of importance over patches;
        0 if it says nothing.

    Raises:
        LabctlError: there is no such split.
    """
    model, parts, numbers = opened(context), [], {}
    for batch in batches(context, config.split, config.images):
        seen = look(model, batch.inputs, context.knobs).seen
        parts.append((batch, _maps(model, seen)))
    maps = {name: np.concatenate([part[name] for _, part in parts]) for name in parts[0][1]}
    known = [batch for batch, _ in parts]
    index, targets = (
        np.concatenate([getattr(batch, name).cpu().numpy() for batch in known])
        for name in ("index", "targets")
    )
    path = context.folder / "importance_maps.npz"
    np.savez_compressed(path, allow_pickle=False, index=index, targets=targets, **maps)
    _draw(known[0], maps, config.shown, context)
    for name, values in maps.items():
        if name.startswith("importance"):
            block = name.removeprefix("importance_")
            spread = np.nanstd(values.reshape(len(values), -1), axis=1).mean()
            numbers[f"importance_spread_{block}"] = float(spread)
    return numbers


def _maps(model: DendriticLiquidViT, seen: list[Seen]) -> Maps:
    maps: Maps = {}
    for place, block in enumerate(seen, start=1):
        if block.scores is not None:
            scores = _on_grid(model, block.patches, block.scores, torch.nan)
            maps[f"importance_block{place}"] = scores
            maps[f"kept_block{place}"] = _on_grid(model, block.patches, block.kept, False)
        attention, patches = _attention(block)
        maps[f"attention_block{place}"] = _on_grid(model, patches, attention, 0.0)
    return maps


def _attention(block: Seen) -> tuple[Tensor, Tensor]:
    """float32 (B, m) of CLS to each patch that is computed, mean over heads, and which these are,
    int64 (B, m)."""
    logits = (block.queries[:, :, :1] @ block.keys.transpose(-2, -1)).float()[:, :, 0]
    logits = logits / block.keys.shape[-1] ** 0.5
    patches = block.patches
    if block.weights is not None:
        logits = logits + block.weights[:, None].log()
    elif logits.shape[-1] - 1 < patches.shape[1]:  # gathered
        patches = patches[block.kept].view(len(patches), -1)
    return logits.softmax(-1).mean(1)[:, 1:], patches


def _on_grid(
    model: DendriticLiquidViT, patches: Tensor, values: Tensor, elsewhere: float
) -> NDArray[Any]:
    """(B, rows, columns) of `values` (B, n) at the patches int64 (B, n)."""
    shape = (len(patches), model.num_patches)
    grid = torch.full(shape, elsewhere, dtype=values.dtype, device=values.device)
    arranged: NDArray[Any] = grid.scatter(1, patches, values).unflatten(1, model.grid).cpu().numpy()
    return arranged


def _draw(batch: Batch, maps: Maps, shown: int, context: MeasureContext) -> None:
    """A row per image: the image, then each of its maps."""
    from matplotlib.figure import Figure

    pictures = _pictures(batch, context.spec)[:shown]
    rows, columns = len(pictures), 1 + len(maps)
    figure = Figure(figsize=(1.1 * columns, 1.1 * rows + 0.4), layout="compressed")
    axes = figure.subplots(rows, columns, squeeze=False)
    for row, picture in enumerate(pictures):
        axes[row, 0].imshow(picture)
        for column, (name, values) in enumerate(maps.items(), start=1):
            ends = (0, 1) if name.startswith(("importance", "kept")) else (0, None)
            axes[row, column].imshow(values[row], vmin=ends[0], vmax=ends[1])
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, name in zip(axes[0], ["image", *maps], strict=True):
        axis.set_title(name.replace("_", "\n"), fontsize=7)
    figure.savefig(context.folder / "importance_maps.png", dpi=120)


def _pictures(batch: Batch, spec: DataSpec) -> NDArray[Any]:
    """The images as they were before scaling: (B, H, W, 3) in [0, 1]."""
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (spec.mean, spec.std))
    pixels = (batch.inputs.float().cpu() * std + mean).clamp(0, 1).expand(-1, 3, -1, -1)
    pictures: NDArray[Any] = pixels.permute(0, 2, 3, 1).numpy()
    return pictures
