"""Accuracy after how many steps, against the model asked for so many."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from labctl.api import Batches, DataSpec, Images, MeasureContext

Modules = Callable[[str], ModuleType]
Make = Callable[..., Any]


@pytest.fixture
def context(energy_model: Make, small_digits: DataSpec, tmp_path: Path) -> MeasureContext:
    draws = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (40, 1, 8, 8), generator=draws, dtype=torch.uint8)
    cpu = torch.device("cpu")
    model = energy_model(patch_size=2).eval()
    with torch.no_grad():  # decisions that the relaxation still changes
        model.patterns.mul_(2)
        drive = model.drive(torch.randn(64, 1, 8, 8, dtype=torch.float64))
        model.head.bias.sub_(model.readout(drive).mean(0))
    splits = {"test": Batches(Images(pixels, torch.arange(40) % 10), small_digits, cpu)}
    return MeasureContext(model, model.config, small_digits, splits, {}, cpu, tmp_path, seed=0)


@pytest.mark.slow
def test_each_depth_is_the_model_with_so_many_steps(
    eqprop: Modules, eqprop_card: Make, context: MeasureContext
) -> None:
    card = eqprop_card("relaxation_depth")
    values = card.run(card.config(steps=(8, 0, 1, 3), samples=30, batch=16), context)
    model: Any = context.model
    batch = context.splits["test"].at(torch.arange(30))
    inputs = batch.inputs.double()
    decided = {}
    for steps in (0, 1, 3, 8):
        rule = eqprop("config").RelaxConfig(max_steps=steps, tol=0.0)
        with torch.no_grad():
            logits = model.readout(model.settle(model.drive(inputs), None, rule).x)
        decided[steps] = logits.argmax(1)
        accuracy = (decided[steps] == batch.targets).double().mean()
        loss = torch.nn.functional.cross_entropy(logits, batch.targets)
        assert values[f"t{steps}/acc"] == pytest.approx(float(accuracy))
        assert values[f"t{steps}/loss"] == pytest.approx(float(loss))
    for steps in (0, 1, 3, 8):
        same = (decided[steps] == decided[8]).double().mean()
        assert values[f"t{steps}/final"] == pytest.approx(float(same))
    assert values["t0/final"] < 1, "nothing would be shown by a model that never changes its mind"
    assert values["t8/residual"] < values["t3/residual"] < values["t1/residual"]
    assert "t0/residual" not in values
    record = json.loads((context.folder / "relaxation_depth.json").read_text(encoding="utf-8"))
    assert record["samples"] == 30 and record["steps"] == [0, 1, 3, 8]
    assert (context.folder / "relaxation_depth.png").read_bytes().startswith(b"\x89PNG")
    assert (context.folder / "relaxation_depth.svg").exists()


def test_no_step_at_all_can_be_asked_for(eqprop_card: Make, context: MeasureContext) -> None:
    card = eqprop_card("relaxation_depth")
    values = card.run(card.config(steps=(0,)), context)
    assert set(values) == {"t0/acc", "t0/final", "t0/loss"} and values["t0/final"] == 1


@pytest.mark.slow
def test_models_without_an_energy_are_read_out_too(
    eqprop: Modules, eqprop_card: Make, small_digits: DataSpec, context: MeasureContext
) -> None:
    config = eqprop("looped_config").LoopedTransformerConfig(
        patch_size=2, embed_dim=12, num_heads=3, hidden=16
    )
    torch.manual_seed(0)
    model = eqprop("looped_model").LoopedTransformer(config, small_digits).eval()
    given = MeasureContext(
        model, config, small_digits, context.splits, {}, context.device, context.folder, seed=0
    )
    for name in ("relaxation_depth", "adaptive_compute"):
        card = eqprop_card(name)
        assert "looped_transformer" in card.only_for
        assert 0 <= card.run(card.config(), given)["t1/acc"] <= 1
