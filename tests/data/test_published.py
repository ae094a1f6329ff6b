from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from labctl.builtin import cards
from labctl.data import digits, published
from labctl.data.published import Published
from labctl.data.splits import load_splits
from labctl.errors import EnvironmentProblem
from labctl.registry.card import Dataset, Places

CPU = torch.device("cpu")


def card(name: str) -> Dataset:
    return next(c for c in cards if isinstance(c, Dataset) and c.name == name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "folder"),
    [
        (published.MNIST, "MNIST"),
        (published.CIFAR10, "cifar-10-batches-py"),
        (published.CIFAR100, "cifar-100-python"),
    ],
    ids=["mnist", "cifar10", "cifar100"],
)
def test_the_facts_hold_of_the_official_files(
    data: Published, folder: str, real_data: Callable[[str], Path]
) -> None:
    places = Places((real_data(folder),))
    spec = data.facts
    splits = data.load(None, places)
    for name, images in splits.items():
        assert (
            images.pixels.shape == (spec.sizes[name], *spec.shape)
            and images.pixels.dtype == torch.uint8
        )
        counts = torch.bincount(images.labels, minlength=spec.num_classes)
        assert len(counts) == spec.num_classes
        if spec.name != "mnist":
            assert counts.unique().numel() == 1
    pixels = splits["train"].pixels.double() / 255
    assert torch.allclose(
        pixels.mean((0, 2, 3)), torch.tensor(spec.mean, dtype=torch.float64), atol=2e-4
    )
    # The customary figures of the CIFARs are standard deviations over all pixels, to 3-4 digits.
    assert torch.allclose(
        pixels.std((0, 2, 3)), torch.tensor(spec.std, dtype=torch.float64), atol=2e-3
    )


def test_missing_files_name_every_place_and_the_way_to_get_them(tmp_path: Path) -> None:
    hint = published.CIFAR100.missing(None, Places((tmp_path / "a", tmp_path / "b")))
    assert hint is not None
    assert (
        str(tmp_path / "a" / "cifar-100-python") in hint
        and str(tmp_path / "b" / "cifar-100-python") in hint
    )
    assert "labctl data fetch cifar100" in hint


def test_digits_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    ours, theirs = digits.load(None, Places(())), load_digits()
    is_test = torch.arange(len(theirs.target)) % 5 == 0
    for name, place in (("train", ~is_test), ("test", is_test)):
        pixels = torch.from_numpy(theirs.images)[place][:, None]
        assert torch.equal(ours[name].pixels, (pixels * 255 / 16).round().to(torch.uint8))
        assert torch.equal(ours[name].labels, torch.from_numpy(theirs.target)[place])


def test_digits_are_scaled_split_and_normalised_as_their_spec_says() -> None:
    splits = digits.load(None, Places(()))
    assert {name: len(split) for name, split in splits.items()} == digits.SPEC.sizes
    pixels = splits["train"].pixels.double() / 255
    assert pixels.max() == 1.0
    assert abs(pixels.mean().item() - digits.SPEC.mean[0]) < 1e-4
    assert abs(pixels.std().item() - digits.SPEC.std[0]) < 1e-4


def test_validation_is_carved_once_for_all_and_covers_training_exactly() -> None:
    splits = load_splits(card("digits"), card("digits").config(), Places(()), 237, digits.SPEC, CPU)
    whole = digits.load(None, Places(()))["train"]
    assert len(splits["val"]) == 237 and len(splits["train"]) == 1200
    both = torch.cat([splits["train"].examples.pixels, splits["val"].examples.pixels])  # type: ignore[attr-defined] # digits are Images

    def keys(images: torch.Tensor) -> list[str]:
        return sorted(hashlib.md5(image.numpy().tobytes()).hexdigest() for image in images)

    assert keys(both) == keys(whole.pixels)
    again = load_splits(card("digits"), card("digits").config(), Places(()), 237, digits.SPEC, CPU)
    assert torch.equal(again["val"].examples.pixels, splits["val"].examples.pixels)  # type: ignore[attr-defined] # digits are Images


def test_files_of_another_size_are_refused() -> None:
    from dataclasses import replace

    wrong = replace(digits.SPEC, sizes={"train": 1500, "test": 360})
    with pytest.raises(EnvironmentProblem, match="train has 1437 examples, not the 1500 expected"):
        load_splits(card("digits"), card("digits").config(), Places(()), 0, wrong, CPU)
