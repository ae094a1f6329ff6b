"""A forward pass as it is counted and timed: in a known mode, leaving the model as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def forward_pass(
    model: nn.Module, inputs: Tensor, knobs: Mapping[str, Any], *, training: bool = False
) -> Callable[[], object]:
    """Work for `count` and `step_flops`: one forward pass without gradients.

    In evaluation mode, or in training mode, where on a real device it moves the statistics of batch
    normalisation as training does.
    """

    def work() -> object:
        with in_mode(model, training=training), torch.no_grad():
            return model(inputs, knobs)

    return work


@contextmanager
def in_mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """The whole model in training or evaluation mode; afterwards each module in the mode it had."""
    before = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, was_training in before:
            module.training = was_training


@contextmanager
def without_fast_path() -> Iterator[None]:
    """torch's transformer layers run the operators they are made of, not one that hides them."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
