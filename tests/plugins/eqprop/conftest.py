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
def eqprop_plugin() -> Loaded:
    return Registry(PLUGINS).load("eqprop")


@pytest.fixture(scope="session")
def eqprop_card(eqprop_plugin: Loaded) -> Callable[[str], Any]:
    """The card of a name."""
    cards: dict[str, Card] = {card.name: card for card in eqprop_plugin.cards}
    return cards.__getitem__


@pytest.fixture(scope="session")
def eqprop(eqprop_plugin: Loaded) -> Callable[[str], ModuleType]:
    """A module of the plugin: `eqprop("energy").soft_norm`."""
    return lambda name: importlib.import_module(f"labctl_plugins.eqprop.{name}")


@pytest.fixture(scope="session")
def small_digits() -> DataSpec:
    """8x8 pixels of one channel, ten classes."""
    sizes = {"train": 96, "test": 40}
    return DataSpec("tiny", "1", "image", (1, 8, 8), 10, sizes, mean=(0.5,), std=(0.25,))


@pytest.fixture(scope="session")
def energy_model(eqprop: Callable[[str], ModuleType], small_digits: DataSpec) -> Callable[..., Any]:
    """A float64 model of seed 0 on `small_digits` with the given fields of its config.

    Four patches of width 12; gain, shift, thresholds and biases are moved from where they begin.
    """
    small: dict[str, Any] = {"patch_size": 4, "embed_dim": 12, "num_heads": 3, "hidden": 20}

    def build(**fields: Any) -> Any:
        import torch

        torch.manual_seed(0)
        config = eqprop("config").EnergyTransformerConfig(**(small | fields))
        model = eqprop("model").EnergyTransformer(config, small_digits).double()
        with torch.no_grad():
            model.gain.fill_(0.9)
            for parameter in (model.shift, model.thresholds, model.embed.bias, model.head.bias):
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
        return model

    return build
