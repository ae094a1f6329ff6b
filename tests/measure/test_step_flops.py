"""One learner step counted from shapes, and what happens when shapes are not enough."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labctl.data.examples import Batch
from labctl.measure.flops import count, step_flops
from labctl.measure.forward import forward_pass
from labctl.train.learner import Backprop, Knobs, LearnerParts, Objective, Output

FORWARD = 640_953_344
FIRST_INPUT_GRADIENT = 2 * 64 * 256 * 48


def cross_entropy(output: Output, batch: Batch, knobs: Knobs) -> Tensor:
    return F.cross_entropy(output.logits, batch.targets)


def build_learner_step(
    model: nn.Module, device: torch.device, *, fused: bool, batch_size: int
) -> Callable[[], object]:
    # A 0-d tensor for the learning rate, as training has it; what reads it reads the CPU.
    lr = torch.tensor(1e-3)
    model.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05, fused=fused)

    def set_lr(value: Tensor) -> None:
        lr.copy_(value)

    learner = Backprop(
        LearnerParts(
            model, Objective({"ce": cross_entropy}), optimizer, set_lr, 1.0, nullcontext, 1
        )
    )
    batch = Batch(
        inputs=torch.zeros(batch_size, 3, 32, 32, device=device),
        targets=torch.zeros(batch_size, dtype=torch.long, device=device),
        index=torch.zeros(batch_size, dtype=torch.long, device=device),
    )
    return lambda: learner.step(batch, {"lr": torch.tensor(5e-4)})


@pytest.mark.parametrize("fused_attention", [False, True])
def test_a_learner_step_is_counted_without_memory(
    build_vit: Callable[..., nn.Module], fused_attention: bool
) -> None:
    batch_size = 4096  # 2.6 TFLOP forward, many GiB of activations

    def build(device: torch.device) -> Callable[[], object]:
        with device:
            model = build_vit(fused=fused_attention)
        return build_learner_step(model, device, fused=False, batch_size=batch_size)

    step = step_flops(build)
    assert (step.device, step.reason) == ("meta", "")
    assert step.flops == batch_size * (3 * FORWARD - FIRST_INPUT_GRADIENT)
    assert sum(step.by_operator.values()) == step.flops
    assert step.uncounted == {}


def test_shapes_alone_give_what_the_fused_step_on_the_cpu_executes(
    build_vit: Callable[..., nn.Module],
) -> None:
    def build(device: torch.device) -> Callable[[], object]:
        with device:
            model = build_vit(fused=True, dim=32, depth=2, heads=4)
        return build_learner_step(model, device, fused=device.type == "cpu", batch_size=3)

    on_meta, on_cpu = step_flops(build), count(build(torch.device("cpu")))
    assert on_meta.device == "meta"
    assert on_meta.flops == on_cpu.flops
    assert on_meta.uncounted == on_cpu.uncounted == {}


@pytest.mark.gpu
def test_shapes_alone_give_what_the_gpu_executes(build_vit: Callable[..., nn.Module]) -> None:
    model = build_vit(fused=True).cuda()
    images, batch_size = torch.zeros(16, 3, 32, 32, device="cuda"), 16
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=torch.tensor(1e-3, device="cuda"), fused=True, capturable=True
    )

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            loss = model(images, {}).float().square().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    counted = count(step)
    assert counted.flops == batch_size * (3 * FORWARD - FIRST_INPUT_GRADIENT)
    assert counted.uncounted == {}


class Halting(nn.Module):
    """Applies a layer until the activations are small: how often, only the data say."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4, bias=False)
        nn.init.eye_(self.layer.weight)
        self.layer.weight.data.mul_(0.5)

    def forward(self, x: Tensor) -> Tensor:
        while x.abs().max() > 0.1:
            x = self.layer(x)
        return x


def test_a_step_that_reads_values_is_carried_out_on_the_cpu() -> None:
    def build(device: torch.device) -> Callable[[], object]:
        with device:
            model = Halting()
            x = torch.ones(2, 4)
        return lambda: model(x)

    step = step_flops(build)
    assert step.device == "cpu"
    assert "meta" in step.reason
    assert step.flops == 4 * 2 * 2 * 4 * 4  # 1, 1/2, 1/4, 1/8 are above 0.1


@pytest.mark.parametrize("trouble", ["fused", "autocast", "numpy", "nonzero"])
def test_what_the_meta_device_refuses_is_carried_out_on_the_cpu(trouble: str) -> None:
    def build(device: torch.device) -> Callable[[], object]:
        layer = nn.Linear(4, 4, device=device)
        x = torch.ones(2, 4, device=device)
        optimizer = torch.optim.AdamW(layer.parameters(), fused=trouble == "fused")

        def step() -> None:
            with torch.autocast(device.type) if trouble == "autocast" else nullcontext():
                layer(x).sum().backward()
            optimizer.step()
            if trouble == "numpy":
                x.numpy()
            if trouble == "nonzero":
                x[x > 0].sum()

        return step

    step = step_flops(build)
    assert step.device == "cpu"
    assert step.reason
    assert step.flops == 2 * (2 * 2 * 4 * 4)  # forward and the weight's gradient


def test_an_error_of_the_step_itself_arrives() -> None:
    def build(device: torch.device) -> Callable[[], object]:
        return lambda: torch.zeros(2, 3, device=device) @ torch.zeros(4, 5, device=device)

    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        step_flops(build)


def test_random_numbers_of_the_run_are_left_alone() -> None:
    def build(device: torch.device) -> Callable[[], object]:
        x = torch.randn(4, 4).to(device)
        return lambda: (x @ x).sum().item()

    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert step_flops(build).device == "cpu"
    assert torch.equal(torch.get_rng_state(), before)


class Dropping(nn.Module):
    """Half as wide in training as in evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8, bias=False)
        self.inner = nn.Dropout().eval()

    def forward(self, x: Tensor, knobs: Knobs) -> Tensor:
        kept: Tensor = self.layer(x[: knobs["keep"]] if self.training else x)
        return kept


def test_a_forward_pass_is_counted_in_the_mode_asked_for() -> None:
    model, x = Dropping().train(), torch.zeros(4, 8)
    model.inner.eval()
    assert count(forward_pass(model, x, {"keep": 2})).flops == 4 * 2 * 64
    assert count(forward_pass(model, x, {"keep": 2}, training=True)).flops == 2 * 2 * 64
    assert (model.training, model.inner.training) == (True, False)


def test_a_forward_pass_from_shapes(build_vit: Callable[..., nn.Module]) -> None:
    def build(device: torch.device) -> Callable[[], object]:
        return forward_pass(
            build_vit(fused=True).to(device), torch.zeros(7, 3, 32, 32, device=device), {}
        )

    assert step_flops(build).flops == 7 * FORWARD
