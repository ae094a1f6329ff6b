"""What gates, importance and masks did as a model trained: noted, drawn, and nothing changed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from labctl.api import Batch, DataSpec, LabctlError, LearnerParts, MeasureContext, Objective
from labctl.project import Project
from labctl.testing.bench import Bench
from labctl.testing.training import Track

PARTS: dict[str, Any] = {
    "dendrites": {"hidden": 4},
    "liquid": {"hidden": 5},
    "sparse": {"keep": (0.8, 0.5, 0.4)},
}
ROOT = Path(__file__).parents[3]


@pytest.fixture
def learner(
    dl_card: Callable[[str], Any], small: Any, small_images: DataSpec
) -> Callable[..., Any]:
    """Of a model with these parts whose weights differ from patch to patch, in training mode."""

    def build(**parts: Any) -> Any:
        torch.manual_seed(0)
        model = dl_card("dendritic_liquid_vit").build(small(**parts), small_images).train()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
        optimizer: Any = None
        given = LearnerParts(model, Objective({}), optimizer, None, None, nullcontext, 1)
        return dl_card("observed_backprop").build(None, given)

    return build


def batch_of(images: int) -> Batch:
    index = torch.arange(images)
    return Batch(torch.randn(images, 1, 8, 8), index % 5, index)


@pytest.mark.parametrize("mask", ["soft", "hard"])
def test_a_look_is_the_mean_over_tokens_of_each_block(
    learner: Any, dl: Any, stands: Any, mask: str
) -> None:
    """From modules that are asked one by one, in evaluation."""
    observed, batch = learner(**PARTS), batch_of(12)
    found = {
        name: (total / count).item()
        for name, (total, count) in observed.look(batch, stands(mask)).items()
    }
    seen: list[Any] = []
    gammas: list[torch.Tensor] = []
    model = observed.model.eval()
    for block in model.blocks:
        block.liquid.register_forward_pre_hook(
            lambda module, given: gammas.append(module.gate(given[0], given[1] + given[2])[0])
        )
    with torch.no_grad():
        model.run(batch.inputs, stands(mask), seen.append)
    for place, (block, gamma) in enumerate(zip(seen, gammas, strict=True), start=1):
        weights = torch.ones(gamma.shape[:2]) if block.weights is None else block.weights
        opened = ((1 - gamma).mean(-1) * weights).sum() / weights.sum()
        assert found[f"gate_block{place}"] == pytest.approx(opened.item(), rel=1e-5)
        assert found[f"importance_block{place}"] == pytest.approx(block.scores.mean().item())
        share = block.kept.sum().item() / (12 * 16)
        assert found[f"kept_block{place}"] == pytest.approx(share)
    assert len(found) == 9


def test_a_look_leaves_the_model_as_it_was(learner: Any, stands: Any) -> None:
    observed, batch = learner(**PARTS, stem={"widths": (4,)}), batch_of(4)
    before = {name: value.clone() for name, value in observed.model.state_dict().items()}
    drawn = torch.get_rng_state()
    observed.look(batch, stands("soft"))
    assert torch.equal(drawn, torch.get_rng_state())
    assert all(torch.equal(value, before[n]) for n, value in observed.model.state_dict().items())
    assert all(module.training for module in observed.model.modules())
    assert not any(module._forward_pre_hooks for module in observed.model.modules())


def test_there_is_nothing_to_see_in_the_plain_transformer(learner: Any, stands: Any) -> None:
    assert learner().look(batch_of(4), stands()) == {}


def test_models_of_other_families_are_refused(dl_card: Any) -> None:
    nothing: Any = None
    given = LearnerParts(torch.nn.Linear(1, 1), Objective({}), nothing, None, None, nullcontext, 1)
    with pytest.raises(LabctlError, match="and this is Linear"):
        dl_card("observed_backprop").build(None, given)


def test_the_course_is_what_was_journalled(
    dl_card: Any, small: Any, small_images: DataSpec, tmp_path: Path
) -> None:
    curves = {
        f"train/gate_block{block}": {10: 0.5, 20: 0.4 + block, 30: 0.5 + 0.1 * block}
        for block in (1, 2, 3)
    }
    card, model, cpu = dl_card("token_course"), torch.nn.Identity(), torch.device("cpu")
    given = (model, small(), small_images, {}, {}, cpu, tmp_path, 0)
    numbers = card.run(card.config(), MeasureContext(*given, curves=curves))
    assert numbers == {"looks": 3} | {
        f"gate_rise_block{block}": pytest.approx(0.1 * block) for block in (1, 2, 3)
    }
    with np.load(tmp_path / "token_course.npz") as arrays:
        assert arrays["gate_step"].tolist() == [10, 20, 30]
        np.testing.assert_allclose(arrays["gate"][1], [1.4, 2.4, 3.4])
        assert set(arrays) == {"gate", "gate_step"}
    assert (tmp_path / "token_course.png").read_bytes().startswith(b"\x89PNG")
    assert card.run(card.config(), MeasureContext(*given)) == {"looks": 0}


@pytest.mark.slow
def test_a_run_is_observed_every_epoch_and_trains_the_same(tmp_path: Path) -> None:
    curves, folders = {}, {}
    for kind in ("backprop", "observed_backprop"):
        options = (f"learner.kind={kind}", "budget=5ep", "measure.robustness=null")
        bench = Bench("dendritic_liquid", Project(ROOT), tmp_path, "dl_full", "smoke", options)
        training = Track(bench).begin(kind, 0)
        training.advance(training.work.steps)
        training.finish()
        training.end("DONE")
        curves[kind], folders[kind] = training.run.journal.curves, training.run.folder
    plain, observed = curves["backprop"], curves["observed_backprop"]
    trained = {name for name in plain if name.startswith(("train/", "test/"))}
    assert {name: observed[name] for name in trained} == {name: plain[name] for name in trained}
    for part in ("gate", "importance", "kept"):
        assert len(observed[f"train/{part}_block4"]) == 5
    assert plain["token_course/looks"] == {220: 0.0} and observed["token_course/looks"] == {
        220: 5.0
    }
    with np.load(folders["observed_backprop"] / "measurements/token_course/token_course.npz") as of:
        assert of["kept"][:, 3].tolist() == [*observed["train/kept_block4"].values()]
