"""Splits that a plugin loads, against what its spec promises."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from labctl.data.examples import Examples, Images, Windows
from labctl.data.splits import load_splits
from labctl.errors import EnvironmentProblem, PluginError
from labctl.registry.card import Dataset, DataSpec, Empty, Places

CPU = torch.device("cpu")
IMAGES = DataSpec(
    "oblong", "1", "image", (1, 4, 6), 3, {"train": 5, "test": 2}, mean=(0.5,), std=(0.2,)
)
TOKENS = DataSpec("words", "1", "tokens", (4,), 7, {"train": 3, "test": 3})


def splits_of(spec: DataSpec, **splits: Examples) -> Any:
    card = Dataset(
        name=spec.name,
        spec=lambda *_: spec,
        load=lambda *_: splits,
        missing=lambda *_: None,
    )
    return load_splits(card, Empty(), Places(()), 0, spec, CPU)


def images(count: int, dtype: torch.dtype = torch.uint8, last: int = 2) -> Images:
    labels = torch.arange(count) % 3
    labels[-1] = last
    return Images(torch.zeros(count, 1, 4, 6, dtype=dtype), labels)


def words(last: int = 6) -> Windows:
    stream = torch.arange(13) % 6
    stream[5] = last
    return Windows.of(stream, 4)


def test_what_is_as_promised_is_taken() -> None:
    assert len(splits_of(IMAGES, train=images(5), test=images(2, last=-100))["train"]) == 5
    assert len(splits_of(TOKENS, train=words(), test=words())["test"]) == 3


@pytest.mark.parametrize(
    ("spec", "train", "words_of"),
    [
        (IMAGES, images(5, torch.int16), "inputs are torch.int16; image data are torch.uint8"),
        (IMAGES, images(5, last=3), "labels run from 0 to 3, not within 0 to 2"),
        (IMAGES, images(5, last=-1), "labels run from -1 to 2"),
        (
            replace(IMAGES, shape=(1, 6, 4)),
            images(5),
            r"inputs have shape \(1, 4, 6\); the spec says \(1, 6, 4\)",
        ),
        (IMAGES, Images(images(5).pixels, images(5).labels.int()), "labels are torch.int32"),
        (
            IMAGES,
            Images(images(5).pixels, images(5).labels[:, None]),
            r"labels have shape \(5, 1\)",
        ),
        (TOKENS, words(last=7), "tokens run from 0 to 7, not within 0 to 6"),
    ],
)
def test_what_is_not_is_said_before_training(
    spec: DataSpec, train: Examples, words_of: str
) -> None:
    test = images(2) if spec.inputs == "image" else words()
    with pytest.raises(PluginError, match=f"split train: {words_of}"):
        splits_of(spec, train=train, test=test)


def test_a_split_of_another_size_than_its_spec_is_no_fault_of_files_that_are_not_fetched() -> None:
    with pytest.raises(EnvironmentProblem, match=r"not the 5 expected\n  the data changed, or"):
        splits_of(IMAGES, train=images(4), test=images(2))


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ({"std": 0.25}, "std is 0.25, and should be a tuple"),
        ({"sizes": [5, 2]}, r"sizes is \[5, 2\], and should be a mapping"),
        ({"version": 1}, "version is 1, and should be a str"),
        ({"inputs": "images"}, "inputs is 'images', and should be 'image' or 'tokens'"),
    ],
)
def test_fields_of_a_spec_have_their_types(field: dict[str, Any], said: str) -> None:
    (fault,) = replace(IMAGES, **field).faults
    assert re.fullmatch(said, fault)


def test_a_split_that_is_not_loaded_is_said() -> None:
    with pytest.raises(PluginError, match="split test is promised by the spec and not loaded"):
        splits_of(IMAGES, train=images(5))


def test_tokens_of_an_evaluation_can_be_viewed_as_those_of_training() -> None:
    """What is written for the one must not fail in the other."""
    (batch,) = splits_of(TOKENS, train=words(), test=words())["test"].in_order(3)

    def follows(inputs: Tensor, targets: Tensor) -> bool:
        return torch.equal(inputs.view(3, 4)[:, 1:], targets.view(-1).view(3, 4)[:, :-1])

    assert follows(batch.inputs, batch.targets)
