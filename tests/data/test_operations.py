"""Operations against torchvision's own functions, image by image."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import Tensor
from torchvision.transforms import functional as tv
from torchvision.transforms.v2 import functional as tv2

from labctl.data.affine import normalised, resampled
from labctl.data.draws import Draws
from labctl.data.operations import (
    GEOMETRIC,
    OPERATIONS,
    PIXELWISE,
    SIGNED,
    Program,
    motions,
    operated,
)
from labctl.data.policies import Choices, Reach
from labctl.errors import RecipeError

Photos = Callable[..., Tensor]
SHAPES = [(3, 32, 32), (1, 28, 28), (3, 24, 40)]
CPU = torch.device("cpu")


def motion_by_torchvision(name: str, image: Tensor, magnitude: float) -> Tensor:
    slope, whole = math.degrees(math.atan(magnitude)), int(magnitude)
    after: Tensor
    match name:
        case "ShearX":
            after = tv.affine(image, 0, [0, 0], 1, [slope, 0.0], center=[0, 0])
        case "ShearY":
            after = tv.affine(image, 0, [0, 0], 1, [0.0, slope], center=[0, 0])
        case "TranslateX":
            after = tv.affine(image, 0, [whole, 0], 1, [0.0, 0.0])
        case "TranslateY":
            after = tv.affine(image, 0, [0, whole], 1, [0.0, 0.0])
        case "Rotate":
            after = tv.rotate(image, magnitude)
    return after


def pixels_by_torchvision(
    version: ModuleType, name: str, image: Tensor, magnitude: float
) -> Tensor:
    after: Tensor
    match name:
        case "Brightness":
            after = version.adjust_brightness(image, 1 + magnitude)
        case "Color":
            after = version.adjust_saturation(image, 1 + magnitude)
        case "Contrast":
            after = version.adjust_contrast(image, 1 + magnitude)
        case "Sharpness":
            after = version.adjust_sharpness(image, 1 + magnitude)
        case "Posterize":
            after = version.posterize(image, int(magnitude))
        case "Solarize":
            after = version.solarize(image, magnitude)
        case "AutoContrast":
            after = version.autocontrast(image)
        case "Equalize":
            after = version.equalize(image)
        case "Invert":
            after = version.invert(image)
    return after


def at_level(name: str, level: int, sign: int, shape: tuple[int, int, int]) -> float:
    return sign * Reach.usual(*shape[1:]).at(name, level, 10)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("name", GEOMETRIC)
def test_motions_equal_torchvisions_affine_at_every_level(
    name: str, sign: int, shape: tuple[int, int, int], photos: Photos
) -> None:
    images = photos(10, *shape)
    magnitudes = [at_level(name, level, sign, shape) for level in range(10)]
    codes = torch.full((10,), OPERATIONS.index(name))
    motion = motions(codes, torch.tensor(magnitudes), *shape[1:])
    ours = resampled(images, normalised(motion, *shape[1:], CPU))
    pairs = zip(images, magnitudes, strict=True)
    theirs = torch.stack([motion_by_torchvision(name, image, amount) for image, amount in pairs])

    # Positions halfway between two pixels may round either way. Slopes of 2/30 and 6/30 have some;
    # the policy uses neither.
    is_tie = halfway(motion, *shape[1:])
    ties = is_tie.flatten(1).any(1).nonzero().flatten().tolist()
    assert ties == ([2, 6] if name.startswith("Shear") else [])
    assert float(is_tie.float().mean()) < 0.03
    assert torch.equal(ours.where(~is_tie, 0), theirs.where(~is_tie, 0))


def halfway(motion: Tensor, height: int, width: int) -> Tensor:
    """bool (B, 1, height, width): where a map in centred pixels falls between two pixels."""
    row, column = torch.meshgrid(
        torch.arange(height) - (height - 1) / 2,
        torch.arange(width) - (width - 1) / 2,
        indexing="ij",
    )
    at = torch.stack([column, row, torch.ones_like(row)], -1).double() @ motion[:, None, :2].mT
    index = at + torch.tensor([width - 1, height - 1]) / 2
    return ((index - index.floor() - 0.5).abs() < 1e-5).any(-1)[:, None]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("name", PIXELWISE)
def test_pixelwise_operations_equal_torchvisions_at_every_level(
    name: str, sign: int, shape: tuple[int, int, int], photos: Photos
) -> None:
    images = photos(10, *shape)
    images[1] = 77  # one value only
    images[2] = images[2] // 16 + 100  # little contrast
    sign = sign if name in SIGNED else 1
    magnitudes = [at_level(name, level, sign, shape) for level in range(10)]
    ours = PIXELWISE[name](images, torch.tensor(magnitudes)[:, None, None, None])
    assert ours.dtype == torch.uint8
    for image, magnitude, found in zip(images, magnitudes, ours, strict=True):
        assert torch.equal(found, pixels_by_torchvision(tv, name, image, magnitude))
        # The second version of torchvision adds and divides the same numbers in another order
        # before it cuts them to integers: what is an integer in exact arithmetic may lose 1.
        second = pixels_by_torchvision(tv2, name, image, magnitude)
        in_float = name in {"Brightness", "Color", "Contrast", "Sharpness", "AutoContrast"}
        assert int((found.int() - second.int()).abs().max()) <= (1 if in_float else 0)


def test_blends_take_a_magnitude_for_each_image(photos: Photos) -> None:
    images = photos(6, 3, 32, 32)
    magnitudes = torch.tensor([-0.9, -0.3, 0.0, 0.1, 0.5, 0.9])[:, None, None, None]
    for name, operation in PIXELWISE.items():
        if name in SIGNED:
            alone = [operation(images[i : i + 1], magnitudes[i : i + 1]) for i in range(6)]
            assert torch.equal(operation(images, magnitudes), torch.cat(alone)), name
            assert torch.equal(operation(images, magnitudes)[2], images[2]), name


def test_what_a_sample_gets_does_not_depend_on_its_neighbours(photos: Photos) -> None:
    images = photos(200, 3, 32, 32)
    program = Choices.drawn(Draws.alone(200, torch.Generator().manual_seed(4))).program(32, 32)
    whole, motion = operated(images, program)
    some = torch.randperm(200, generator=torch.Generator().manual_seed(5))[:77]
    part = Program(program.codes[some], program.magnitudes[some])
    found, moved = operated(images[some], part)
    assert torch.equal(found, whole[some])
    assert torch.equal(moved, motion[some])


@pytest.mark.parametrize("channels", [2, 4])
def test_other_numbers_of_channels_are_refused(channels: int) -> None:
    images = torch.zeros(3, channels, 8, 8, dtype=torch.uint8)
    with pytest.raises(RecipeError, match=f"1 or 3 channels, not {channels}"):
        operated(images, Choices.drawn(Draws.alone(3, torch.Generator())).program(8, 8))
