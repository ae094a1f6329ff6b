"""Corrupted images that the runs of a machine share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from labctl.data.corruptions.catalogue import CORRUPTIONS
from labctl.data.corruptions.corruption import Corruption
from labctl.data.corruptions.kept import LEAST, folder_of, kept
from labctl.data.corruptions.suite import generated
from labctl.registry.card import Places

NOISE, CONTRAST = CORRUPTIONS[0], CORRUPTIONS[11]


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8)


class Counting:
    """What labctl generates, and how often it was asked to."""

    def __init__(self, images: Tensor) -> None:
        self.of, self.asked = generated(images), 0

    def __call__(self, corruption: Corruption, severity: int) -> Tensor:
        self.asked += 1
        return self.of(corruption, severity)


def test_what_is_made_once_is_read_the_next_time(images: Tensor, tmp_path: Path) -> None:
    making = Counting(images)
    expected = [making.of(NOISE, 1), making.of(NOISE, 2), making.of(CONTRAST, 1)]
    for _ in range(2):
        of = kept(making, images, tmp_path / "deeper" / "still")
        found = [of(NOISE, 1), of(NOISE, 2), of(CONTRAST, 1)]
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == torch.uint8 and torch.equal(one, other)
    assert making.asked == 3


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "fewer", "other type"])
def test_a_damaged_file_is_made_anew(images: Tensor, tmp_path: Path, damage: str) -> None:
    making = Counting(images)
    expected = kept(making, images, tmp_path)(NOISE, 3)
    (path,) = tmp_path.iterdir()
    if damage in ("cut", "empty"):
        path.write_bytes(path.read_bytes()[: 300 if damage == "cut" else 0])
    elif damage == "text":
        path.write_text("what is this")
    else:
        array = np.load(path)
        np.save(path, array[:2] if damage == "fewer" else array.astype(np.int16))
    for asked in (2, 2):
        assert torch.equal(kept(making, images, tmp_path)(NOISE, 3), expected)
        assert making.asked == asked, "mended once"


def test_where_nothing_can_be_written_all_is_made_anew(images: Tensor, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    making = Counting(images)
    of = kept(making, images, tmp_path / "file" / "folder")
    assert torch.equal(of(NOISE, 1), of(NOISE, 1))
    assert making.asked == 2


def test_other_images_and_seeds_have_other_folders_in_the_users_cache(tmp_path: Path) -> None:
    pixels = torch.zeros(LEAST // 4, 1, 2, 2, dtype=torch.uint8)
    places = Places((tmp_path / "mine", tmp_path / "cache"))
    folder = folder_of("cifar10", pixels, 0, places)
    assert folder is not None and folder == folder_of("cifar10", pixels.clone(), 0, places)
    assert folder.parent == tmp_path / "cache" / "CIFAR-10-C-labctl-v2"
    others = [
        folder_of("cifar10", pixels, 1, places),
        folder_of("cifar10", pixels + 1, 0, places),
        folder_of("digits", pixels, 0, places),
    ]
    assert len({folder, *others}) == 4


def test_few_images_are_not_worth_a_file(tmp_path: Path) -> None:
    few = torch.zeros(LEAST // 4 - 1, 1, 2, 2, dtype=torch.uint8)
    assert folder_of("cifar10", few, 0, Places((tmp_path,))) is None
    assert folder_of("cifar10", torch.zeros(LEAST, 1, 1, 1), 0, Places(())) is None
