"""The plugin as the registry loads it, at the document's size and small."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from labctl.api import DataSpec
from labctl.registry.card import Card
from labctl.registry.registry import Loaded, Registry

PLUGINS = Path(__file__).parents[3] / "plugins"


@pytest.fixture(scope="session")
def dl_loaded() -> Loaded:
    return Registry(PLUGINS).load("dendritic_liquid")


@pytest.fixture(scope="session")
def dl_card(dl_loaded: Loaded) -> Callable[[str], Any]:
    """The card of a name."""
    cards: dict[str, Card] = {card.name: card for card in dl_loaded.cards}
    return cards.__getitem__


@pytest.fixture(scope="session")
def dl(dl_loaded: Loaded) -> Callable[[str], ModuleType]:
    """A module of the plugin: `dl("sparsity").soft`."""
    return lambda name: importlib.import_module(f"labctl_plugins.dendritic_liquid.{name}")


@pytest.fixture(scope="session")
def dl_config(dl: Callable[[str], ModuleType]) -> Callable[..., Any]:
    make: Callable[..., Any] = dl("config").DendriticLiquidConfig
    return make


@pytest.fixture(scope="session")
def cifar10() -> DataSpec:
    return DataSpec("cifar10", "1", "image", (3, 32, 32), 10, {"train": 50_000, "test": 10_000})


@pytest.fixture(scope="session")
def small_images() -> DataSpec:
    """8x8 pixels of one channel, 16 patches of 2x2."""
    return DataSpec("small", "1", "image", (1, 8, 8), 5, {"train": 60, "test": 40})


@pytest.fixture
def small(dl_config: Callable[..., Any]) -> Callable[..., Any]:
    """A config of three narrow blocks on `small_images`."""
    sizes = {
        "patch_size": 2, "embed_dim": 16, "depth": 3, "num_heads": 2, "mlp_ratio": 2.0,
        "dropout": 0.0,
    }  # fmt: skip

    def make(**other: Any) -> Any:
        return dl_config(**{**sizes, **other})

    return make


@pytest.fixture
def stands() -> Callable[..., dict[str, Any]]:
    """Where the knobs stand."""

    def at(mask: str = "hard", temperature: float = 0.1, hardness: float = 1.0) -> dict[str, Any]:
        numbers = {"temperature": torch.tensor(temperature), "hardness": torch.tensor(hardness)}
        return {"mask": mask, **numbers}

    return at
