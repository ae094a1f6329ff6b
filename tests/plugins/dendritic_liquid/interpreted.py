"""How far kernels are from what they replace, their programs run one after another in Python: JSON.

A process of its own, since triton reads TRITON_INTERPRET as it is imported.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from labctl.registry.registry import Registry

TOKENS = (1, 5, 16, 27, 33, 64, 65, 80, 81, 128)
SIZES = (16, 32)
DENDRITES = ((64, 4, 32, 65), (128, 2, 8, 3), (192, 1, 16, 130))
"""Width, branches, hidden units, tokens."""
GATES = ((64, 40, 130), (128, 5, 3), (192, 16, 64), (64, 64, 5))
"""Width, hidden units, tokens."""


def parts(qkv: Tensor, heads: int) -> Tensor:
    return qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)


def joined(heads: Tensor) -> Tensor:
    return heads.transpose(1, 2).flatten(2)


def attention(qkv: Tensor, heads: int) -> Tensor:
    return joined(F.scaled_dot_product_attention(*parts(qkv, heads)))


def far(found: Tensor, expected: Tensor) -> float:
    return float(((found - expected).abs().max() / expected.abs().max()).detach())


def main(plugins: Path) -> None:
    Registry(plugins).load("dendritic_liquid")
    attending, weighing, gating, sparsity, dendrites, liquid, config = (
        importlib.import_module(f"labctl_plugins.dendritic_liquid.{name}")
        for name in (
            "kernels.attention", "kernels.importance", "kernels.gate",
            "sparsity", "dendrites", "liquid", "config",
        )
    )  # fmt: skip
    torch.manual_seed(0)
    errors: dict[str, float] = {}
    for tokens in TOKENS:
        for size in SIZES:
            qkv = torch.randn(2, tokens, 6 * size, requires_grad=True)
            expected = attention(qkv, 2)
            gradient = torch.randn_like(expected)
            expected.backward(gradient)
            assert qkv.grad is not None
            with torch.no_grad():
                errors[f"forward {tokens} {size}"] = far(attending.forward(qkv, 2), expected)
                slope, _ = attending.backward(qkv, gradient, 2)
                errors[f"backward {tokens} {size}"] = far(slope, qkv.grad)
            weights = torch.rand(2, tokens)
            weights[:, 0], weights[0, 1 : tokens // 2] = 1.0, 0.0
            given = (qkv, weights.requires_grad_())
            queries, keys, values = parts(qkv, 2)
            expected = joined(sparsity.masked_attention(queries, keys, values, weights))
            exact = torch.autograd.grad(expected, given, gradient)
            with torch.no_grad():
                mixed = attending.forward(qkv, 2, weights)
                errors[f"masked forward {tokens} {size}"] = far(mixed, expected)
                of_qkv, of_weights = attending.backward(qkv, gradient, 2, weights)
                found = torch.cat([of_qkv.flatten(), of_weights.sum(1).flatten()])
                slopes = torch.cat([slope.flatten() for slope in exact])
                errors[f"masked backward {tokens} {size}"] = far(found, slopes)
    qkv = 30 * torch.randn(1, 70, 3 * 16)
    errors["far apart"] = far(attending.forward(qkv, 1), attention(qkv, 1))
    weights = (torch.rand(1, 70) < 0.5).float()
    expected = joined(sparsity.masked_attention(*parts(qkv, 1), weights))
    errors["masked, far apart"] = far(attending.forward(qkv, 1, weights), expected)
    for width, branches, hidden, tokens in DENDRITES:
        own = config.DendritesConfig(branches=branches, hidden=hidden)
        dendrite = dendrites.DendriticGating(width, own)
        for parameter in dendrite.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        given = torch.randn(2, tokens, width)
        weights = (*dendrite.branches.parameters(), dendrite.weight, dendrite.bias)
        shape = f"{width} {branches} {hidden} {tokens}"
        errors[f"importance {shape}"] = far(weighing.importance(given, *weights), dendrite(given))
    for width, hidden, tokens in GATES:
        gate = liquid.LiquidGate(width, config.LiquidConfig(hidden=hidden), 1, 4)
        for parameter in gate.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
        read, halfway, change = torch.randn(3, 2, tokens, width)
        weights = (*gate.backbone.parameters(), *gate.heads.parameters())
        for blend in (True, False):
            share = torch.rand(2, tokens) if blend else torch.ones(2, tokens)
            found = gating.gated(read, halfway, change, share, *weights, gate.time(), gate.scale)
            expected = gate(read, halfway, change, share if blend else None)
            errors[f"gate {width} {hidden} {tokens} {blend}"] = far(found, expected)
    json.dump(errors, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
