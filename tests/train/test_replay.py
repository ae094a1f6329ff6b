"""Recorded functions: the same kernels on new values, and nothing else moved."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from labctl.train.replay import Graphs


@pytest.mark.gpu
def test_a_replay_is_the_function_on_new_values() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(16, 16, device="cuda")

    def function(x: Tensor, flags: Tensor) -> tuple[Tensor, ...]:
        y = layer(x).tanh() @ layer.weight
        return torch.where(flags.unsqueeze(1), y, x), flags & (y.sum(1) > 0)

    graphs, first = Graphs(), None
    with torch.no_grad():
        for turn in range(4):
            x = torch.randn(5 + turn % 2, 16, device="cuda")
            flags = torch.rand(len(x), device="cuda") < 0.5
            found = graphs("function", function, x, flags)
            wanted = function(x, flags)
            assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))
            if first is None:
                first = found, [each.clone() for each in wanted]
            layer.weight.mul_(1.1)  # a replay sees what parameters have become
    kept, then = first
    assert all(torch.equal(one, other) for one, other in zip(kept, then, strict=True))


@pytest.mark.gpu
def test_recording_leaves_the_random_stream_alone() -> None:
    def noisy(x: Tensor) -> tuple[Tensor, ...]:
        return (nn.functional.dropout(x, 0.5),)

    x, graphs = torch.ones(1000, device="cuda"), Graphs()
    torch.manual_seed(3)
    recorded = [graphs("noisy", noisy, x)[0] for _ in range(3)]
    torch.manual_seed(3)
    eager = [noisy(x)[0] for _ in range(3)]
    assert all(torch.equal(one, other) for one, other in zip(recorded, eager, strict=True))
