"""Saliency against the whole attention map, and the gradient's against finite differences."""

from __future__ import annotations

from collections.abc import Callable
from math import log, sqrt
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

Make = Callable[..., Any]
Modules = Callable[[str], ModuleType]


@pytest.fixture
def heads() -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of 3 images, 4 heads, 1 + 20 tokens, 8 channels."""
    draws = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 3, 4, 21, 8, generator=draws).unbind(0)
    return q, k, v


def attention(q: Tensor, k: Tensor) -> Tensor:
    """The whole map (B, H, N, N), in double precision."""
    return torch.softmax(q.double() @ k.double().mT / sqrt(q.shape[-1]), dim=-1)


def test_cls_row_is_that_of_the_whole_map(ctd: Modules, heads: tuple[Tensor, ...]) -> None:
    q, k, _ = heads
    row = ctd("saliency").cls_attention(q, k)
    torch.testing.assert_close(row.double(), attention(q, k)[:, :, 0], rtol=0, atol=1e-6)
    torch.testing.assert_close(row.sum(-1), torch.ones(3, 4))


def test_cls_attention_is_its_mean_over_heads(ctd: Modules, heads: tuple[Tensor, ...]) -> None:
    q, k, _ = heads
    expected = attention(q, k).mean(dim=1)[:, 0, 1:]
    torch.testing.assert_close(ctd("saliency").cls_attn(q, k).double(), expected, rtol=0, atol=1e-6)


def test_value_norm_weighs_by_the_length_of_the_value(
    ctd: Modules, heads: tuple[Tensor, ...]
) -> None:
    q, k, v = heads
    expected = torch.einsum(
        "bhi,bhi->bi", attention(q, k)[:, :, 0], v.double().square().sum(-1).sqrt()
    )
    scores = ctd("saliency").value_norm(q, k, v).double()
    torch.testing.assert_close(scores, expected[:, 1:] / 4, rtol=0, atol=1e-5)


def test_entropy_is_of_the_patch_s_own_row(ctd: Modules, heads: tuple[Tensor, ...]) -> None:
    q, k, _ = heads
    expected = -torch.distributions.Categorical(probs=attention(q, k)).entropy().mean(1)[:, 1:]
    torch.testing.assert_close(ctd("saliency").entropy(q, k).double(), expected, rtol=0, atol=1e-5)
    even = ctd("saliency").entropy(torch.zeros_like(q), k)
    torch.testing.assert_close(even, torch.full((3, 20), -log(21)))


def test_scores_are_float32_under_half_precision(ctd: Modules, heads: tuple[Tensor, ...]) -> None:
    q, k, v = (part.bfloat16() for part in heads)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = ctd("saliency").cls_attn(q, k)
        weighed = ctd("saliency").value_norm(q, k, v)
    expected = attention(q, k).mean(dim=1)[:, 0, 1:]
    torch.testing.assert_close(scores.double(), expected, rtol=0, atol=1e-6)
    assert scores.dtype == weighed.dtype == torch.float32


@given(
    scores=st.lists(st.integers(0, 3), min_size=1, max_size=30),
    share=st.floats(0, 1),
    select=st.sampled_from(["top", "bottom"]),
)
def test_of_equal_scores_the_first_wins(
    ctd: Modules, scores: list[int], share: float, select: str
) -> None:
    keep = max(1, round(share * len(scores)))
    index = (
        ctd("saliency")
        .ranked(torch.tensor([scores], dtype=torch.float32), keep, select)[0]
        .tolist()
    )
    sign = -1 if select == "top" else 1
    order = sorted(range(len(scores)), key=lambda i: (sign * scores[i], i))
    assert index == sorted(order[:keep])


def test_kept_tokens_and_their_gradients_go_where_they_belong(ctd: Modules) -> None:
    tokens = torch.randn(2, 5, 3, requires_grad=True)
    index = torch.tensor([[0, 3], [1, 2]])
    kept = ctd("saliency").keep_patches(tokens, index)
    assert torch.equal(kept, torch.stack([tokens[0, [0, 1, 4]], tokens[1, [0, 2, 3]]]))
    weights = torch.randn(2, 3, 3)
    (kept * weights).sum().backward()
    expected = torch.zeros(2, 5, 3)
    expected[0, [0, 1, 4]], expected[1, [0, 2, 3]] = weights[0], weights[1]
    assert tokens.grad is not None
    assert torch.equal(tokens.grad, expected)


def test_tokens_put_back_replace_their_own(ctd: Modules) -> None:
    tokens = torch.randn(2, 5, 3, dtype=torch.double, requires_grad=True)
    index = torch.tensor([[0, 3], [1, 2]])
    saliency = ctd("saliency")
    assert torch.equal(
        saliency.put_back(tokens, saliency.keep_patches(tokens, index), index), tokens
    )
    part = torch.randn(2, 3, 3, dtype=torch.double, requires_grad=True)
    result = saliency.put_back(tokens, part, index)
    assert torch.equal(result[0, [0, 1, 4]], part[0]) and torch.equal(
        result[0, [2, 3]], tokens[0, [2, 3]]
    )
    assert torch.autograd.gradcheck(lambda t, p: saliency.put_back(t, p, index), (tokens, part))


def test_gradient_saliency_is_the_derivative_of_the_loss_by_each_patch_s_size(
    ctd: Modules, tiny_model: Make
) -> None:
    """s_i = |dL/da| at a = 1 where patch i at the place of the drop is multiplied by a."""
    model = tiny_model(saliency="gradient").double().eval()
    images = torch.randn(2, 1, 8, 8, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    targets = torch.tensor([3, 8])

    def loss_of(tokens: Tensor) -> Tensor:
        return F.cross_entropy(model.after_drop(tokens), targets, reduction="sum")

    with torch.no_grad():
        tokens = model.until_drop(images)
    scores = model.gradient_scores(tokens, loss_of)
    step = 1e-5
    for image, patch in [(0, 0), (0, 17), (0, 63), (1, 5), (1, 40)]:

        def scaled(factor: float, image: int = image, patch: int = patch) -> float:
            changed = tokens.clone()
            changed[image, 1 + patch] *= factor
            with torch.no_grad():
                return loss_of(changed).item()

        slope = (scaled(1 + step) - scaled(1 - step)) / (2 * step)
        assert scores[image, patch].item() == pytest.approx(abs(slope), rel=1e-4, abs=1e-8)
    assert model.best(scores, 0.35).index.shape == (2, 41)


def test_without_targets_the_gradient_is_of_the_predicted_class(
    ctd: Modules, tiny_model: Make
) -> None:
    model = tiny_model(saliency="gradient").eval()
    images = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        full = model(images, {"token_drop": 0.0})
        logits, (place,) = model.run(images, 0.35)
    tokens = model.until_drop(images).detach().requires_grad_()
    log_probability = model.after_drop(tokens).log_softmax(-1)
    best = log_probability.gather(1, full.argmax(-1, keepdim=True)).mean()
    (gradient,) = torch.autograd.grad(best, tokens)
    expected = torch.einsum("bnd,bnd->bn", tokens, gradient)[:, 1:].abs()
    torch.testing.assert_close(place.scores.clone(), expected.detach(), rtol=1e-4, atol=1e-7)
    assert torch.equal(model(images, {"token_drop": 0.35}).argmax(-1), logits.argmax(-1))
