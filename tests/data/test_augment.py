"""Crop, flip, geometry and erasing against slow references; the whole against torchvision."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional as F
from torchvision import transforms as tv

from labctl.data.augment import augmented, erased
from labctl.data.decisions import Decisions, erase_boxes
from labctl.data.draws import Draws
from labctl.data.operations import GEOMETRIC, NOTHING, OPERATIONS, operated
from labctl.recipe.augment import Augment, Erase

Photos = Callable[..., Tensor]
POLICIES = {
    "autoaugment_cifar10": tv.AutoAugment(tv.AutoAugmentPolicy.CIFAR10),
    "randaugment": tv.RandAugment(),
    "trivialaugment_wide": tv.TrivialAugmentWide(),
}
EVERYTHING = Augment(crop=4, flip=True, policy="autoaugment_cifar10", erase=Erase())


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draws_of(count: int, seed: int) -> Draws:
    return Draws.alone(count, seeded(seed))


def decided(pixels: Tensor, augment: Augment, draws: torch.Generator) -> Decisions:
    height, width = pixels.shape[2:]
    return Decisions.drawn(Draws.alone(len(pixels), draws), (height, width), augment)


def moved(pixels: Tensor, augment: Augment, draws: torch.Generator) -> tuple[Tensor, Tensor]:
    """`augmented`, of which geometry is expected."""
    images, geometry = augmented(pixels, decided(pixels, augment, draws))
    assert geometry is not None
    return images, geometry


def cropped_and_flipped(image: Tensor, crop: int, down: int, right: int, flip: bool) -> Tensor:
    """By slicing: `down` and `right` count from the corner of the padded image."""
    height, width = image.shape[1:]
    window = F.pad(image, [crop] * 4)[:, down : down + height, right : right + width]
    return window.flip(-1) if flip else window


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (2, 9, 13)])
@pytest.mark.parametrize(("crop", "flip"), [(4, True), (4, False), (0, True)])
def test_crop_and_flip_equal_slicing(
    shape: tuple[int, int, int], crop: int, flip: bool, photos: Photos
) -> None:
    images = photos(400, *shape)
    found, geometry = moved(images, Augment(crop=crop, flip=flip), seeded(0))
    _, height, width = shape
    for image, after, matrix in zip(images, found, geometry, strict=True):
        is_flipped = bool(matrix[0, 0] < 0)
        right = round(float(matrix[0, 2]) * width / 2) + crop
        down = round(float(matrix[1, 2]) * height / 2) + crop
        assert 0 <= right <= 2 * crop
        assert 0 <= down <= 2 * crop
        assert flip or not is_flipped
        assert torch.equal(after, cropped_and_flipped(image, crop, down, right, is_flipped))


def test_crops_and_flips_are_uniform() -> None:
    count = 40_000
    images = torch.zeros(count, 1, 8, 8, dtype=torch.uint8)
    _, geometry = moved(images, Augment(crop=2, flip=True), seeded(1))
    offset = (geometry[:, :, 2] * 4).round().long() + 2
    cell = (offset[:, 0] * 5 + offset[:, 1]) * 2 + (geometry[:, 0, 0] < 0)
    assert stats.chisquare(cell.bincount(minlength=50)).pvalue > 1e-3


def test_geometry_of_crop_and_flip_reproduces_the_images(photos: Photos) -> None:
    images = photos(200, 3, 24, 40)
    found, geometry = moved(images, Augment(crop=5, flip=True), seeded(2))
    grid = F.affine_grid(geometry, list(images.shape), align_corners=False)
    again = F.grid_sample(images.float(), grid, mode="nearest", align_corners=False)
    assert torch.equal(again.to(torch.uint8), found)


@pytest.mark.slow
def test_geometry_of_the_policy_says_where_pixels_come_from() -> None:
    count, height, width = 4000, 24, 40
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    where = torch.stack([column + 1, row + 1, torch.full_like(row, 255)]).to(torch.uint8)
    augment = Augment(crop=3, flip=True, policy="autoaugment_cifar10")
    found, geometry = moved(where.expand(count, -1, -1, -1), augment, seeded(3))

    # The same in parts: crop and flip, then the policy, of which only moves may be looked at.
    many = where.expand(count, -1, -1, -1)
    partly, first = moved(many, Augment(crop=3, flip=True), seeded(3))
    program = decided(many, augment, seeded(3)).program
    assert program is not None
    assert torch.equal(operated(partly, program)[0], found)
    is_move = program.codes < OPERATIONS.index(GEOMETRIC[-1]) + 1
    only_moves = (is_move | (program.codes == NOTHING)).all(1)
    num_moves = (program.codes != NOTHING).sum(1)
    assert torch.equal(
        geometry[only_moves & (num_moves == 0)], first[only_moves & (num_moves == 0)]
    )
    assert int((only_moves & (num_moves == 2)).sum()) > 100

    grid = F.affine_grid(geometry, [count, 1, height, width], align_corners=False)
    expected = (grid + 1) * torch.tensor([width / 2, height / 2]) + 0.5
    seen = found[:, :2].permute(0, 2, 3, 1)
    error = (seen - expected).abs().amax(-1)[only_moves]
    visible = (found[:, 2] == 255)[only_moves]
    # Each move rounds to the nearest pixel, half a pixel each way at most; the second rounds
    # positions that the first then turns or shears by less than 0.3.
    assert float(error[visible].max()) < 0.5 + 0.5 * 1.3 + 1e-3
    single = (num_moves < 2)[only_moves][:, None, None]
    assert float(error[visible & single].max()) < 0.5 + 1e-3
    # A single move shows all that it can see.
    outside = (grid.abs() > 1 + 1 / height).any(-1)[only_moves]
    assert not bool((visible & outside & single).any())
    assert float(visible.float().mean()) > 0.7


@pytest.mark.parametrize("augment", [Augment(), Augment(erase=Erase())])
def test_without_moves_there_is_no_geometry(augment: Augment, photos: Photos) -> None:
    images = photos(8, 3, 32, 32)
    draws = seeded(0)
    found, geometry = augmented(images, decided(images, augment, draws))
    assert geometry is None
    assert torch.equal(found, images)


def test_equal_seeds_give_equal_batches(photos: Photos) -> None:
    images = photos(256, 3, 32, 32)
    before, ambient = images.clone(), torch.get_rng_state()
    first, second, other = (moved(images, EVERYTHING, seeded(seed)) for seed in (5, 5, 6))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[0], other[0])
    one, two = (decided(images, EVERYTHING, seeded(5)).boxes for _ in range(2))
    assert one is not None and two is not None and torch.equal(one, two)
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), ambient)


def test_batches_augmented_at_once_are_those_augmented_one_by_one(photos: Photos) -> None:
    images = photos(96, 3, 32, 32)
    parts = images.split(40)
    decisions = [decided(part, EVERYTHING, seeded(i)) for i, part in enumerate(parts)]
    alone = [augmented(part, own) for part, own in zip(parts, decisions, strict=True)]
    draws = Draws([len(part) for part in parts], [seeded(i) for i in range(len(parts))])
    joined = Decisions.drawn(draws, (32, 32), EVERYTHING)
    pixels, geometry = augmented(images, joined)
    assert geometry is not None and joined.boxes is not None
    assert torch.equal(pixels, torch.cat([own for own, _ in alone]))
    assert torch.equal(geometry, torch.cat([own for _, own in alone if own is not None]))
    assert torch.equal(joined.boxes, torch.cat([d.boxes for d in decisions if d.boxes is not None]))


@pytest.mark.parametrize("channels", [1, 3])
def test_nothing_is_read_back_from_the_device(channels: int) -> None:
    # Tensors on the meta device have no values, so reading one would raise.
    pixels = torch.empty(64, channels, 32, 32, dtype=torch.uint8, device="meta")
    images, geometry = moved(pixels, EVERYTHING, seeded(0))
    assert (images.shape, images.dtype) == (pixels.shape, torch.uint8)
    assert (geometry.shape, geometry.dtype) == ((64, 2, 3), torch.float32)
    assert geometry.device == images.device == pixels.device
    boxes = erase_boxes(draws_of(64, 0), (32, 32), Erase())
    assert erased(images.float(), boxes).shape == pixels.shape


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_cuda_gives_the_same_without_waiting(photos: Photos) -> None:
    images = photos(512, 3, 32, 32)
    decisions = decided(images, EVERYTHING, seeded(0))
    assert decisions.boxes is not None
    here = augmented(images, decisions)
    on_device = images.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        there = augmented(on_device, decisions)
        erased_there = erased(there[0].float() + 1, decisions.boxes)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert here[1] is not None
    assert there[1] is not None
    assert torch.equal(here[1], there[1].cpu())
    assert torch.equal(here[0], there[0].cpu())
    assert torch.equal(erased(here[0].float() + 1, decisions.boxes), erased_there.cpu())


def features(images: Tensor) -> Tensor:
    """float (B, 12) of uint8 (B, 3, H, W): per channel mean, std, roughness, and share of zeros."""
    values = images.double()
    rough = values.diff(dim=-1).abs().mean((2, 3))
    zeros = (values == 0).double().mean((2, 3))
    return torch.cat([values.mean((2, 3)), values.std((2, 3)), rough, zeros], 1)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["none", *POLICIES])
def test_batches_look_like_those_of_torchvisions_chain(policy: str, photos: Photos) -> None:
    count = 3000
    images = photos(count, 3, 32, 32)
    augment = Augment.model_validate({"crop": 4, "flip": True, "policy": policy})
    ours, _ = moved(images, augment, seeded(8))
    chain = [tv.RandomCrop(32, padding=4), tv.RandomHorizontalFlip()]
    if policy != "none":
        chain.append(POLICIES[policy])
    with torch.random.fork_rng():
        torch.manual_seed(9)
        theirs = torch.stack([tv.Compose(chain)(image) for image in images])
    # The same images drawn twice: were the two chains one, each difference would have mean zero.
    difference = features(ours) - features(theirs)
    z = difference.mean(0) / difference.std(0) * math.sqrt(count)
    assert float(z.abs().max()) < 4


def boxes_of_torchvision(count: int, size: tuple[int, int], erase: Erase) -> Tensor:
    """int64 (count, 4) as `erase_boxes`, from torchvision's own draws."""
    image, boxes = torch.zeros(1, *size), torch.zeros(count, 4, dtype=torch.int64)
    for i in range(count):
        top, left, height, width, value = tv.RandomErasing.get_params(
            image, list(erase.area), list(erase.aspect), [0.0]
        )
        if value is not image:
            boxes[i] = torch.tensor([top, top + height, left, left + width])
    return boxes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "erase"),
    [
        ((32, 32), Erase(probability=1.0)),
        ((20, 40), Erase(probability=1.0)),
        # Most rectangles are too long here, so many tries fail and some samples stay whole.
        ((32, 32), Erase(probability=1.0, area=(0.6, 1.0), aspect=(0.05, 20.0))),
    ],
)
def test_rectangles_are_distributed_as_torchvisions(size: tuple[int, int], erase: Erase) -> None:
    count = 6000
    ours = erase_boxes(draws_of(count, 10), size, erase)
    with torch.random.fork_rng():
        torch.manual_seed(11)
        theirs = boxes_of_torchvision(count, size, erase)
    for boxes in (ours, theirs):
        assert bool((boxes >= 0).all())
        assert bool((boxes[:, 1] <= size[0]).all())
        assert bool((boxes[:, 3] <= size[1]).all())

    def measures(boxes: Tensor) -> dict[str, Tensor]:
        top, bottom, left, right = boxes.double().unbind(1)
        height, width = bottom - top, right - left
        some = height * width > 0
        middle = ((top + bottom) / 2, (left + right) / 2)
        return {
            "area": height * width,
            "aspect": (height / width.clamp(min=1))[some],
            "height": height[some],
            "width": width[some],
            "row": middle[0][some],
            "column": middle[1][some],
        }

    for (name, a), b in zip(measures(ours).items(), measures(theirs).values(), strict=True):
        assert stats.ks_2samp(a.numpy(), b.numpy()).pvalue > 1e-3, name
    whole = [int((boxes == 0).all(1).sum()) for boxes in (ours, theirs)]
    share = sum(whole) / (2 * count)
    assert abs(whole[0] - whole[1]) <= 4 * math.sqrt(2 * count * share * (1 - share))


@pytest.mark.parametrize("probability", [0.25, 0.9])
def test_erasing_zeroes_one_rectangle_of_the_drawn_share(probability: float) -> None:
    count, erase = 4000, Erase(probability=probability)
    inputs = torch.randn(count, 2, 16, 24, generator=seeded(0)).sign() * 3
    kept = inputs.clone()
    boxes = erase_boxes(draws_of(count, 12), (16, 24), erase)
    found = erased(inputs, boxes)
    assert torch.equal(inputs, kept)
    for i, (top, bottom, left, right) in enumerate(boxes.tolist()):
        inputs[i, :, top:bottom, left:right] = 0
    assert torch.equal(found, inputs)
    num_erased = int((found == 0).flatten(1).any(1).sum())
    assert stats.binomtest(num_erased, count, probability).pvalue > 1e-3


def test_erasing_keeps_dtype_and_layout() -> None:
    inputs = torch.ones(32, 3, 8, 8, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
    found = erased(inputs, erase_boxes(draws_of(32, 0), (8, 8), Erase(probability=1.0)))
    assert found.dtype == torch.bfloat16
    assert found.is_contiguous(memory_format=torch.channels_last)
