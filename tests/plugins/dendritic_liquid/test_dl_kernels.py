"""Kernels against what they replace: interpreted where there is no GPU, and on one with gradients,
compiled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from labctl.api import DataSpec
from labctl.measure.flops import count

HERE = Path(__file__).parent
TOKENS = (1, 5, 16, 27, 33, 64, 65, 80, 81, 128)
CONSUMER, DATACENTRE = 99 * 1024, 227 * 1024
"""Shared memory that a program may take, of compute capability 8.9 and 9.0 (CUDA C++ Programming
Guide, technical specifications)."""


def told(script: str, **environment: str) -> dict[str, float]:
    """What a script beside this one prints."""
    pytest.importorskip("triton", reason="this torch came without triton")
    done = subprocess.run(
        [sys.executable, HERE / script, HERE.parents[2] / "plugins"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


@pytest.fixture(scope="module")
def interpreted() -> dict[str, float]:
    """Largest errors over largest values, by kernel and shape, in float32."""
    return told("interpreted.py", TRITON_INTERPRET="1")


@pytest.mark.slow
def test_kernels_compile_without_a_gpu_and_fit_small_ones() -> None:
    taken = told("compiled.py")
    assert len(taken) == 32
    for kernel, memory in taken.items():
        assert memory <= (CONSUMER if kernel.endswith("89") else DATACENTRE), kernel


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("size", [16, 32])
@pytest.mark.parametrize("way", ["forward", "backward", "masked forward", "masked backward"])
def test_attention_of_short_rows_is_attention(
    interpreted: dict[str, float], way: str, tokens: int, size: int
) -> None:
    assert interpreted[f"{way} {tokens} {size}"] < 1e-5


def test_logits_that_are_far_apart_neither_overflow_nor_vanish(
    interpreted: dict[str, float],
) -> None:
    """Logits of some hundreds are rounded by 1e-5 to 1e-4, and so is the ratio of near ones."""
    assert interpreted["far apart"] < 1e-3
    assert interpreted["masked, far apart"] < 1e-3


@pytest.mark.parametrize("shape", ["64 4 32 65", "128 2 8 3", "192 1 16 130"])
def test_importance_in_one_pass_is_importance(interpreted: dict[str, float], shape: str) -> None:
    assert interpreted[f"importance {shape}"] < 1e-5


@pytest.mark.parametrize("shape", ["64 40 130", "128 5 3", "192 16 64", "64 64 5"])
@pytest.mark.parametrize("blend", [True, False])
def test_a_gate_in_one_pass_is_the_gate(
    interpreted: dict[str, float], shape: str, blend: bool
) -> None:
    assert interpreted[f"gate {shape} {blend}"] < 1e-5


def attention(qkv: Tensor, heads: int) -> Tensor:
    queries, keys, values = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(queries, keys, values)
    return mixed.transpose(1, 2).flatten(2)


def test_what_the_kernels_take(dl: Any) -> None:
    """Nothing on a CPU, and what they can hold."""
    operators = dl("operators")
    assert not operators.fits_attention(torch.zeros(1, 5, 96, dtype=torch.bfloat16), 1)
    assert not operators.is_half_inference(torch.zeros(1, dtype=torch.bfloat16))
    fits = {(4, 32): True, (2, 8): True, (3, 16): False, (4, 30): False, (1, 8): False}
    assert {shape: operators.fits_importance(128, *shape) for shape in fits} == fits
    assert operators.fits_gate(64, 64) and not operators.fits_gate(64, 65)
    assert not operators.fits_importance(96, 4, 32) and not operators.fits_gate(96, 40)


def test_operators_cost_what_they_replace(dl: Any, dl_config: Any) -> None:
    """By formula, from shapes; the gate's as the products that a CPU runs."""
    operators = dl("operators")
    shape = (2, 27, 3 * 64)
    qkv = torch.zeros(shape, device="meta", requires_grad=True)
    counted = count(lambda: attention(qkv, 4).sum().backward()).flops
    forth = operators.attention_flops(shape, 4)
    back = operators.attention_backward_flops(shape, (2, 27, 64), 4)
    assert forth + back == counted
    weights = (2, 27)
    assert operators.masked_attention_flops(shape, weights, 4) == forth
    assert operators.masked_attention_backward_flops(shape, weights, (2, 27, 64), 4) == back
    dendrites = dl("dendrites").DendriticGating(64, dl("config").DendritesConfig())
    counted = count(lambda: dendrites(torch.zeros(2, 27, 64))).flops
    assert operators.importance_flops((2, 27, 64), (128, 64)) == counted
    gate = dl("liquid").LiquidGate(64, dl("config").LiquidConfig(hidden=5), 0, 1)
    tokens = torch.zeros(2, 27, 64)
    counted = count(lambda: gate(tokens, tokens, tokens)).flops
    assert operators.gated_flops(*[(2, 27, 64)] * 3, (2, 27), (5, 128)) == counted


def far(found: Tensor, exact: Tensor) -> float:
    """Relative to the size of what is exact."""
    return float((found.double().cpu() - exact).norm() / exact.norm())


SHAPES = [(n, 32, False) for n in TOKENS] + [(n, d, False) for n in (27, 65) for d in (16, 64)]


@pytest.mark.gpu
@pytest.mark.parametrize(("tokens", "size", "compiled"), [*SHAPES, (27, 32, True), (65, 32, True)])
def test_on_a_gpu_values_and_gradients_are_as_near_as_torchs(
    dl: Any, tokens: int, size: int, compiled: bool
) -> None:
    """In bf16, beside float64; torch's own kernels have the same error, of rounding."""
    torch.manual_seed(0)
    short = dl("operators").short_attention
    work = torch.compile(lambda x: 1.0 * short(x, 3), fullgraph=True) if compiled else None
    qkv = torch.randn(4, tokens, 9 * size, device="cuda", dtype=torch.bfloat16)
    assert dl("operators").fits_attention(qkv, 3)
    gradient = torch.randn(4, tokens, 3 * size, device="cuda", dtype=torch.bfloat16)
    exact = qkv.double().cpu().requires_grad_()
    attention(exact, 3).backward(gradient.double().cpu())
    assert exact.grad is not None
    errors = []
    for run in (work or (lambda x: short(x, 3)), lambda x: attention(x, 3)):
        given = qkv.clone().requires_grad_()
        mixed = run(given)
        mixed.backward(gradient)
        assert given.grad is not None
        errors.append((far(mixed, attention(exact, 3)), far(given.grad, exact.grad)))
    (own, own_slope), (torchs, torchs_slope) = errors
    assert own < 1.5 * torchs + 1e-3 and own_slope < 1.5 * torchs_slope + 1e-3


@pytest.mark.gpu
@pytest.mark.parametrize("tokens", TOKENS)
def test_on_a_gpu_masked_attention_is_as_near_as_torchs(dl: Any, tokens: int) -> None:
    """In bf16, beside float64: values, and gradients of all that is given."""
    torch.manual_seed(0)
    qkv = torch.randn(4, tokens, 3 * 96, device="cuda", dtype=torch.bfloat16)
    weights = torch.rand(4, tokens, device="cuda")
    weights[:, 0], weights[0, 1 : tokens // 2] = 1.0, 0.0
    gradient = torch.randn(4, tokens, 96, device="cuda", dtype=torch.bfloat16)

    def torchs(qkv: Tensor, weights: Tensor) -> Tensor:
        heads = qkv.unflatten(-1, (3, 3, -1)).permute(2, 0, 3, 1, 4)
        mixed: Tensor = dl("sparsity").masked_attention(*heads, weights)
        return mixed.transpose(1, 2).flatten(2)

    def own(qkv: Tensor, weights: Tensor) -> Tensor:
        mixed: Tensor = dl("operators").short_masked_attention(qkv, weights, 3)
        return mixed

    found = {}
    wide = (qkv.double().cpu(), weights.double().cpu(), gradient.double().cpu())
    for name, run, given in (
        ("exact", torchs, wide),
        ("torch", torchs, (qkv, weights, gradient)),
        ("own", own, (qkv, weights, gradient)),
    ):
        inputs = [given[0].clone().requires_grad_(), given[1].clone().requires_grad_()]
        mixed = run(*inputs)
        found[name] = (mixed.detach(), *torch.autograd.grad(mixed, inputs, given[2]))
    for mine, torchs_own, exact in zip(*(found[n] for n in ("own", "torch", "exact")), strict=True):
        if exact.norm() > 1e-9:  # of a single token, which counts fully as its own key
            assert far(mine, exact) < 1.5 * far(torchs_own, exact) + 1e-3


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_on_a_gpu_a_model_in_half_precision_says_what_it_says_in_whole(
    dl_card: Any, dl_config: Any, stands: Any, cifar10: DataSpec, compiled: bool
) -> None:
    """By the three operators, which are what is counted when it runs as it is written."""
    torch.manual_seed(0)
    parts = {"dendrites": {}, "liquid": {"scale": 0.5}, "sparse": {"keep": (0.8,) * 2}, "depth": 2}
    model = dl_card("dendritic_liquid_vit").build(dl_config(**parts), cifar10).cuda().eval()
    images, knobs = torch.randn(64, 3, 32, 32, device="cuda"), stands()
    exact = model.double()(images.double(), knobs).logits.detach().cpu()
    half, given = model.bfloat16(), images.bfloat16()
    run = torch.compile(half, fullgraph=True) if compiled else half
    with torch.no_grad():
        found = run(given, knobs).logits
        counted = count(lambda: half(given, knobs)).by_operator
    assert far(found, exact) < 0.05
    for name in ("short_attention", "importance", "gated"):
        assert any(operator.endswith(name) for operator in counted), name
