"""A compiled objective is the objective, up to rounding; and what cannot be compiled says so."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.nn import functional as F

from labctl.data.examples import Batch
from labctl.errors import EnvironmentProblem
from labctl.reports.result import result_of
from labctl.store.run import Run
from labctl.store.status import Status
from labctl.train.compiled import CompiledObjective
from labctl.train.engine import Compiled, Eager
from labctl.train.learner import Knobs, Metrics, Objective

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
CROSS_ENTROPY = Objective(
    {"cross_entropy": lambda output, batch, knobs: F.cross_entropy(output.logits, batch.targets)}
)


class Cut(nn.Module):
    """Reads as many inputs as a structural knob says."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.head = nn.Linear(8, 16), nn.Linear(16, 5)

    def forward(self, inputs: Tensor, knobs: Knobs) -> Tensor:
        left = torch.arange(8) < int(knobs["left"])
        logits: Tensor = self.head(F.gelu(self.hidden(inputs * left)) * knobs["gain"])
        return logits


class Branching(Cut):
    def forward(self, inputs: Tensor, knobs: Knobs) -> Tensor:
        if inputs.sum() > 0:
            inputs = -inputs
        return super().forward(inputs, knobs)


def batch(seed: int) -> Batch:
    draws = torch.Generator().manual_seed(seed)
    return Batch(
        torch.randn(12, 8, generator=draws), torch.arange(12) % 5, torch.arange(12), None
    )  # fmt: skip


def knobs(left: int, gain: float = 1.0) -> Knobs:
    return {"left": left, "gain": torch.tensor(gain)}


def gradients(
    objective: Objective, model: nn.Module, given: Batch, at: Knobs
) -> tuple[Tensor, Metrics, list[Tensor]]:
    loss, metrics = objective(model, given, at)
    found = torch.autograd.grad(loss, list(model.parameters()))
    return loss.detach(), metrics, list(found)


@pytest.mark.slow
@needs_compiler
def test_loss_metrics_and_gradients_are_those_of_the_objective() -> None:
    """Over two models, two forms and a knob that moves; each form is compiled once."""
    compiled = CompiledObjective.wrapping(CROSS_ENTROPY)
    before = counters["stats"]["unique_graphs"]
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = Cut()
        for left, gain in ((8, 1.0), (5, 1.0), (8, 0.5)):
            expected = gradients(CROSS_ENTROPY, model, batch(seed), knobs(left, gain))
            found = gradients(compiled, model, batch(seed), knobs(left, gain))
            torch.testing.assert_close(found, expected)
    assert counters["stats"]["unique_graphs"] - before == 2
    assert compiled.models == {Cut}


@pytest.mark.slow
def test_a_model_that_branches_on_its_data_is_refused_with_the_place() -> None:
    line = Branching.forward.__code__.co_firstlineno + 1
    said = rf"Branching cannot be compiled: .*branching.*, at test_compiled.py:{line}\n"
    with pytest.raises(EnvironmentProblem, match=said):
        CompiledObjective.wrapping(CROSS_ENTROPY)(Branching(), batch(0), knobs(8))


@pytest.mark.slow
@needs_compiler
def test_a_model_may_leave_autocast_where_there_is_one() -> None:
    """In torch 2.11 whether there is one could not be asked in what is compiled."""

    class Single(Cut):
        def forward(self, inputs: Tensor, knobs: Knobs) -> Tensor:
            if not torch.amp.is_autocast_available(inputs.device.type):
                return super().forward(inputs, knobs)
            with torch.autocast(inputs.device.type, enabled=False):
                return super().forward(inputs, knobs)

    model = Single()
    expected = gradients(CROSS_ENTROPY, model, batch(0), knobs(8))
    found = gradients(CompiledObjective.wrapping(CROSS_ENTROPY), model, batch(0), knobs(8))
    torch.testing.assert_close(found, expected)


def test_a_learner_that_calls_no_objective_has_nothing_to_compile() -> None:
    class Alone:
        capture = "whole"

        def step(self, batch: Batch, knobs: Knobs) -> Metrics:
            return {}

    alone: Any = Alone()
    engine = Compiled(Eager(alone), alone, CompiledObjective.wrapping(CROSS_ENTROPY))
    with pytest.raises(EnvironmentProblem, match="nothing was compiled: Alone does not call"):
        engine.step(batch(0), knobs(8))


def test_a_compiled_run_is_another_run_and_others_keep_their_keys(lab: Any) -> None:
    plain, off, on = (
        lab.jobs("tiny", *options)[0].plan
        for options in ((), ("numerics.compiled=false",), ("numerics.compiled=true",))
    )
    assert plain.key == off.key != on.key and plain.group != on.group
    assert "compiled" not in plain.work.model_dump()["numerics"]
    again = type(on).model_validate_json(on.model_dump_json())
    assert again.work.numerics.compiled


def test_an_error_beneath_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Faulty(Cut):
        def forward(self, inputs: Tensor, knobs: Knobs) -> Tensor:
            raise ValueError("eight are too many")

    with pytest.raises(EnvironmentProblem, match=r"Faulty cannot .*eight are too many"):
        CompiledObjective.wrapping(CROSS_ENTROPY)(Faulty(), batch(0), knobs(8))


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_compiled_run_is_the_run_and_says_when_it_compiled(
    make_lab: Callable[[str], Any], device: str
) -> None:
    """Without dropout, whose masks are drawn differently; the time to compile is no step's."""
    found: dict[str, Run] = {}
    for is_compiled in ("false", "true"):
        lab = make_lab(is_compiled)
        options = (
            f"numerics.compiled={is_compiled}", f"runtime.device={device}", "seeds=1",
            "batch_size=64", "data.val=1200", "schedules.token_drop=0",
            "runtime.log_every=3step", "model.dropout=0", "model.drop_path=0",
        )  # fmt: skip
        (found[is_compiled],) = lab.train_here("tiny", *options)
    assert all(run.status is Status.DONE for run in found.values())
    eager, compiled = (run.journal for run in found.values())
    assert set(eager.curves) == set(compiled.curves)
    for step, loss in eager.curves["train/loss"].items():
        assert compiled.curves["train/loss"][step] == pytest.approx(loss, rel=1e-3), step
    first, *others = compiled.of("engine")
    assert first.step == 1 and first.fields["seconds"] > 0.1
    name = "compiled" if device == "cpu" else "compiled, graphed"
    assert first.fields["engine"] == name and len(others) == (device == "cuda")
    windows = [r.fields for r in compiled.of("metrics") if "steps" in r.fields]
    assert "seconds" not in windows[0] and all("seconds" in fields for fields in windows[1:])
    assert [c.engine for c in result_of(found["true"]).conditions] == [name]


@pytest.mark.slow
@needs_compiler
def test_what_one_worker_compiled_the_next_need_not(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernels are kept in the user's cache; another seed finds all of them there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    kernels: list[set[Path]] = []
    for seed in (0, 1):
        code, output = lab.labctl(
            "run", "tiny", "numerics.compiled=true", f"seeds=[{seed}]", "budget=1ep",
            "schedules.lr=1e-3", "schedules.token_drop=0", "--no-track",
        )  # fmt: skip
        assert code == 0, output
        kernels.append(set((tmp_path / "cache/labctl/compiled/fxgraph").rglob("*")))
    assert kernels[0] and kernels[0] == kernels[1]
