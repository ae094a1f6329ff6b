"""Estimates by contrast beside the implicit gradient: agreement, and the order of its lack."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from labctl.api import Batches, DataSpec, Images, LabctlError, MeasureContext

Modules = Callable[[str], ModuleType]
Make = Callable[..., Any]


@pytest.fixture(scope="module")
def context(
    energy_model: Make, small_digits: DataSpec, tmp_path_factory: pytest.TempPathFactory
) -> MeasureContext:
    """A model of single precision whose weights are not those of its config's initialisation.

    They are weaker: in their field beta = 1e-3 is small enough for twelve nines.
    """
    draws = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (40, 1, 8, 8), generator=draws, dtype=torch.uint8)
    cpu = torch.device("cpu")
    splits = {"test": Batches(Images(pixels, torch.arange(40) % 10), small_digits, cpu)}
    model = energy_model(patch_size=2, embed_dim=16, num_heads=2).float().eval()
    with torch.no_grad():
        model.patterns.mul_(0.6)
        model.query_key.mul_(0.6)
    folder = tmp_path_factory.mktemp("gradient")
    return MeasureContext(model, model.config, small_digits, splits, {}, cpu, folder, seed=7)


@pytest.fixture(scope="module")
def values(eqprop_card: Make, context: MeasureContext) -> dict[str, float]:
    card = eqprop_card("gradient_equivalence")
    config = card.config(samples=6, betas=(1e-3, 0.02, 0.1))
    found: dict[str, float] = card.run(config, context)
    return found


def test_the_cosine_is_exact_where_floats_round_it_to_one(eqprop: Modules) -> None:
    one_minus_cos = eqprop("agreement").one_minus_cos
    a = torch.tensor([1.0, 0.0], dtype=torch.float64)
    for angle in (1.0, 1e-4, 1e-9):
        b = 3 * torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
        expected = 2 * math.sin(angle / 2) ** 2
        assert one_minus_cos(a, b) == pytest.approx(expected, rel=1e-6)
    assert one_minus_cos(a, -a) == pytest.approx(2)
    assert one_minus_cos(0 * a, a) == 1


def test_agreement_is_of_the_whole_and_names_what_it_leaves_out(eqprop: Modules) -> None:
    draws = torch.Generator().manual_seed(0)
    reference = {
        name: torch.randn(4, 3, generator=draws, dtype=torch.float64)
        for name in ("patterns", "head.weight", "gain")
    }
    reference["gain"] *= 1e-14
    estimate = {name: value.clone() for name, value in reference.items()}
    estimate["patterns"] = -reference["patterns"]
    found = eqprop("agreement").agreement(estimate, reference)
    assert found.skipped == ("gain",) and found.worst == ("patterns", pytest.approx(2))
    assert found.by_parameter["head.weight"] == pytest.approx(0, abs=1e-15)
    assert found.one_minus_cos_body == pytest.approx(2)
    patterns, head = reference["patterns"].norm() ** 2, reference["head.weight"].norm() ** 2
    cosine = float((head - patterns) / (head + patterns))
    assert found.one_minus_cos == pytest.approx(1 - cosine), "not an average of cosines"
    assert found.relative_error == pytest.approx(float(2 * (patterns / (patterns + head)) ** 0.5))


def test_nines(eqprop: Modules) -> None:
    nines = eqprop("agreement").nines
    assert [nines(x) for x in (1e-3, 2.0, 0.0)] == pytest.approx([3, -math.log10(2), 16])


@pytest.mark.slow
def test_centered_is_the_gradient(values: dict[str, float]) -> None:
    assert values["trained/centered/b0.001/one_minus_cos"] <= 1e-12
    assert values["trained/centered/b0.001/nines"] >= 12
    assert values["trained/centered/b0.02/one_minus_cos"] <= 1e-6
    assert values["init/centered/b0.001/one_minus_cos"] <= 1e-9
    for phase in ("init", "trained"):
        assert values[f"{phase}/richardson/b0.001/one_minus_cos"] <= 1e-14
        assert values[f"{phase}/residual"] <= 1e-13
        assert values[f"{phase}/adjoint_residual"] <= 1e-13
        assert values[f"{phase}/bptt/one_minus_cos"] <= 1e-4
        assert 0 < values[f"{phase}/spectral_radius"] <= values[f"{phase}/spectral_radius_max"] < 1


@pytest.mark.slow
def test_errors_fall_with_beta_as_theory_has_it(values: dict[str, float]) -> None:
    for phase in ("init", "trained"):
        assert 1.9 < values[f"{phase}/centered/order"] < 2.1
        assert 0.9 < values[f"{phase}/one_sided/order"] < 1.1
        richardson = values[f"{phase}/richardson/b0.1/relative_error"]
        assert richardson < values[f"{phase}/centered/b0.1/relative_error"] / 10


def test_order_leaves_out_rounding_and_large_beta(eqprop: Modules) -> None:
    order = eqprop("gradient").order
    errors = {1e-3: 1e-12, 0.01: 1e-4, 0.1: 1e-2, 2.0: 1e-2}
    assert order(errors) == pytest.approx(2)
    assert order({0.01: 1e-4, 2.0: 1e-2}) is None


@pytest.mark.slow
def test_files_hold_every_parameter(context: MeasureContext, values: dict[str, float]) -> None:
    folder = context.folder
    assert (folder / "gradient_equivalence.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "gradient_equivalence.svg").read_text(encoding="utf-8").startswith("<?xml")
    record = json.loads(Path(folder / "gradient_equivalence.json").read_text(encoding="utf-8"))
    entry = record["trained"]["estimates"]["one_sided"]["0.02"]
    names = {name for name, _ in context.model.named_parameters()}
    assert set(entry["by_parameter"]) | set(entry["skipped"]) == names
    assert max(entry["by_parameter"].values()) == values["trained/one_sided/b0.02/worst_parameter"]
    assert record["init"]["failed"]["centered"] == {"0.001": 0, "0.02": 0, "0.1": 0}


@pytest.mark.slow
def test_the_run_is_left_as_it_is(context: MeasureContext, values: dict[str, float]) -> None:
    """A copy is measured: weights stay single, the relaxation stays the recipe's."""
    model: Any = context.model
    assert model.patterns.dtype == torch.float32 and model.config == context.model_config
    assert not model.training and model.patterns.grad is None


def test_what_is_not_there_is_said(eqprop_card: Make, context: MeasureContext) -> None:
    card = eqprop_card("gradient_equivalence")
    with pytest.raises(LabctlError, match="no split 'val'"):
        card.run(card.config(split="val"), context)
