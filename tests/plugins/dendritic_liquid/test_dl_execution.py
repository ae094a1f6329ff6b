"""Packed, gathered and masked tokens: the same numbers by other work, and less of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch

from labctl.api import DataSpec
from labctl.measure.flops import count

DENDRITES = {"dendrites": {"hidden": 4}}
PARTS: Sequence[dict[str, Any]] = (
    {},
    DENDRITES,
    {**DENDRITES, "liquid": {"hidden": 5, "scale": 0.5}},
)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def shaken(
    dl_card: Callable[[str], Any], small: Callable[..., Any], small_images: DataSpec
) -> Callable[..., Any]:
    """A model whose weights are large enough for images and patches to differ, in float64: there
    what counts is not the order of sums."""

    def make(
        execution: str,
        *,
        keep: tuple[float, ...] = (0.8, 0.5, 0.5),
        explore: float = 0.0,
        **parts: Any,
    ) -> Any:
        torch.manual_seed(0)
        sparse = {"keep": keep, "execution": execution, "explore": explore}
        config = small(**parts, sparse=sparse)
        model = dl_card("dendritic_liquid_vit").build(config, small_images)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
                if name.endswith("dendrites.bias"):
                    parameter.fill_(-0.1)
        return model.double().eval()

    return make


def watched(model: Any, images: torch.Tensor, knobs: dict[str, Any]) -> tuple[Any, list[Any]]:
    seen: list[Any] = []
    return model.run(images, knobs, seen.append), seen


@pytest.mark.parametrize("parts", PARTS)
def test_packed_is_masked(shaken: Any, stands: Any, parts: dict[str, Any]) -> None:
    """Every image keeps as many patches as lie above the threshold, some of them few."""
    images = torch.randn(12, 1, 8, 8, dtype=torch.float64)
    masks, packs = shaken("mask", **parts), shaken("packed", **parts)
    with torch.no_grad():
        expected, seen = watched(masks, images, stands())
        found = packs(images, stands())
    counts = torch.stack([block.kept.sum(1) for block in seen])
    assert counts.diff(dim=0).max() <= 0, "what is left out stays out"
    assert counts[-1].unique().numel() > 1 and counts[-1].max() < 16
    torch.testing.assert_close(found.logits, expected.logits, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(found.aux["excess"], expected.aux["excess"].to(found.aux["excess"]))


def test_an_image_may_lose_all_its_patches(shaken: Any, stands: Any) -> None:
    images = torch.randn(3, 1, 8, 8, dtype=torch.float64)
    masks, packs = shaken("mask", **DENDRITES), shaken("packed", **DENDRITES)
    for model in (masks, packs):
        model.blocks[1].dendrites.bias.data.fill_(-50.0)
    with torch.no_grad():
        found, expected = packs(images, stands()), masks(images, stands())
    torch.testing.assert_close(found.logits, expected.logits, atol=2e-5, rtol=1e-5)
    assert found.aux["excess"][1:].tolist() == [-0.5, -0.5]


@pytest.mark.parametrize("mask", ["soft", "transition", "hard"])
def test_training_packed_is_training_masked(shaken: Any, stands: Any, mask: str) -> None:
    """Value and gradient, to the last bit; in evaluation masks that are not hard are masks."""
    images, slopes, values = torch.randn(4, 1, 8, 8, dtype=torch.float64), [], []
    for execution in ("mask", "packed"):
        model = shaken(execution, **DENDRITES)
        knobs = stands(mask, 1.0, 0.5)
        if mask == "hard":
            model.train()
        logits = model(images, knobs).logits
        slopes.append(torch.autograd.grad(logits.sum(), model.blocks[0].dendrites.weight)[0])
        values.append(logits)
    assert torch.equal(*values) and torch.equal(*slopes) and slopes[0].any()


@pytest.mark.parametrize("parts", PARTS)
def test_gathered_is_packed_when_asked_for_as_many(
    shaken: Any, stands: Any, parts: dict[str, Any]
) -> None:
    """Image by image: the patches above the threshold are those of the highest scores."""
    packs, compared = shaken("packed", **parts), 0
    for image in torch.randn(16, 1, 1, 8, 8, dtype=torch.float64):
        with torch.no_grad():
            counts = [int(block.kept.sum()) for block in watched(packs, image, stands())[1]]
            if counts[-1] == 0:
                continue
            gathers = shaken("topk", **parts, keep=tuple(n / 16 for n in counts))
            found, expected = packs(image, stands()), gathers(image, stands())
        torch.testing.assert_close(found.logits, expected.logits, atol=1e-6, rtol=1e-6)
        compared += counts[-1] < 16
    assert compared >= 3


@pytest.mark.parametrize("parts", PARTS)
def test_masks_that_have_hardened_are_what_is_gathered(
    shaken: Any, stands: Any, parts: dict[str, Any]
) -> None:
    """So nothing leaps when masks harden, neither logits nor the price of tokens; and the masks of
    the transition leave as many as `keep` says, none of those that an earlier block left out."""
    images = torch.randn(12, 1, 8, 8, dtype=torch.float64)
    model = shaken("topk", **parts)
    with torch.no_grad():
        expected = model(images, stands())
        found, seen = watched(model, images, stands("transition", hardness=1.0))
    torch.testing.assert_close(found.logits, expected.logits, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(found.aux["excess"], expected.aux["excess"])
    first = 16 if not parts else 13
    assert [block.kept.sum(1).unique().tolist() for block in seen] == [[first], [8], [8]]
    for earlier, later in pairwise(seen):
        assert not (later.kept & ~earlier.kept).any()


def test_lots_are_drawn_in_training_alone(shaken: Any, stands: Any) -> None:
    images = torch.randn(64, 1, 8, 8, dtype=torch.float64)
    model = shaken("topk", **DENDRITES, explore=0.25)
    with torch.no_grad():
        (first, _, _), ranked = watched(model, images, stands())[1], []
        best = torch.zeros_like(first.kept).scatter(1, first.scores.topk(13).indices, True)
        assert torch.equal(first.kept, best)
        model.train()
        seen = watched(model, images, stands())[1]
    assert [block.kept.sum(1).unique().tolist() for block in seen] == [[13], [8], [8]]
    sure = torch.zeros_like(best).scatter(1, seen[0].scores.topk(10).indices, True)
    assert (seen[0].kept & sure).sum(1).eq(10).all(), "3 of 13 places go by lot"
    ranked = seen[0].kept & ~sure
    assert ranked.sum(1).eq(3).all() and ranked.any(0).sum() > 8


def test_packed_executes_what_is_left_and_masks_execute_all(
    shaken: Any, dl: Any, stands: Any, small_images: DataSpec
) -> None:
    """Counted from what runs: linear maps of S tokens, attention of as many as the longest has."""
    images = torch.randn(12, 1, 8, 8, dtype=torch.float64)
    masks, packs = shaken("mask", **DENDRITES), shaken("packed", **DENDRITES)
    full = count(lambda: masks(images, stands())).flops
    packed = count(lambda: packs(images, stands())).flops
    with torch.no_grad():
        seen = watched(masks, images, stands())[1]
    config = packs.config
    width, hidden, entering = config.embed_dim, 32, 12 * 16
    expected = 12 * (16 * 4 * width + width * 5)  # patches, head
    for block in seen:
        left = int(block.kept.sum())
        longest = 1 + int(block.kept.sum(1).max())
        expected += entering * width * 16  # dendrites
        expected += (12 + left) * (4 * width**2 + 2 * width * hidden)
        expected += 12 * 2 * longest**2 * width
        entering = left
    assert packed == 2 * expected < full


@pytest.mark.slow
def test_what_is_left_out_saves_time(dl_card: Any, dl_config: Any, stands: Any) -> None:
    """At the document's size, a third of the patches kept from the first block on; of interleaved
    rounds the fastest, so that what else the machine does hardly counts."""
    spec = DataSpec("cifar10", "1", "image", (3, 32, 32), 10, {"train": 50_000, "test": 10_000})
    models, images = {}, torch.randn(32, 3, 32, 32)
    for execution in ("mask", "topk", "packed"):
        torch.manual_seed(0)
        sparse = {"execution": execution, "keep": (1 / 3,) * 6}
        model = dl_card("dendritic_liquid_vit").build(dl_config(dendrites={}, sparse=sparse), spec)
        torch.nn.init.normal_(model.blocks[0].dendrites.weight)
        with torch.no_grad():
            scores = watched(model, images, stands("soft"))[1][0].scores.logit().flatten()
            model.blocks[0].dendrites.bias.sub_(scores.quantile(2 / 3))
        models[execution] = model.eval()
    seconds = {execution: [] for execution in models}
    with torch.inference_mode():
        kept = watched(models["mask"], images, stands())[1][0].kept.float().mean()
        assert kept == pytest.approx(1 / 3, abs=0.05)
        for _ in range(5):
            for execution, model in models.items():
                began = time.perf_counter()
                model(images, stands())
                seconds[execution].append(time.perf_counter() - began)
    fastest = {execution: min(taken) for execution, taken in seconds.items()}
    assert fastest["mask"] / fastest["topk"] > 1.5
    assert fastest["mask"] / fastest["packed"] > 1.5
