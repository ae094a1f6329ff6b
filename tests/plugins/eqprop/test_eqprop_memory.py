"""What a training step takes: counted bytes, and how they depend on the number of steps."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from labctl.api import DataSpec, LabctlError, MeasureContext

Modules = Callable[[str], ModuleType]
Make = Callable[..., Any]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def measure(eqprop: Modules, energy_model: Make, small_digits: DataSpec) -> Make:
    """The footprint of a cell of width 24, batch 8 and 16 patches."""
    config = energy_model(patch_size=2, embed_dim=24, num_heads=3).config
    module = eqprop("memory_cell")

    def footprint(method: str, steps: int, width: int = 24) -> Any:
        cell = module.Cell(method, width, steps, batch=8, tokens=16, repeats=1)
        return module.measured(cell, config, small_digits, CPU)

    return footprint


def test_live_bytes_are_those_of_distinct_storages(eqprop: Modules) -> None:
    with eqprop("live_bytes").LiveBytes() as live:
        first = torch.zeros(250)
        view = first.view(10, 25).T
        assert live.tally.now == 1000, "a view allocates nothing"
        del first
        assert live.tally.now == 1000, "the view keeps it"
        view.mul_(2)
        assert live.tally.now == 1000, "nor does a change in place"
        del view
        assert live.tally.now == 0
        held = torch.ones(100) + 1
        assert (live.tally.now, live.tally.peak) == (400, 1000)
        del held
        rows = [torch.ones(1000) for _ in range(3)]
        assert live.tally.peak == 12_000 and len(rows) == 3


def test_saved_bytes_are_what_autograd_holds(eqprop: Modules) -> None:
    weight = torch.randn(100, requires_grad=True)
    with eqprop("live_bytes").saved_bytes(weight) as saved:
        first = weight.exp()
        second = (first * weight).exp()
        assert saved.now == 800, "both results, once each; the weight was there"
        second.sum().backward()
        del first, second
        gc.collect()
        assert (saved.now, saved.peak) == (0, 800)


@pytest.mark.slow
def test_memory_of_equilibrium_propagation_is_flat_in_the_steps(measure: Make) -> None:
    for method in ("eqprop", "eqprop_sequential", "implicit"):
        few, many = measure(method, 10), measure(method, 100)
        assert many.peak <= 1.01 * few.peak, method
        assert many.saved <= 1.01 * few.saved, method


@pytest.mark.slow
def test_memory_of_bptt_is_linear_in_the_steps(measure: Make) -> None:
    saved = {steps: measure("bptt", steps).saved for steps in (10, 20, 40)}
    assert (saved[40] - saved[20]) == pytest.approx(2 * (saved[20] - saved[10]), rel=1e-6)
    assert saved[40] > 3.5 * saved[10]


@pytest.mark.slow
def test_memory_at_fifty_steps_beside_bptt(measure: Make) -> None:
    through = measure("bptt", 50)
    for method in ("eqprop", "eqprop_sequential", "implicit", "bptt_checkpointed"):
        found = measure(method, 50)
        assert found.base == pytest.approx(through.base, rel=0.01), "all begin with the same"
        assert found.saved <= (0.25 if method == "bptt_checkpointed" else 0.05) * through.saved
    assert measure("eqprop_sequential", 50).peak <= 0.06 * through.peak
    assert measure("eqprop", 50).peak <= 0.12 * through.peak
    assert 0.05 * through.peak < measure("bptt_checkpointed", 50).peak < 0.35 * through.peak


def test_peaks_grow_with_the_width(measure: Make) -> None:
    narrow, wide = measure("eqprop", 5), measure("eqprop", 5, width=48)
    assert wide.base > 3 * narrow.base and wide.peak > 1.8 * narrow.peak


@pytest.mark.slow
def test_a_process_of_its_own_counts_the_same(
    eqprop: Modules, energy_model: Make, small_digits: DataSpec
) -> None:
    module = eqprop("memory_cell")
    config = energy_model(patch_size=2, embed_dim=24, num_heads=3).config
    cell = module.Cell("bptt", 24, 4, batch=8, tokens=9, repeats=1)
    here = module.measured(cell, config, small_digits, CPU)
    for there in module.measured_apart([cell, cell], config, small_digits, CPU):
        assert (there.base, there.peak, there.saved) == (here.base, here.peak, here.saved)
    broken = module.Cell("bptt", 25, 4, batch=8, tokens=9, repeats=1)
    with pytest.raises(LabctlError, match=r"bptt/d25/t4 failed:(?s:.*)does not divide width 25"):
        list(module.measured_apart([broken, cell], config, small_digits, CPU))


@pytest.fixture
def context(energy_model: Make, small_digits: DataSpec, tmp_path: Path) -> MeasureContext:
    model = energy_model(patch_size=2, embed_dim=24, num_heads=3)
    return MeasureContext(model, model.config, small_digits, {}, {}, CPU, tmp_path, seed=0)


@pytest.mark.slow
def test_the_measurement_names_cells_and_ratios(eqprop_card: Make, context: MeasureContext) -> None:
    card = eqprop_card("training_memory")
    config = card.config(
        methods=("eqprop", "bptt"), steps=(5, 10, 20), widths=(24,), batch=4, tokens=4,
        repeats=1, impossible={"steps": 50},
    )  # fmt: skip
    values = card.run(config, context)
    ours, theirs = (values[f"{rule}/d24/t20/peak_mib"] for rule in ("eqprop", "bptt"))
    assert values["eqprop/d24/t20/peak_ratio"] == pytest.approx(ours / theirs)
    assert values["bptt/d24/t20/peak_ratio"] == 1
    assert values["eqprop/d24/growth"] == pytest.approx(
        ours / values["eqprop/d24/t10/peak_mib"] - 1
    )
    assert values["bptt/d24/growth"] > 0.5 > 0.01 > abs(values["eqprop/d24/growth"])
    assert values["out_of_memory"] == 0
    assert not any(name.startswith("impossible") for name in values), "only on a device"
    record = json.loads((context.folder / "training_memory.json").read_text(encoding="utf-8"))
    assert len(record["cells"]) == 6 and not record["cells"][0]["out_of_memory"]
    assert (context.folder / "training_memory.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_running_out_of_memory_is_a_result(
    eqprop: Modules,
    eqprop_card: Make,
    context: MeasureContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a device would answer whose memory back-propagation exceeds."""
    module = eqprop("memory_cell")
    prepared = module._prepared

    def too_small(cell: Any, *given: Any) -> Any:
        model, optimizer, step = prepared(cell, *given)

        def stepped() -> None:
            if cell.method == "bptt" and cell.steps > 5:
                raise torch.OutOfMemoryError("CUDA out of memory")
            step()

        return model, optimizer, stepped

    monkeypatch.setattr(module, "_prepared", too_small)
    card = eqprop_card("training_memory")
    config = card.config(
        methods=("eqprop", "bptt"), steps=(5, 10), widths=(24,), batch=4, tokens=4, repeats=1
    )
    values = card.run(config, context)
    assert values["bptt/d24/t10/out_of_memory"] == 1 == values["out_of_memory"]
    assert "bptt/d24/t10/peak_mib" not in values and "eqprop/d24/t10/peak_ratio" not in values
    assert values["eqprop/d24/t5/peak_ratio"] > 0 and values["eqprop/d24/t10/peak_mib"] > 0
    rows = json.loads((context.folder / "training_memory.json").read_text("utf-8"))["cells"]
    assert [row["out_of_memory"] for row in rows] == [False, False, False, True]


def test_tokens_must_fill_a_square(eqprop_card: Make) -> None:
    card = eqprop_card("training_memory")
    with pytest.raises(ValidationError, match="tokens 50 fill no square image; 49 or 64 do"):
        card.config(steps=(5,), widths=(24,), tokens=50)


@pytest.mark.gpu
def test_the_allocator_tells_the_same_story(
    eqprop: Modules, energy_model: Make, small_digits: DataSpec
) -> None:
    module = eqprop("memory_cell")
    config = energy_model(patch_size=2, embed_dim=64, num_heads=4).config
    device = torch.device("cuda")

    def peak(method: str, steps: int) -> int:
        cell = module.Cell(method, 64, steps, batch=32, tokens=16, repeats=1)
        (found,) = module.measured_apart([cell], config, small_digits, device)
        return int(found.peak)

    assert peak("eqprop", 100) <= 1.01 * peak("eqprop", 10)
    assert peak("eqprop", 50) < 0.3 * peak("bptt", 50)
