"""What is remembered of each image, against augmentation done to a picture of it."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

Modules = Callable[[str], ModuleType]
GRID = (4, 6)
CELLS = 24


@pytest.fixture
def memory(ctd: Modules) -> Callable[..., Any]:
    def make(momentum: float = 0.0, images: int = 5) -> Any:
        return ctd("memory").SaliencyMemory(images, GRID, momentum, torch.device("cpu"))

    return make


def scores(count: int, seed: int = 0) -> Tensor:
    """Multiples of 1/64 whose rows sum to one, hence exact in float16."""
    draws = np.random.default_rng(seed)
    parts = draws.multinomial(64, np.full(CELLS, 1 / CELLS), size=count)
    return torch.tensor(parts / 64, dtype=torch.float32)


def geometry(rows: list[list[float]], count: int = 1) -> Tensor:
    return torch.tensor(rows).expand(count, 2, 3).contiguous()


FLIP = geometry([[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
ONE_RIGHT = geometry([[1.0, 0.0, 2 / 6], [0.0, 1.0, 0.0]])
"""A position of the augmented image was taken from one cell further to the right."""


def test_scores_come_back_for_the_images_they_were_of(memory: Callable[..., Any]) -> None:
    kept = memory()
    found = scores(2)
    kept.write(torch.tensor([3, 1]), None, 7 * found)
    back = kept.read(torch.tensor([1, 3]), None)
    torch.testing.assert_close(back, found.flip(0), rtol=0, atol=1.1e-6)


def test_a_new_score_joins_the_old_one_by_the_momentum(memory: Callable[..., Any]) -> None:
    kept = memory(momentum=0.75)
    expected = torch.full((1, CELLS), 1 / CELLS)
    for seed in range(3):
        found = scores(1, seed)
        kept.write(torch.tensor([2]), None, found)
        expected = 0.75 * expected + 0.25 * found
    torch.testing.assert_close(kept.read(torch.tensor([2]), None), expected, rtol=2e-3, atol=2e-6)


@pytest.mark.parametrize("seen", [FLIP, ONE_RIGHT])
@pytest.mark.parametrize("shown", [FLIP, ONE_RIGHT, None])
def test_patches_are_where_augmentation_put_them(
    memory: Callable[..., Any], seen: Tensor, shown: Tensor | None
) -> None:
    """Written through one augmentation and read through another, against pictures in numpy."""
    kept = memory()
    first, second = scores(1, 1), scores(1, 2)
    kept.write(torch.tensor([0]), None, first)
    kept.write(torch.tensor([0]), seen, second)

    image, picture = first.view(GRID).numpy(), second.view(GRID).numpy()
    if seen is FLIP:
        image = picture[:, ::-1]
    else:
        image = image.copy()
        image[:, 1:] = picture[:, :-1] / picture[:, :-1].mean() / CELLS
    expected = image
    if shown is FLIP:
        expected = image[:, ::-1]
    elif shown is ONE_RIGHT:
        expected = np.zeros(GRID)
        expected[:, :-1] = image[:, 1:]
    back = kept.read(torch.tensor([0]), shown).view(GRID)
    torch.testing.assert_close(back, torch.tensor(expected.copy()).float(), rtol=1e-3, atol=2e-6)


def test_a_map_and_its_inverse_are_undone(ctd: Modules) -> None:
    draws = torch.Generator().manual_seed(3)
    maps = torch.randn(50, 2, 3, generator=draws, dtype=torch.double)
    last = torch.tensor([0.0, 0.0, 1.0], dtype=torch.double).expand(50, 1, 3)
    product = torch.cat([maps, last], 1) @ torch.cat([ctd("memory")._inverse(maps), last], 1)
    torch.testing.assert_close(product, torch.eye(3).double().expand(50, 3, 3))


def test_lots_decide_among_patches_that_were_never_scored(
    ctd: Modules, memory: Callable[..., Any]
) -> None:
    kept, ranked = memory(images=400), ctd("saliency").ranked
    torch.manual_seed(0)
    first = ranked(kept.read(torch.arange(400), None), 12, "top")
    counts = torch.bincount(first.flatten(), minlength=CELLS)
    assert counts.min() > 150 and counts.max() < 250, "200 each, of standard deviation 10"


def test_an_image_without_any_saliency_is_no_division_by_zero(memory: Callable[..., Any]) -> None:
    kept = memory()
    kept.write(torch.tensor([0]), None, torch.zeros(1, CELLS))
    assert kept.read(torch.tensor([0]), None).max() <= 1e-6


def test_a_shift_by_half_a_patch_takes_from_both_neighbours(memory: Callable[..., Any]) -> None:
    kept, found = memory(), scores(1)
    half = geometry([[1.0, 0.0, 1 / 6], [0.0, 1.0, 0.0]])
    kept.write(torch.tensor([0]), None, found)
    back = kept.read(torch.tensor([0]), half).view(GRID)
    image = found.view(GRID)
    torch.testing.assert_close(
        back[:, :-1], (image[:, 1:] + image[:, :-1]) / 2, rtol=1e-4, atol=2e-6
    )


def test_saliency_of_what_lies_outside_of_the_image_plays_no_part(
    memory: Callable[..., Any],
) -> None:
    """A patch of padding that the loss hangs on must not make the image's own look like nothing."""
    kept, other = memory(), memory()
    found = scores(1).view(1, *GRID) + 0.01
    loud = found.clone()
    loud[:, :, -1] = 100.0  # comes from the right of the image
    for one, given in ((kept, found), (other, loud)):
        one.write(torch.tensor([0]), ONE_RIGHT, given.flatten(1))
    torch.testing.assert_close(kept.scores, other.scores, rtol=1e-3, atol=1e-7)
    seen, unseen = kept.scores[0, :, 1:], kept.scores[0, :, 0]
    assert seen.mean().item() == pytest.approx(1 / CELLS, rel=1e-5)
    torch.testing.assert_close(unseen, torch.full_like(unseen, 1 / CELLS))


@pytest.mark.slow
def test_a_long_memory_arrives(memory: Callable[..., Any]) -> None:
    """Half precision would stand still at 0.8 of the value."""
    kept = memory(momentum=0.999)
    found = torch.zeros(1, CELLS)
    found[0, :8] = 1.0
    for _ in range(12_000):
        kept.write(torch.tensor([0]), None, found)
    assert kept.scores[0].flatten()[0].item() == pytest.approx(1 / 8, rel=1e-3)
