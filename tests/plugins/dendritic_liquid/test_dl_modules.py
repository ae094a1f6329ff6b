"""Importance, gate and masks against their equations, computed another way."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

Modules = Callable[[str], ModuleType]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def gating(dl: Modules, **options: Any) -> Any:
    made = dl("dendrites").DendriticGating(12, dl("config").DendritesConfig(**options))
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    return made


@pytest.mark.parametrize("pool", ["max", "logsumexp"])
def test_importance_is_that_of_branches_one_by_one(dl: Modules, pool: str) -> None:
    module, tokens = gating(dl, branches=3, hidden=5, pool=pool), torch.randn(2, 7, 12)
    drives = []
    for branch in range(3):
        part = slice(5 * branch, 5 * branch + 5)
        hidden = tokens @ module.branches.weight[part].T + module.branches.bias[part]
        drives.append(nn.functional.gelu(hidden) @ module.weight[branch] + module.bias[branch])
    branches = torch.stack(drives)
    if pool == "max":
        expected = branches.sigmoid().max(0).values  # the sigmoid of the largest
    else:
        expected = branches.exp().sum(0).log().sigmoid()
    torch.testing.assert_close(module(tokens), expected)


def test_the_strongest_branch_alone_learns_and_with_logsumexp_all_do(dl: Modules) -> None:
    tokens = torch.randn(1, 1, 12)
    for pool, learning in (("max", 1), ("logsumexp", 4)):
        module = gating(dl, pool=pool)
        module(tokens).sum().backward()
        assert (module.bias.grad.abs() > 1e-12).sum() == learning


def test_training_begins_with_much_importance(dl: Modules) -> None:
    module = dl("dendrites").DendriticGating(256, dl("config").DendritesConfig())
    scores = module(torch.randn(4, 65, 256))
    assert scores.min() > 0.86 and scores.max() < 0.92
    assert torch.sigmoid(torch.tensor(2.0)).item() == pytest.approx(0.881, abs=1e-3)


def liquid(dl: Modules, place: int = 0, depth: int = 1, **options: Any) -> Any:
    config = dl("config").LiquidConfig(**options)
    return dl("liquid").LiquidGate(6, config, place, depth)


def test_the_gate_is_the_published_closed_form(dl: Modules) -> None:
    """One token, by hand, in double precision."""
    module = liquid(dl, place=1, depth=4, hidden=3).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    read, written = torch.randn(2, 1, 1, 6, dtype=torch.float64)
    both = torch.cat([read, written], -1).flatten()
    hidden = module.backbone.weight @ both + module.backbone.bias
    hidden = hidden / (1 + torch.exp(-hidden))
    flow, first, second = (module.heads.weight @ hidden + module.heads.bias).split(6)
    time = torch.log1p(torch.exp(module.tau)) * 2 / 4
    gamma = 1 / (1 + torch.exp(flow * time))
    expected = module.scale * (gamma * torch.tanh(first) + (1 - gamma) * torch.tanh(second))
    torch.testing.assert_close(module(read, written / 2, written / 2), written + expected)


def test_the_gate_begins_neutral_at_unit_time_and_small(dl: Modules) -> None:
    read, written = torch.randn(2, 3, 5, 6)
    for place in range(3):
        module = liquid(dl, place, 3)
        gamma, _, _ = module.gate(read, written)
        assert (gamma - 0.5).abs().max() < 0.01
        time = nn.functional.softplus(module.tau) * module.share
        torch.testing.assert_close(time, torch.full((6,), (place + 1) / 3))
        assert (module(read, written, torch.zeros(())) - written).abs().max() < 1e-2


@pytest.mark.parametrize(("flow", "head"), [(-1e4, 1), (1e4, 2)])
def test_a_gate_that_is_wide_open_lets_one_head_through(
    dl: Modules, flow: float, head: int
) -> None:
    module = liquid(dl)
    with torch.no_grad():
        module.heads.bias[:6] = flow
    read, written = torch.randn(2, 3, 5, 6)
    found = module.gate(read, written)
    torch.testing.assert_close(
        module(read, written, torch.zeros(())), written + module.scale * found[head]
    )


def of_sparse(dl: Modules, **options: Any) -> Any:
    return dl("config").SparseConfig(**options)


def test_a_hard_mask_is_hard_forth_and_soft_back(dl: Modules) -> None:
    scores = torch.rand(3, 9, dtype=torch.float64, requires_grad=True)
    at = torch.tensor(0.7, dtype=torch.float64)
    mask = dl("sparsity").straight_through(scores, 0.5, at)
    assert set(mask.detach().unique().tolist()) == {0.0, 1.0}
    assert torch.equal(mask.detach(), (scores > 0.5).double())
    (slope,) = torch.autograd.grad(mask.sum(), scores)
    soft = torch.sigmoid((scores - 0.5) / 0.7)
    torch.testing.assert_close(slope, soft * (1 - soft) / 0.7)


def test_masks_sharpen_from_soft_to_hard(dl: Modules) -> None:
    scores, config = torch.tensor([[0.2, 0.49, 0.51, 0.9]]), of_sparse(dl)
    cold, warm = torch.tensor(0.1), torch.tensor(5.0)
    alive = torch.tensor([[0.0, 0.0, 0.0, 1.0]])  # the third was left out by an earlier block
    mask_of: Callable[..., Tensor] = dl("sparsity").mask_of
    early = mask_of(scores, alive, config, "soft", warm, torch.tensor(0.0))
    assert early.min() > 0.47 and early.max() < 0.53, "a warm mask keeps all alike"
    hard = mask_of(scores, alive, config, "hard", cold, torch.tensor(1.0))
    assert torch.equal(hard, alive)
    soft = mask_of(scores, alive, config, "soft", cold, torch.tensor(0.0))
    torch.testing.assert_close(soft, 1 / (1 + torch.exp(-(scores - 0.5) / 0.1)))
    for hardness in (0.0, 0.25, 1.0):
        between = mask_of(scores, alive, config, "transition", cold, torch.tensor(hardness))
        torch.testing.assert_close(between, (1 - hardness) * soft + hardness * hard)


def test_a_cold_mask_lends_a_slope_that_reaches_tokens_far_away(dl: Modules) -> None:
    slopes = []
    for least in (0.5, 0.01):
        scores = torch.tensor([[0.95]], requires_grad=True)
        config = of_sparse(dl, least_temperature=least)
        dl("sparsity").hard_of(scores, config, torch.tensor(0.01)).sum().backward()
        assert scores.grad is not None
        slopes.append(scores.grad.item())
    assert slopes[0] > 0.3 and slopes[1] < 1e-15


def heads(tokens: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    queries, keys, values = torch.randn(3, 2, 4, tokens, 3, dtype=torch.float64)
    return queries, keys, values


def test_attention_without_a_mask_is_attention(dl: Modules) -> None:
    given = heads()
    found = dl("sparsity").masked_attention(*given, torch.ones(2, 6, dtype=torch.float64))
    expected = nn.functional.scaled_dot_product_attention(*given)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)  # 1e-6 in the denominator


def test_what_is_masked_is_not_there_but_for_itself(dl: Modules) -> None:
    queries, keys, values = heads()
    weights = torch.tensor([[1, 0, 1, 0, 1, 1], [1, 1, 0, 0, 1, 1]], dtype=torch.float64)
    found = dl("sparsity").masked_attention(queries, keys, values, weights)
    allowed = weights.bool()[:, None, None, :] | torch.eye(6, dtype=torch.bool)
    expected = nn.functional.scaled_dot_product_attention(queries, keys, values, attn_mask=allowed)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_the_way_back_is_that_of_attention_to_what_is_not_masked(dl: Modules) -> None:
    """Also of the key that each query attends to most."""
    given = [part.requires_grad_() for part in heads()]
    weights = torch.tensor([[1, 0, 1, 0, 1, 1], [1, 1, 1, 1, 1, 1]], dtype=torch.float64)
    allowed = weights.bool()[:, None, None, :] | torch.eye(6, dtype=torch.bool)
    plain = nn.functional.scaled_dot_product_attention(*given, attn_mask=allowed)
    upstream = torch.randn_like(plain)
    found = dl("sparsity").masked_attention(*given, weights)
    slopes = torch.autograd.grad(found, given, upstream)
    expected = torch.autograd.grad(plain, given, upstream)
    torch.testing.assert_close(slopes, expected, atol=1e-5, rtol=1e-5)


def test_the_way_back_of_what_cls_attends_to(dl: Modules) -> None:
    """Of r / (1 + r) with r = softmax(q k) N, written out."""
    queries, keys, _ = (part.requires_grad_() for part in heads(9))
    attention = (queries[:, :, :1] @ keys.mT)[:, :, 0].div(math.sqrt(3)).softmax(-1)
    ratio = 9 * attention.mean(1)[:, 1:]
    shares = dl("sparsity").cls_share(queries, keys)
    upstream = torch.randn(2, 8, dtype=torch.float64)
    slopes = torch.autograd.grad((shares * upstream).sum(), (queries, keys))
    expected = torch.autograd.grad((ratio / (1 + ratio) * upstream).sum(), (queries, keys))
    torch.testing.assert_close(slopes, expected, atol=1e-5, rtol=1e-5)


def test_keys_count_as_their_weights_say_and_zeros_have_a_gradient(dl: Modules) -> None:
    """Against the sum over keys, written out; a logarithm of zero would have none."""
    queries, keys, values = heads(4)
    weights = torch.tensor([[1.0, 0.0, 0.3, 0.8]] * 2, dtype=torch.float64, requires_grad=True)
    found = dl("sparsity").masked_attention(queries, keys, values, weights)
    for i in range(4):
        exps = [
            torch.exp((queries[0, 1, i] * keys[0, 1, j]).sum() / math.sqrt(3))
            * (1.0 if i == j else weights[0, j])
            for j in range(4)
        ]
        expected = sum(e * values[0, 1, j] for j, e in enumerate(exps)) / sum(exps)
        torch.testing.assert_close(found[0, 1, i], expected, atol=1e-5, rtol=1e-5)
    (slope,) = torch.autograd.grad(found.sum(), weights)
    assert slope.isfinite().all() and slope[0, 1] != 0


def test_a_patch_with_its_even_share_of_attention_has_half_the_importance(dl: Modules) -> None:
    queries, keys, _ = heads(9)
    even = dl("sparsity").cls_share(torch.zeros_like(queries), keys)
    torch.testing.assert_close(even, torch.full((2, 8), 0.5))
    scores = dl("sparsity").cls_share(queries, keys)
    attention = (queries[:, :, 0, None] * keys).sum(-1).div(math.sqrt(3)).softmax(-1).mean(1)
    assert torch.equal(scores.argsort(1), attention[:, 1:].argsort(1))


def test_what_is_masked_cannot_drown_the_others(dl: Modules) -> None:
    """A masked key whose product is 60 above theirs: exp(-60) is far below the 1e-6."""
    queries, keys, values = heads(4)
    keys = keys.clone()
    keys[:, :, 3] = queries[:, :, 0] * 60 * 3**0.5 / queries[:, :, 0].square().sum(-1, keepdim=True)
    weights = torch.tensor([[1.0, 1, 1, 0]] * 2, dtype=torch.float64, requires_grad=True)
    found = dl("sparsity").masked_attention(queries, keys, values, weights)[:, :, 0]
    three = (part[:, :, :3] for part in (queries, keys, values))
    expected = nn.functional.scaled_dot_product_attention(*three)[:, :, 0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    (slope,) = torch.autograd.grad(found.sum(), weights)
    assert slope.isfinite().all()


def test_cls_ranks_the_patches_that_are_left_as_if_alone(dl: Modules) -> None:
    queries, keys, _ = heads(6)
    weights = torch.tensor([[1.0, 1, 0, 1, 0, 1]] * 2)
    left = [0, 1, 3, 5]
    cls_share = dl("sparsity").cls_share
    alone = cls_share(queries[:, :, left], keys[:, :, left])
    found = cls_share(queries, keys, weights)[:, [0, 2, 4]]
    torch.testing.assert_close(found, alone)
    even = cls_share(queries, keys, torch.full((2, 6), 0.5))
    torch.testing.assert_close(even, cls_share(queries, keys))
