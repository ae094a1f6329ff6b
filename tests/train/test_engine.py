"""Engines: which is chosen and why, and that a recording trains bit for bit as written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from labctl.data.examples import Batch
from labctl.errors import EnvironmentProblem
from labctl.train.engine import Eager, Graphed, engine_of
from labctl.train.learner import Knobs, Metrics, Objective

Capture = Literal["whole", "never"]
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
NOTHING = Objective({})


class Regression:
    """Least squares by momentum, with noise on its inputs and a counter in place."""

    def __init__(self, device: torch.device = CPU, capture: Capture = "whole") -> None:
        torch.manual_seed(0)
        self.capture: Capture = capture
        self.model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1)).to(device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9)
        self.count = torch.zeros((), device=device)
        self.spoil: Callable[[Tensor], Any] = lambda loss: None

    def step(self, batch: Batch, knobs: Knobs) -> Metrics:
        found = self.model(batch.inputs).squeeze(1) * knobs["gain"] ** knobs["power"]
        loss = (found - batch.targets).square().mean()
        self.spoil(loss)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.count += 1
        return {"loss": (loss.detach(), torch.ones_like(loss)), "count": (self.count, self.count)}

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count.copy_(state["count"])


def given(step: int, device: torch.device) -> tuple[Batch, Knobs]:
    draws = torch.Generator().manual_seed(step)
    inputs, targets = torch.randn(16, 4, generator=draws), torch.randn(16, generator=draws)
    batch = Batch(inputs.to(device), targets.to(device), torch.arange(16, device=device))
    knobs = {"gain": torch.tensor(1 + step / 10, device=device), "power": 1 + step // 5}
    return batch, knobs


def trained(subject: Regression, engine: Any, steps: int = 10) -> list[dict[str, float]]:
    """Metrics of each step."""
    device, seen = subject.count.device, []
    for step in range(steps):
        batch, knobs = given(step, device)
        torch.manual_seed(step)
        if engine.is_due(batch, knobs):
            engine.prepare(batch, knobs)
        metrics = engine.step(batch, knobs)
        seen.append({name: (total / count).item() for name, (total, count) in metrics.items()})
    return seen


@pytest.mark.parametrize(
    ("name", "capture", "device", "found", "why"),
    [
        ("auto", "whole", CPU, "eager", ""),
        ("auto", "never", CPU, "eager", ""),
        ("eager", "whole", CPU, "eager", ""),
        ("eager", "whole", CUDA, "eager", ""),
        ("eager", "never", CUDA, "eager", ""),
        ("auto", "never", CUDA, "eager", "Regression is not to be recorded (capture: never)"),
    ],
)
def test_the_engine_that_was_asked_for(
    name: Any, capture: Capture, device: torch.device, found: str, why: str
) -> None:
    engine = engine_of(name, Regression(capture=capture), NOTHING, [], device)
    assert isinstance(engine, Eager)
    assert (engine.name, engine.why) == (found, why)


def test_what_cannot_be_had_is_refused() -> None:
    with pytest.raises(EnvironmentProblem, match="graphed needs CUDA; this is cpu"):
        engine_of("graphed", Regression(), NOTHING, [], CPU)
    with pytest.raises(EnvironmentProblem, match="not to be recorded"):
        engine_of("graphed", Regression(capture="never"), NOTHING, [], CUDA)


@pytest.mark.gpu
def test_a_recording_trains_bit_for_bit_as_written() -> None:
    """Knobs that move, one of them structural, dropout, momentum and a counter."""
    one, other = Regression(CUDA), Regression(CUDA)
    engine = engine_of("auto", other, NOTHING, other.model.parameters(), CUDA)
    assert isinstance(engine, Graphed)
    assert trained(one, Eager(one)) == trained(other, engine)
    assert (engine.name, engine.why) == ("graphed", "")
    for ours, theirs in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert one.count == other.count == 10


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda loss: loss.item(), "the step cannot be recorded"),
        (lambda loss: torch.rand(()), "it draws random numbers on the host"),
    ],
)
def test_what_cannot_be_recorded_goes_on_as_written(
    spoil: Callable[[Tensor], Any], why: str
) -> None:
    one, other = Regression(CUDA), Regression(CUDA)
    one.spoil = other.spoil = spoil
    engine = engine_of("auto", other, NOTHING, other.model.parameters(), CUDA)
    written, drawn = trained(one, Eager(one), 2), torch.default_generator.get_state()
    assert trained(other, engine, 2) == written
    assert torch.equal(torch.default_generator.get_state(), drawn), "it drew what the other drew"
    assert engine.name == "eager" and why in engine.why


@pytest.mark.gpu
@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("learner", ["backprop", "saliency_gradient", "saliency_gradient_ema"])
def test_a_run_is_the_same_by_either_engine(make_lab: Callable[[str], Any], learner: str) -> None:
    """With a structural schedule, an average, clipping and augmentation; and it says so."""
    saliency = "cls_attn" if learner == "backprop" else "gradient"
    ranked = (f"model.saliency={saliency}", f"learner.kind={learner}")
    found: dict[str, Any] = {}
    for engine in ("eager", "graphed"):
        lab = make_lab(engine)
        options = ("runtime.device=cuda", f"runtime.engine={engine}", "seeds=1", *ranked)
        (found[engine],) = lab.train_here("tiny", *options)
        journal = found[engine].journal
        assert [record.fields["engine"] for record in journal.of("begin")] == [engine]
    eager, graphed = (run.journal for run in found.values())
    names = {name for name in eager.curves if not name.startswith("time")}
    assert {name: eager.curves[name] for name in names} == {
        name: graphed.curves[name] for name in names
    }
    recorded = list(graphed.of("engine"))
    assert len(recorded) == len(list(graphed.of("phase"))) > 1
    assert all(record.fields["engine"] == "graphed" for record in recorded)
    weights = [torch.load(run.weights_path, weights_only=True) for run in found.values()]
    for name, ours in weights[0].items():
        assert torch.equal(ours, weights[1][name]), name
