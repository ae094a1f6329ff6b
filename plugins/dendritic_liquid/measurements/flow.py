"""Measurement: how many patches each block keeps, how far its gate is open, which branches win."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from labctl.api import MeasureContext

from ..watching import Look, look, openness
from .config import TokenFlowConfig
from .opening import batches, opened

BANDS = ((10, 20), (40, 50), (60, 60))
"""Per cent of the patches that the document expects early, middle and late blocks to leave out."""
THIRDS = ("early", "middle", "late")
LABELS = {"pruned": "patches left out (%)", "gate": "1 - gamma", "spread": "|gamma - 1/2|"}


def token_flow(config: TokenFlowConfig, context: MeasureContext) -> dict[str, float]:
    """Follow images through the blocks.

    Writes `token_flow.png` and `token_flow.npz`; arrays by block: `pruned` (L,), and, where there
    are such parts, `gate` and `spread` (L,) and `wins` (L, branches).

    Returns:
        `pruned_block<l>`: per cent of the patches that block l, from 1, does not attend to; and
        their means over the first, second and last third of the blocks, `pruned_early`,
        `pruned_middle`, `pruned_late`. `gate_block<l>`: mean of 1 - gamma over the tokens that are
        left; `gate_spread_block<l>`, of |gamma - 1/2|: to swap the gate's two heads and turn its
        sign changes no output, so that the spread alone says how much it decides.
        `branch_block<l>`: share of patches at which the branch wins that wins most often; 1 /
        branches if all win alike; `dead_branches`: how many win nowhere, in all blocks together.

    Raises:
        LabctlError: there is no such split.
    """
    model = opened(context)
    kept = np.zeros(model.config.depth)
    gates = np.zeros((3, model.config.depth))  # openness and spread, and weight of their tokens
    wins = np.zeros((model.config.depth, getattr(model.config.dendrites, "branches", 0)))
    count = 0
    for batch in batches(context, config.split, config.images):
        found = look(model, batch.inputs, context.knobs)
        count += len(batch.inputs)
        kept += [float(seen.kept.sum()) for seen in found.seen]
        if found.gates:
            gates += _gates(found)
        for place, winners in enumerate(found.wins):
            tally = torch.bincount(winners.flatten(), minlength=wins.shape[1])
            wins[place] += tally.cpu().numpy()
    arrays: dict[str, Any] = {"pruned": 100 * (1 - kept / (count * model.num_patches))}
    if model.config.liquid is not None:
        arrays["gate"], arrays["spread"] = gates[:2] / gates[2]
    if model.config.dendrites is not None:
        arrays["wins"] = wins / wins.sum(1, keepdims=True)
    np.savez_compressed(context.folder / "token_flow.npz", allow_pickle=False, **arrays)
    _draw(arrays, context)
    return _numbers(arrays)


def _gates(found: Look) -> Any:
    """(3, L): sums over tokens of gate times weight, of spread times weight, and of weight."""
    of_blocks = []
    for seen, gate, spread in zip(found.seen, found.gates, found.spreads, strict=True):
        total, weight = openness(seen, gate)
        of_blocks.append((float(total), float(openness(seen, spread)[0]), float(weight)))
    return np.array(of_blocks).T


def _numbers(arrays: dict[str, Any]) -> dict[str, float]:
    pruned = arrays["pruned"]
    found = {f"pruned_block{place}": float(value) for place, value in enumerate(pruned, start=1)}
    for name, third in zip(THIRDS, np.array_split(pruned, 3), strict=True):
        if len(third):
            found[f"pruned_{name}"] = float(third.mean())
    for place, value in enumerate(arrays.get("gate", ()), start=1):
        found[f"gate_block{place}"] = float(value)
    for place, value in enumerate(arrays.get("spread", ()), start=1):
        found[f"gate_spread_block{place}"] = float(value)
    for place, row in enumerate(arrays.get("wins", ()), start=1):
        found[f"branch_block{place}"] = float(row.max())
    if "wins" in arrays:
        found["dead_branches"] = float((arrays["wins"] == 0).sum())
    return found


def _draw(arrays: dict[str, Any], context: MeasureContext) -> None:
    """Pruning beside the document's bands; gates; shares of branches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.4 * len(arrays), 2.8), layout="compressed")
    axes = figure.subplots(1, len(arrays), squeeze=False)[0]
    blocks = np.arange(1, len(arrays["pruned"]) + 1)
    for axis, (name, values) in zip(axes, arrays.items(), strict=True):
        axis.set_xlabel("block")
        axis.set_xticks(blocks)
        if name == "wins":
            axis.stackplot(blocks, values.T)
            axis.set_ylabel("share of patches, by branch")
            continue
        axis.plot(blocks, values, marker="o")
        axis.set_ylabel(LABELS[name])
    for (low, high), third in zip(BANDS, np.array_split(blocks, 3), strict=True):
        if len(third):
            ends = (third[0] - 0.4, third[-1] + 0.4)
            axes[0].fill_between(ends, low - 0.5, high + 0.5, alpha=0.25, color="grey")
    axes[0].set_ylim(-2, 102)
    figure.savefig(context.folder / "token_flow.png", dpi=120)
