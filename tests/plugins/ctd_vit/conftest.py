"""The plugin as the registry loads it, and models small enough to differentiate by hand."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from labctl.api import DataSpec
from labctl.registry.card import Card
from labctl.registry.registry import Loaded, Registry

PLUGINS = Path(__file__).parents[3] / "plugins"


@pytest.fixture(scope="session")
def ctd_vit() -> Loaded:
    return Registry(PLUGINS).load("ctd_vit")


@pytest.fixture(scope="session")
def ctd_card(ctd_vit: Loaded) -> Callable[[str], Any]:
    """The card of a name."""
    cards: dict[str, Card] = {card.name: card for card in ctd_vit.cards}
    return cards.__getitem__


@pytest.fixture(scope="session")
def ctd(ctd_vit: Loaded) -> Callable[[str], ModuleType]:
    """A module of the plugin: `ctd("tokens").kept`."""
    return lambda name: importlib.import_module(f"labctl_plugins.ctd_vit.{name}")


@pytest.fixture(scope="session")
def ctd_config(ctd: Callable[[str], ModuleType]) -> Callable[..., Any]:
    """A config of the paper's size, but for what is given."""
    make: Callable[..., Any] = ctd("config").CtdVitConfig
    return make


@pytest.fixture(scope="session")
def cifar100() -> DataSpec:
    return DataSpec("cifar100", "1", "image", (3, 32, 32), 100, {"train": 50_000, "test": 10_000})


@pytest.fixture(scope="session")
def tiny_images() -> DataSpec:
    """8x8 pixels of one channel, 64 patches with `stem: plain`."""
    sizes = {"train": 96, "test": 40}
    return DataSpec("tiny", "1", "image", (1, 8, 8), 10, sizes, mean=(0.5,), std=(0.25,))


@pytest.fixture(scope="session")
def tiny_config(ctd_config: Callable[..., Any]) -> Callable[..., Any]:
    """A config of eight narrow blocks on `tiny_images`."""
    small = {
        "embed_dim": 24,
        "num_heads": 3,
        "mlp_ratio": 2.0,
        "stem": "plain",
        "stem_widths": (4, 6),
    }
    return lambda **fields: ctd_config(**(small | fields))


@pytest.fixture(scope="session")
def tiny_model(
    ctd: Callable[[str], ModuleType], tiny_config: Callable[..., Any], tiny_images: DataSpec
) -> Callable[..., Any]:
    """A model of `tiny_config`, of seed 0, with weights large enough for attention to differ."""

    def build(**fields: Any) -> Any:
        import torch

        torch.manual_seed(0)
        model = ctd("model").CtdVit(tiny_config(**fields), tiny_images)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.startswith(("blocks", "positions", "cls")):
                    parameter.add_(torch.randn_like(parameter), alpha=0.2)
        return model

    return build
