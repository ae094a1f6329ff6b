"""Counts of what the host hands out, against code whose operators can be counted by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from labctl.measure.launches import kernel_launches, operators


def test_operators_are_counted_and_views_are_not() -> None:
    matrix = torch.ones(3, 3)
    assert operators(lambda: matrix @ matrix) == 1
    assert operators(lambda: (matrix @ matrix).t()[0] + 1) == 2
    assert operators(lambda: matrix.t()) == 0


def test_the_way_back_is_counted() -> None:
    weight = nn.Parameter(torch.ones(3, 3))
    inputs = torch.ones(2, 3)
    forward = operators(lambda: (inputs @ weight).sum())
    both = operators(lambda: torch.autograd.backward((inputs @ weight).sum()))
    assert forward == 2 and both > forward


@pytest.mark.gpu
def test_a_recorded_graph_is_one_launch() -> None:
    matrix = torch.ones(64, 64, device="cuda")

    def work() -> None:
        for _ in range(10):
            matrix.add(1)

    work()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    assert kernel_launches(work) == 10
    assert kernel_launches(graph.replay) == 1
