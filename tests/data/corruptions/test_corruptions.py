"""Each corruption against its definition, image by image, given the same draws; and its moments."""

from __future__ import annotations

import hashlib
import importlib.util
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from labctl.data.corruptions.catalogue import CORRUPTIONS
from labctl.data.corruptions.corruption import Corruption, to_uint8
from labctl.data.corruptions.suite import generated

BY_NAME = {corruption.name: corruption for corruption in CORRUPTIONS}
SEVERITIES = (1, 2, 3, 4, 5)


def _reference() -> ModuleType:
    path = Path(__file__).with_name("reference.py")
    spec = importlib.util.spec_from_file_location("corruption_reference", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


REFERENCE = _reference()


@pytest.fixture(scope="module")
def photographs() -> Tensor:
    """uint8 (3, 3, 32, 32): smooth colours, edges, and the whole range of values."""
    draws = np.random.default_rng(0)
    noise = draws.normal(size=(3, 3, 32, 32))
    smooth = ndimage.gaussian_filter(noise, (0, 0, 2, 2))
    smooth[:, :, 8:20, 10:25] += smooth.std() * 2
    low, high = smooth.min((1, 2, 3), keepdims=True), smooth.max((1, 2, 3), keepdims=True)
    return torch.from_numpy(np.uint8((smooth - low) / (high - low) * 255.999))


def drawn(corruption: Corruption, images: Tensor, severity: int, seed: int = 0) -> Any:
    stream = torch.Generator().manual_seed(seed)
    return corruption.draw(images.float() / 255, corruption.levels[severity - 1], stream)


def by_hand(corruption: Corruption, images: Tensor, severity: int) -> NDArray[Any]:
    """uint8 (B, H, W, C) of the reference, one image after the other."""
    level, draws = corruption.levels[severity - 1], drawn(corruption, images, severity)
    out = []
    for place, image in enumerate(images):
        x = image.permute(1, 2, 0).numpy() / 255.0
        own = [np.asarray(_last(tensor[place])) for tensor in draws]
        if corruption.name == "jpeg_compression":
            own = []  # what it draws is the answer
        found = getattr(REFERENCE, corruption.name)(x, level, *own)
        if corruption.name == "motion_blur":
            found = np.round(np.clip(found, 0, 1) * 255) / 255
        out.append(np.uint8(np.clip(found, 0, 1) * 255 + 1e-9))
    return np.stack(out)


def _last(tensor: Tensor) -> Tensor:
    """Channels last, where a draw is of the image's shape."""
    is_image = tensor.ndim == 3 and tensor.shape[0] in (1, 3) and tensor.shape[1] == 32
    return tensor.permute(1, 2, 0) if is_image else tensor


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", sorted({*BY_NAME} - {"frost", "jpeg_compression"}))
def test_each_is_its_definition(photographs: Tensor, name: str, severity: int) -> None:
    """To one level of 255, which float32 may round to the other side; nearly all to none."""
    corruption = BY_NAME[name]
    expected = by_hand(corruption, photographs, severity).astype(int)
    found = corruption(photographs, severity, torch.Generator().manual_seed(0))
    assert found.dtype == torch.uint8 and found.shape == photographs.shape
    apart = np.abs(found.permute(0, 2, 3, 1).numpy().astype(int) - expected)
    assert apart.max() <= 1 and (apart > 0).mean() < 0.02


@pytest.mark.parametrize("severity", SEVERITIES)
def test_jpeg_is_the_standard_but_for_rounding(photographs: Tensor, severity: int) -> None:
    """libjpeg transforms in integers, which moves some coefficients to the next step."""
    corruption = BY_NAME["jpeg_compression"]
    found = corruption(photographs, severity, torch.Generator()).permute(0, 2, 3, 1).numpy()
    apart = np.abs(found.astype(int) - by_hand(corruption, photographs, severity).astype(int))
    lost = np.abs(found.astype(int) - photographs.permute(0, 2, 3, 1).numpy().astype(int))
    assert apart.mean() < 0.2 * lost.mean()


@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 24, 24), (3, 8, 8)])
def test_jpeg_takes_grey_and_small_images(shape: tuple[int, int, int]) -> None:
    grey = torch.full((2, *shape), 100, dtype=torch.uint8)
    found = BY_NAME["jpeg_compression"](grey, 5, torch.Generator())
    assert found.shape == grey.shape and (found.int() - 100).abs().max() <= 2


def test_draws_are_the_same_on_any_number_of_threads() -> None:
    """Of 1100 images, whose chunks are of 500: as if they were made one after the other."""
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (1100, 3, 8, 8), generator=draws, dtype=torch.uint8)
    corruption, threads, found = BY_NAME["shot_noise"], torch.get_num_threads(), []
    try:
        for count in (1, 4):
            torch.set_num_threads(count)
            found.append(generated(images)(corruption, 3))
    finally:
        torch.set_num_threads(threads)
    alone = []
    for place, chunk in enumerate(images.split(500)):
        digest = hashlib.sha256(f"0/shot_noise/3/{place}".encode()).digest()
        stream = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        alone.append(corruption(chunk, 3, stream))
    assert torch.equal(found[0], torch.cat(alone)) and torch.equal(found[1], found[0])


def test_there_are_fifteen_and_the_fifth_severity_is_worse_than_the_first(
    photographs: Tensor,
) -> None:
    """But for elastic: its first is an affine map of 2.6 pixels, its fifth one of 1."""
    assert len(BY_NAME) == 15
    images = photographs.repeat(8, 1, 1, 1)
    for corruption in CORRUPTIONS:
        apart = []
        for severity in SEVERITIES:
            stream = torch.Generator().manual_seed(1)
            found = corruption(images, severity, stream)
            apart.append(float((found.float() - images.float()).square().mean().sqrt()))
        assert apart[-1] > apart[0] or corruption.name == "elastic_transform", corruption.name
        assert apart[0] > 0.1, corruption.name


def test_moments_of_noise() -> None:
    """Of grey images, where nothing is clipped."""
    grey = torch.full((16, 3, 32, 32), 128, dtype=torch.uint8)
    count = grey.numel()
    for severity in SEVERITIES:
        for name in ("gaussian_noise", "shot_noise", "impulse_noise"):
            corruption = BY_NAME[name]
            level = corruption.levels[severity - 1]
            found = corruption(grey, severity, torch.Generator().manual_seed(2)).double() / 255
            x = 128 / 255
            if name == "impulse_noise":
                hit = float((found != x).double().mean())
                assert hit == pytest.approx(level, abs=5 * math.sqrt(level / count))
                salt = float((found == 1).double().mean()) / hit
                assert salt == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(hit * count))
                continue
            variance = level**2 if name == "gaussian_noise" else x / level
            # Rounded down: half a level less on average, a twelfth of a level's square more.
            mean, spread = float(found.mean()), float(found.var())
            assert mean == pytest.approx(x - 0.5 / 255, abs=5 * math.sqrt(variance / count))
            assert spread == pytest.approx(variance + 1 / 12 / 255**2, rel=0.04)


def test_frost_brightens_with_needles_and_is_its_own(photographs: Tensor) -> None:
    """There is no reference: the published photographs may not be passed on."""
    black = torch.zeros_like(photographs)
    shares = []
    for severity, ice in zip(SEVERITIES, (0.2, 0.3, 0.4, 0.4, 0.45), strict=True):
        found = BY_NAME["frost"](black, severity, torch.Generator().manual_seed(3)).float() / 255
        assert found.max() <= ice and found[:, 2].mean() > found[:, 0].mean() > 0
        shares.append(float(found.mean()) / ice)
    assert shares == pytest.approx([shares[0]] * 5, rel=0.03), "one texture, weighed"


def test_grey_images_and_small_ones_are_corrupted_as_well() -> None:
    small = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    for corruption in CORRUPTIONS:
        for severity in (1, 5):
            found = corruption(small, severity, torch.Generator().manual_seed(0))
            assert found.shape == small.shape and found.dtype == torch.uint8, corruption.name


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_an_image_is_the_same_among_others(photographs: Tensor, name: str) -> None:
    """However many there are, in whole chunks or not."""
    many = photographs[:, :1, 12:20, 12:20].repeat(200, 1, 1, 1)[:700]
    corruption = BY_NAME[name]
    whole = generated(many)(corruption, 3)
    for count in (30, 501):
        assert torch.equal(whole[:count], generated(many[:count])(corruption, 3))


@pytest.mark.parametrize("name", ["shot_noise", "fog", "motion_blur"])
def test_each_chunk_and_seed_draws_its_own(photographs: Tensor, name: str) -> None:
    many = photographs[:, :1, 12:20, 12:20].repeat(200, 1, 1, 1)
    whole = generated(many)(BY_NAME[name], 3)
    assert not torch.equal(whole[:500], whole[500:600].repeat(5, 1, 1, 1))
    assert not torch.equal(whole, generated(many, seed=1)(BY_NAME[name], 3))


def test_there_is_no_sixth_severity(photographs: Tensor) -> None:
    with pytest.raises(ValueError, match="severity 6 is not one of 1 to 5"):
        BY_NAME["fog"](photographs, 6, torch.Generator())


def test_whole_numbers_stay_themselves() -> None:
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(every.float() / 255), every)
