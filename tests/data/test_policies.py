"""What policies draw, against torchvision's own classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from scipy import stats
from torch import Tensor
from torchvision.transforms import (
    AutoAugment,
    AutoAugmentPolicy,
    InterpolationMode,
    RandAugment,
    TrivialAugmentWide,
)
from torchvision.transforms.autoaugment import _apply_op

from labctl.data.draws import Draws
from labctl.data.operations import NOTHING, OPERATIONS, SIGNED, Program, operated
from labctl.data.policies import ALIKE, CIFAR10, LEVELS, WIDE, Choices, Reach, drawn
from labctl.recipe.augment import Augment

Photos = Callable[..., Tensor]
SHAPES = [(3, 32, 32), (1, 28, 28), (3, 24, 40)]


def replayed(image: Tensor, policy: Tensor, chance: Tensor, sign: Tensor) -> Tensor:
    """torchvision's AutoAugment of one image, told what to draw."""
    transform = AutoAugment(AutoAugmentPolicy.CIFAR10)
    transform.get_params = lambda _: (int(policy), chance, sign)
    after: Tensor = transform(image)
    return after


def of(policy: str, count: int, size: tuple[int, int], seed: int = 1, **more: Any) -> Program:
    draws = torch.Generator().manual_seed(seed)
    program = drawn(Draws.alone(count, draws), size, Augment(policy=policy, **more))  # type: ignore[arg-type]
    assert program is not None
    return program


def name_of(code: int) -> str:
    return "Identity" if code == NOTHING else OPERATIONS[code]


def has_ties(code: int, magnitude: float) -> bool:
    """Some shears, and turns by 45 degrees, see positions halfway between two pixels."""
    name = name_of(code)
    return name.startswith("Shear") or (name == "Rotate" and abs(magnitude) in (45.0, 135.0))


def test_the_table_is_torchvisions() -> None:
    assert tuple(AutoAugment(AutoAugmentPolicy.CIFAR10).policies) == CIFAR10


@pytest.mark.parametrize("size", [(32, 32), (28, 28), (24, 40)])
@pytest.mark.parametrize("policy", ["autoaugment", "randaugment", "trivialaugment_wide"])
def test_magnitudes_are_torchvisions(policy: str, size: tuple[int, int]) -> None:
    spaces: dict[str, Any] = {
        "autoaugment": AutoAugment(AutoAugmentPolicy.CIFAR10)._augmentation_space(10, size),
        "randaugment": RandAugment()._augmentation_space(LEVELS, size),
        "trivialaugment_wide": TrivialAugmentWide()._augmentation_space(LEVELS),
    }
    space = spaces[policy]
    assert set(space) == set(OPERATIONS if policy == "autoaugment" else ALIKE)
    assert {name for name, (_, signed) in space.items() if signed} == SIGNED
    reach = WIDE if policy == "trivialaugment_wide" else Reach.usual(*size)
    for name, (magnitudes, _) in space.items():
        levels = len(magnitudes) if magnitudes.ndim else LEVELS
        ours = [reach.at(name, level, levels) for level in range(levels)]
        expected = magnitudes.tolist() if magnitudes.ndim else [0.0] * levels
        assert ours == expected, name


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_autoaugment_equals_torchvisions_told_to_draw_the_same(
    shape: tuple[int, int, int], photos: Photos
) -> None:
    images = photos(1500, *shape)
    choices = Choices.drawn(Draws.alone(len(images), torch.Generator().manual_seed(1)))
    ours, _ = operated(images, choices.program(*shape[1:]))
    for i, image in enumerate(images):
        policy = choices.policy[i]
        theirs = replayed(image, policy, choices.chance[i], choices.sign[i])
        assert torch.equal(ours[i], theirs), CIFAR10[int(policy)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("policy", ["randaugment", "trivialaugment_wide"])
def test_what_is_drawn_is_done_as_torchvision_does_it(
    policy: str, shape: tuple[int, int, int], photos: Photos
) -> None:
    """But where a position falls between two pixels, which may round either way."""
    images = photos(1200, *shape)
    program = of(policy, len(images), shape[1:])  # type: ignore[arg-type]
    ours, _ = operated(images, program)
    differing = 0
    for image, found, codes, magnitudes in zip(
        images, ours, program.codes.tolist(), program.magnitudes.tolist(), strict=True
    ):
        after = image
        for code, magnitude in zip(codes, magnitudes, strict=True):
            mode = InterpolationMode.NEAREST
            after = _apply_op(after, name_of(code), magnitude, interpolation=mode, fill=None)
        differs = int((after != found).any(0).sum())
        assert differs == 0 or any(map(has_ties, codes, magnitudes))
        differing += differs
    assert differing < 1e-3 * images[:, 0].numel()


def test_choices_are_uniform_and_independent() -> None:
    count = 50_000
    choices = Choices.drawn(Draws.alone(count, torch.Generator().manual_seed(2)))
    assert stats.chisquare(choices.policy.bincount(minlength=25)).pvalue > 1e-3
    together = choices.policy * 4 + choices.sign[:, 0] * 2 + choices.sign[:, 1]
    assert stats.chisquare(together.bincount(minlength=100)).pvalue > 1e-3
    below = choices.chance < torch.tensor([0.3, 0.6])
    seen = (below[:, 0] * 2 + below[:, 1] + 4 * choices.sign[:, 0]).bincount(minlength=8)
    expected = torch.tensor([0.7 * 0.4, 0.7 * 0.6, 0.3 * 0.4, 0.3 * 0.6]).repeat(2) / 2 * count
    assert stats.chisquare(seen, expected, sum_check=False).pvalue > 1e-3
    for column in choices.chance.unbind(1):
        assert stats.kstest(column.numpy(), "uniform").pvalue > 1e-3


@pytest.mark.slow
def test_each_of_two_operations_is_done_with_its_own_probability_and_sign() -> None:
    count, row = 20_000, CIFAR10.index((("TranslateY", 0.9, 9), ("TranslateY", 0.7, 9)))
    given = Choices.drawn(Draws.alone(count, torch.Generator().manual_seed(3)))
    program = Choices(torch.full((count,), row), given.chance, given.sign).program(32, 32)
    _, motion = operated(torch.zeros(count, 1, 32, 32, dtype=torch.uint8), program)
    # Level 9 is 14 of 32 pixels: both up, one up, none or opposite, one down, both down.
    seen = (motion[:, 1, 2].long() // 14 + 2).bincount(minlength=5)
    both, one = 0.9 * 0.7, 0.9 * 0.3 + 0.1 * 0.7
    expected = torch.tensor([both / 4, one / 2, 0.1 * 0.3 + both / 2, one / 2, both / 4]) * count
    assert stats.chisquare(seen, expected, sum_check=False).pvalue > 1e-3


def test_trivialaugment_draws_operation_level_and_sign_with_equal_chances() -> None:
    count = 60_000
    program = of("trivialaugment_wide", count, (32, 32))
    assert program.codes.shape == (count, 1)
    codes, magnitudes = program.codes[:, 0], program.magnitudes[:, 0]
    kinds = codes.bincount(minlength=len(OPERATIONS) + 1)
    assert kinds[OPERATIONS.index("Invert")] == 0
    assert stats.chisquare(kinds[kinds > 0]).pvalue > 1e-3 and int((kinds > 0).sum()) == 14
    degrees = magnitudes[codes == OPERATIONS.index("Rotate")]
    level = (degrees.abs() / 135 * 30).round().long()
    assert stats.chisquare(level.bincount(minlength=LEVELS)).pvalue > 1e-3
    turned = degrees[level > 0] > 0
    assert stats.binomtest(int(turned.sum()), len(turned)).pvalue > 1e-3


def test_randaugment_draws_operations_apart_from_each_other_at_one_level() -> None:
    count = 60_000
    program = of("randaugment", count, (32, 32), operations=3, magnitude=20)
    assert program.codes.shape == (count, 3)
    pairs = program.codes[:, 0] * (NOTHING + 1) + program.codes[:, 2]
    seen = pairs.bincount(minlength=(NOTHING + 1) ** 2)
    assert int((seen > 0).sum()) == 14**2 and stats.chisquare(seen[seen > 0]).pvalue > 1e-3
    degrees = program.magnitudes[program.codes == OPERATIONS.index("Rotate")]
    assert degrees.abs().unique().tolist() == [20.0]


def test_randaugment_is_two_operations_at_level_nine_if_not_told_otherwise() -> None:
    plain, told = (of("randaugment", 50, (8, 8), **more) for more in ({}, {"magnitude": 9}))
    assert plain.codes.shape == (50, 2)
    assert torch.equal(plain.codes, told.codes)
    assert torch.equal(plain.magnitudes, told.magnitudes)
    given = Augment(policy="randaugment").model_dump()
    assert given == Augment(policy="randaugment", operations=2, magnitude=9).model_dump()
    assert (given["operations"], given["magnitude"]) == (2, 9)


def test_other_policies_keep_their_keys_and_refuse_what_is_randaugments() -> None:
    assert set(Augment().model_dump(mode="json")) == {"crop", "flip", "policy", "erase"}
    again = Augment.model_validate_json(Augment(policy="randaugment").model_dump_json())
    assert again == Augment(policy="randaugment")
    with pytest.raises(ValidationError, match="magnitude is for policy randaugment, not none"):
        Augment(magnitude=3)
