"""How long examples relax: counted one by one, correlated, compared with fixed steps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from labctl.api import Batch, Batches, DataSpec, Images, LabctlError, MeasureContext

Modules = Callable[[str], ModuleType]
Make = Callable[..., Any]


class Decay(nn.Module):
    """x <- rate(u) x + u, token by token: residuals shrink by exactly the example's own rate."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones((), dtype=torch.float64))

    def drive(self, inputs: Tensor) -> Tensor:
        return inputs.flatten(1).unsqueeze(1)

    def start(self, drive: Tensor) -> Tensor:
        return torch.zeros_like(drive)

    def field(self, state: Tensor, drive: Tensor) -> Tensor:
        return drive[:, :, :1] * state + drive

    def readout(self, state: Tensor) -> Tensor:
        return state[:, 0, 1:]


@pytest.fixture(scope="module")
def decay() -> tuple[Decay, Batch, Tensor]:
    """Three examples with their rates."""
    rates = torch.tensor([0.3, 0.6, 0.8], dtype=torch.float64)
    inputs = torch.stack([rates, torch.ones(3), 2 * torch.ones(3)], 1).double()
    return Decay(), Batch(inputs, torch.tensor([1, 1, 0]), torch.arange(3)), rates


@pytest.fixture(scope="module")
def context(
    energy_model: Make, small_digits: DataSpec, tmp_path_factory: pytest.TempPathFactory
) -> MeasureContext:
    draws = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (50, 1, 8, 8), generator=draws, dtype=torch.uint8)
    pixels[::5] //= 40  # images of low contrast, which settle elsewhere
    cpu = torch.device("cpu")
    splits = {"test": Batches(Images(pixels, torch.arange(50) % 10), small_digits, cpu)}
    model = energy_model(patch_size=2).eval()
    folder = tmp_path_factory.mktemp("adaptive")
    return MeasureContext(model, model.config, small_digits, splits, {}, cpu, folder, seed=0)


@pytest.fixture(scope="module")
def values(eqprop_card: Make, context: MeasureContext) -> dict[str, float]:
    card = eqprop_card("adaptive_compute")
    found: dict[str, float] = card.run(card.config(samples=48, batch=20), context)
    return found


def test_steps_are_counted_for_each_example(
    eqprop: Modules, decay: tuple[Decay, Batch, Tensor]
) -> None:
    model, batch, rates = decay
    trace = eqprop("trace").traced(model, batch, 60, 1.0)
    # x_t = u (1 - r^t) / (1 - r): step t over the state it leads to is r^(t-1) (1 - r) / (1 - r^t).
    time = torch.arange(1, 61)
    expected = rates[:, None] ** (time - 1) * (1 - rates[:, None]) / (1 - rates[:, None] ** time)
    torch.testing.assert_close(trace.residuals, expected, rtol=1e-9, atol=1e-12)
    assert trace.steps_to(1e-3).tolist() == [int((row >= 1e-3).sum()) + 1 for row in expected], (
        "not one number for all"
    )
    assert trace.steps_to(1e-6).tolist() == [13, 27, 56]
    assert trace.steps_to(0.0).tolist() == [60, 60, 60]
    assert trace.settled(1e-6).all() and not trace.settled(0.0).any()
    torch.testing.assert_close(trace.rates(), rates, rtol=0.05, atol=0)


def test_damped_steps_are_shorter(eqprop: Modules, decay: tuple[Decay, Batch, Tensor]) -> None:
    model, batch, _ = decay
    trace = eqprop("trace").traced(model, batch, 1, 0.5)
    torch.testing.assert_close(trace.logits[:, 1], 0.5 * batch.inputs[:, 1:])


def test_steps_are_those_of_the_relaxation_itself(
    eqprop: Modules, energy_model: Make, context: MeasureContext
) -> None:
    """The trace's rule and that of the relaxation that drops settled examples agree."""
    module = eqprop("trace")
    trace = module.trace_of(context, "test", None, 32, 100)
    model: Any = context.model
    drive = model.drive(context.splits["test"].at(torch.arange(50)).inputs.double())
    for tol in (1e-2, 1e-5):
        rule = eqprop("config").RelaxConfig(max_steps=100, tol=tol)
        relaxed = eqprop("relaxation").relax(model.field, model.start(drive), (drive,), rule)
        assert trace.steps_to(tol).tolist() == relaxed.steps.tolist()
        read = trace.read(trace.steps_to(tol))
        torch.testing.assert_close(read, model.readout(relaxed.x), rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_the_numbers_are_those_of_the_arrays(
    values: dict[str, float], context: MeasureContext
) -> None:
    with np.load(context.folder / "adaptive_compute.npz") as arrays:
        steps, right = arrays["steps"], arrays["right"]
        assert len(steps) == 48
        assert values["steps_mean"] == pytest.approx(steps.mean())
        assert values["steps_std"] == pytest.approx(steps.std(ddof=1))
        assert (values["steps_min"], values["steps_max"]) == (steps.min(), steps.max())
        assert values["work_share"] == pytest.approx(steps.mean() / steps.max())
        assert values["acc"] == pytest.approx(right.mean())
        for name in ("margin", "entropy", "loss", "rate"):
            expected = spearmanr(steps, arrays[name]).statistic
            assert values[f"spearman_{name}"] == pytest.approx(expected)
            assert values[f"spearman_{name}_low"] < expected < values[f"spearman_{name}_high"]
        apart = steps[~right].mean() - steps[right].mean()
        assert values["wrong_minus_right"] == pytest.approx(apart)
        assert arrays["margin"].min() >= 0 and arrays["margin"].max() <= 1
    assert values["steps_std"] > 0.3, "images differ in how long they take"
    assert values["unsettled"] == 0


@pytest.mark.slow
def test_compaction_changes_nothing_but_the_work(values: dict[str, float]) -> None:
    assert values["compaction_error"] < 1e-6 and values["compaction_moved"] == 0
    assert values["compacted_share"] <= 1


def test_budgets_and_tolerances(values: dict[str, float]) -> None:
    assert values["tol0.0001/acc"] == values["acc"]
    assert values["tol0.0001/steps"] == values["steps_mean"]
    tolerances = [values[f"tol{tol}/steps"] for tol in ("0.01", "0.001", "0.0001", "1e-05")]
    assert tolerances == sorted(tolerances) and tolerances[0] < tolerances[-1]
    assert {f"t{steps}/acc" for steps in (0, 1, 2, 4, 8, 16, 32)} <= values.keys()
    if values["best_fixed"]:
        saving = 1 - values["steps_mean"] / values["best_fixed"]
        assert values["saving"] == pytest.approx(saving)
    else:
        assert "saving" not in values, "nothing is saved over no step at all"


def test_files(values: dict[str, float], context: MeasureContext) -> None:
    record = json.loads((context.folder / "adaptive_compute.json").read_text(encoding="utf-8"))
    assert sum(record["histogram"].values()) == record["examples"] == 48
    assert set(record["steps_by_class"]) == {str(kind) for kind in range(10)}
    assert record["numbers"] == values
    assert (context.folder / "adaptive_compute.png").read_bytes().startswith(b"\x89PNG")
    assert Path(context.folder / "adaptive_compute.svg").exists()


def test_early_exit_waits_until_the_decision_stands(eqprop: Modules) -> None:
    """Class 0 leads for two steps, then class 1, more and more, and from step 6 on evenly."""
    leads = torch.tensor([[-1.0, -1, 1, 2, 3, 4, 4, 4, 4]])
    logits = torch.stack([torch.zeros_like(leads), leads], 2).double()
    trace = eqprop("trace").Trace(torch.ones(1, 8), logits, torch.tensor([1]))
    early = eqprop("policies").early_exit
    assert early(trace, 3, 1e-9).tolist() == [6], "decided at 5, but still growing"
    assert early(trace, 3, 10.0).tolist() == [5]
    assert early(trace, 6, 1e-9).tolist() == [8]
    assert early(trace, 7, 1e-9).tolist() == [8], "never: all steps"
    policy = eqprop("policies").Policy.of(trace, "early", "early", torch.tensor([1]))
    assert (policy.work, policy.accuracy) == (1, 0)


def test_spearman_knows_ties_and_what_has_no_correlation(eqprop: Modules) -> None:
    spearman = eqprop("intervals").spearman
    draws = np.random.default_rng(0)
    a = draws.integers(5, size=400).astype(float)
    b = a + draws.normal(size=400) * 3
    found = spearman(a, b)
    assert found.value == pytest.approx(spearmanr(a, b).statistic)
    assert found.low < found.value < found.high and found.high - found.low < 0.25
    b[:10] = np.nan
    assert spearman(a, b).value == pytest.approx(spearmanr(a[10:], b[10:]).statistic)
    assert spearman(np.ones(9), np.arange(9.0)) is None
    assert spearman(np.arange(3.0), np.arange(3.0)) is None
    assert spearman(np.arange(9.0), -np.arange(9.0)).value == -1


def test_intervals_cover_what_they_should(eqprop: Modules) -> None:
    """Of 200 samples of a known correlation and difference, about 95 % of intervals hold it."""
    module = eqprop("intervals")
    draws = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        x, y = draws.normal(size=(2, 60))
        found = module.spearman(x, 0.5 * x + np.sqrt(0.75) * y)
        held += found.low <= 6 / np.pi * np.arcsin(0.5 / 2) <= found.high
    assert 180 <= held <= 199
    a, b = draws.normal(1.0, 1.0, 300), draws.normal(0.0, 2.0, 500)
    found = module.difference_of_means(a, b, seed=0)
    error = np.sqrt(a.var() / 300 + b.var() / 500)
    assert found.value == pytest.approx(a.mean() - b.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert module.difference_of_means(a, a[:0], seed=0) is None


def test_what_cannot_be_measured_is_said(eqprop_card: Make, context: MeasureContext) -> None:
    card = eqprop_card("adaptive_compute")
    with pytest.raises(LabctlError, match="no split 'val'"):
        card.run(card.config(split="val"), context)
    with pytest.raises(ValueError, match=r"budgets \[200\] are not between 0 and max_steps 100"):
        card.config(budgets=(1, 200))
