"""What the two measurements write and return."""

from __future__ import annotations

from collections.abc import Callable
from math import log
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from labctl.api import Batches, DataSpec, Images, LabctlError, MeasureContext

Make = Callable[..., Any]
Modules = Callable[[str], ModuleType]


@pytest.fixture
def context(
    tiny_model: Make, tiny_images: DataSpec, tmp_path: Path
) -> Callable[..., MeasureContext]:
    def make(**fields: Any) -> MeasureContext:
        draws = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (40, 1, 8, 8), generator=draws, dtype=torch.uint8)
        images = Images(pixels, torch.arange(40) % 10)
        model = tiny_model(**fields).eval()
        cpu = torch.device("cpu")
        splits = {"test": Batches(images, tiny_images, cpu)}
        return MeasureContext(
            model, model.config, tiny_images, splits, {"token_drop": 0.0}, cpu, tmp_path, seed=0
        )

    return make


def opened(context: MeasureContext) -> Any:
    """The model, with attributes that `nn.Module` does not declare."""
    return context.model


def is_png(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.parametrize(
    "fields",
    [{}, {"saliency": "gradient"}, {"where": "stages"}, {"where": "ltd", "saliency": "random"}],
)
def test_saliency_maps_hold_what_the_model_chose(
    ctd_card: Callable[[str], Any], context: Callable[..., MeasureContext], fields: dict[str, Any]
) -> None:
    card = ctd_card("saliency_maps")
    given = context(**fields)
    torch.manual_seed(1)
    numbers = card.run(card.config(images=16, shown=2, token_drop=0.5), given)
    batch = given.splits["test"].at(torch.arange(16))
    torch.manual_seed(1)
    chosen = opened(given).run(batch.inputs, 0.5)[1]
    assert is_png(given.folder / "saliency_maps.png")
    with np.load(given.folder / "saliency_maps.npz") as arrays:
        assert arrays["index"].tolist() == list(range(16))
        assert arrays["targets"].tolist() == batch.targets.tolist()
        for place in chosen:
            kept = arrays[f"kept_block{place.block + 1}"]
            assert kept.shape == (16, 8, 8) and kept.dtype == bool
            assert [np.flatnonzero(row).tolist() for row in kept] == place.kept.tolist()
            scores = arrays[f"saliency_block{place.block + 1}"].reshape(16, 64)
            there = np.take_along_axis(scores, place.candidates.numpy(), axis=1)
            np.testing.assert_allclose(there, place.scores.numpy(), rtol=1e-6)
            assert np.isnan(scores).sum() == 16 * (64 - place.candidates.shape[1])
    assert numbers["kept_patches"] == 32
    assert 0 <= numbers["position_bias"] <= 1


@pytest.mark.slow
def test_position_bias_tells_a_fixed_choice_from_a_random_one(
    ctd_card: Callable[[str], Any], context: Callable[..., MeasureContext]
) -> None:
    card = ctd_card("saliency_maps")
    torch.manual_seed(0)
    config = card.config(images=40, shown=1, token_drop=0.5)
    assert card.run(config, context(saliency="random"))["position_bias"] == pytest.approx(
        1 / 40, rel=0.3
    )
    fixed = context(saliency="stem_norm")
    with torch.no_grad():
        for parameter in opened(fixed).stem.parameters():
            parameter.zero_()
    assert card.run(config, fixed)["position_bias"] == pytest.approx(1)


@pytest.mark.slow
def test_attention_maps_are_those_of_every_block(
    ctd: Modules, ctd_card: Callable[[str], Any], context: Callable[..., MeasureContext]
) -> None:
    card = ctd_card("attention_maps")
    given = context()
    numbers = card.run(card.config(images=6, shown=3), given)
    assert list(numbers) == [f"attention_entropy_block{place}" for place in range(1, 9)]
    assert all(0 < entropy < log(65) for entropy in numbers.values())
    assert is_png(given.folder / "attention_maps.png")
    chosen = opened(given).run(given.splits["test"].at(torch.arange(6)).inputs, 0.35)[1]
    with np.load(given.folder / "attention_maps.npz") as arrays:
        maps = arrays["attention_block3"]
        assert maps.shape == (6, 8, 8) and (maps.sum((1, 2)) < 1).all()
        np.testing.assert_allclose(maps.reshape(6, 64), chosen[0].scores.numpy(), rtol=1e-5)


def test_even_attention_has_the_largest_entropy(
    ctd_card: Callable[[str], Any], context: Callable[..., MeasureContext]
) -> None:
    given = context()
    given.model.double()  # a model of any precision is given float32 images
    with torch.no_grad():
        for block in opened(given).blocks:
            block.attention.qkv.weight.zero_()
            block.attention.qkv.bias.zero_()
    card = ctd_card("attention_maps")
    numbers = card.run(card.config(images=4, shown=1), given)
    assert list(numbers.values()) == pytest.approx([log(65)] * 8, rel=1e-5)


def test_what_cannot_be_shown_is_said(
    ctd_card: Callable[[str], Any], context: Callable[..., MeasureContext]
) -> None:
    card = ctd_card("saliency_maps")
    with pytest.raises(LabctlError, match="drops none of 64 patches"):
        card.run(card.config(token_drop=0.005), context(where="spread"))
    with pytest.raises(LabctlError, match="there are: test"):
        card.run(card.config(split="val"), context())
    assert ctd_card("saliency_maps").only_for == ctd_card("attention_maps").only_for == ("ctd_vit",)
