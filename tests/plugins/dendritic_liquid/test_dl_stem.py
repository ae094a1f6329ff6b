"""Patches made by convolutions: their equation, their size and what they cost."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from labctl.api import DataSpec
from labctl.measure.compatibility import fvcore_macs
from labctl.measure.flops import count


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def stem(
    dl: Callable[[str], ModuleType], patch_size: int, widths: tuple[int, ...], **options: Any
) -> Any:
    config = dl("config").StemConfig(widths=widths, **options)
    return dl("stem").Stem(config, 3, patch_size, 16).eval()


@pytest.mark.parametrize("patch_size", [1, 2, 4])
def test_patches_are_a_convolution_as_large_as_its_stride(dl: Any, patch_size: int) -> None:
    module = dl("stem").Patches(3, patch_size, 16).double()
    images = torch.randn(2, 3, 8, 12, dtype=torch.float64)
    expected = F.conv2d(images, module.weight, module.bias, patch_size).flatten(2).mT
    torch.testing.assert_close(module(images), expected)


@pytest.mark.parametrize(
    ("patch_size", "strides"), [(1, (1, 1, 1)), (2, (1, 1, 2)), (4, (1, 2, 2)), (8, (2, 2, 2))]
)
def test_the_last_convolutions_halve(
    dl: Any, patch_size: int, strides: tuple[int, int, int]
) -> None:
    _is_convolutions(stem(dl, patch_size, (4, 6, 8)), patch_size, strides)


@pytest.mark.parametrize(("patch_size", "strides"), [(1, (1, 1)), (2, (2, 1, 1)), (4, (2, 1, 2))])
def test_or_those_that_the_config_says(dl: Any, patch_size: int, strides: tuple[int, ...]) -> None:
    widths = (4, 6, 8)[: len(strides)]
    _is_convolutions(stem(dl, patch_size, widths, strides=strides), patch_size, strides)


def _is_convolutions(module: Any, patch_size: int, strides: tuple[int, ...]) -> None:
    """Convolution, batch norm and ReLU of each stride, then a linear map of each pixel."""
    images = torch.randn(2, 3, 16, 16)
    for norm in (layer for layer in module.layers if isinstance(layer, torch.nn.BatchNorm2d)):
        torch.nn.init.normal_(norm.running_mean)
        torch.nn.init.uniform_(norm.running_var, 0.5, 2.0)
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    expected = images
    for place, stride in enumerate(strides):
        convolution, norm = module.layers[3 * place], module.layers[3 * place + 1]
        expected = F.conv2d(expected, convolution.weight, stride=stride, padding=1)
        mean, var, weight, bias = (
            values[:, None, None]
            for values in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
        )
        expected = ((expected - mean) / (var + norm.eps).sqrt() * weight + bias).relu()
    last = module.layers[-1]
    expected = torch.einsum("bchw,dc->bhwd", expected, last.weight[:, :, 0, 0]) + last.bias
    found = module(images)
    assert found.shape == (2, (16 // patch_size) ** 2, 16)
    expected = expected.flatten(1, 2)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_its_size_and_cost_at_the_documents_size(
    dl_card: Any, dl: Any, dl_config: Any, cifar10: DataSpec
) -> None:
    config, image = dl_config(stem={}), torch.randn(1, 3, 32, 32)
    model = dl_card("dendritic_liquid_vit").build(config, cifar10).eval()
    # Without a convolution of 4x4 pixels; three of 3x3 with two numbers of norm each, one of 1x1.
    own = 27 * 64 + 9 * 64 * 128 + 9 * 128 * 256 + 2 * (64 + 128 + 256) + 256 * 256 + 256
    assert parameters(model) == 4_766_474 - (48 * 256 + 256) + own == 5_190_986
    macs = dl("cost").forward_macs(config, cifar10, {})
    assert macs == 363_402_752
    counted = count(lambda: model(image, {}))
    assert counted.flops == 2 * macs and counted.uncounted == {}
    of_norms = 5 * 65 * 256 * 13 + 2 * (1024 * 64 + 256 * 128 + 64 * 256)
    assert fvcore_macs(model, image, {}).total == macs + of_norms


@pytest.mark.parametrize(
    ("patch_size", "strides"), [(1, None), (2, None), (4, None), (2, (2, 1)), (1, (1, 1))]
)
@pytest.mark.parametrize(
    "parts", [{}, {"dendrites": {"hidden": 4}, "sparse": {"keep": (0.5,) * 3}}]
)
def test_the_formula_of_cost_is_what_runs(
    dl_card: Any, dl: Any, small: Any, stands: Any, small_images: DataSpec,
    patch_size: int, strides: tuple[int, ...] | None, parts: dict[str, Any],
) -> None:  # fmt: skip
    stem = {"widths": (4, 6), "strides": strides}
    config = small(stem=stem, patch_size=patch_size, **parts)
    model = dl_card("dendritic_liquid_vit").build(config, small_images).eval()
    counted = count(lambda: model(torch.randn(1, 1, 8, 8), stands())).flops
    assert counted == 2 * dl("cost").forward_macs(config, small_images, {"mask": "hard"})


def test_without_it_the_weights_are_what_they_were(
    dl_card: Any, small: Any, small_images: DataSpec
) -> None:
    """Names, shapes and, of a seed, values: of two models that differ in the stem alone all that
    stands behind the patches has the same shape."""
    build = dl_card("dendritic_liquid_vit").build
    plain = build(small(), small_images).state_dict()
    stemmed = build(small(stem={"widths": (4,)}), small_images).state_dict()
    behind = [name for name in plain if not name.startswith("patches.")]
    assert set(plain) - set(behind) == {"patches.weight", "patches.bias"}
    assert [n for n in stemmed if not n.startswith("patches.")] == behind
    assert all(plain[name].shape == stemmed[name].shape for name in behind)


def test_cost_of_inference_is_beside_the_plain_transformer_of_the_same_stem(
    dl_card: Any, dl: Any, small: Any, small_images: DataSpec
) -> None:
    config = small(stem={"widths": (4, 6)}, liquid={"hidden": 5})
    realised = dl("cost").realised(config, small_images, {})
    macs = dl("cost").forward_macs
    bare = macs(small(stem={"widths": (4, 6)}), small_images, {})
    assert realised["mac_ratio"] == macs(config, small_images, {}) / bare


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"patch_size": 5}, "patch_size 5 is no power of two; patch_size 4, or stem: null"),
        ({"patch_size": 8, "stem": {"widths": (4, 8)}}, "2 convolutions, and patch_size 8 needs 3"),
        ({"stem": {"strides": (2, 2)}}, "strides has 2 numbers, and stem.widths 3"),
        ({"stem": {"strides": (2, 1, 1)}}, "come to 2, and patch_size is 4; 2 of them must be 2"),
    ],
)
def test_what_does_not_fit_is_said(dl_config: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        dl_config(**{"stem": {}, **options})
