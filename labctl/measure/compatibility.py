"""The figure that papers quote: multiply-accumulates as fvcore counts them.

It is kept for comparison alone. fvcore calls a multiply-accumulate one FLOP and adds a few FLOPs
per element of some normalisations; it counts fused attention as nothing, which is mended here.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from math import prod
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from labctl.errors import EnvironmentProblem
from labctl.measure.forward import in_mode, without_fast_path

CONVENTION = (
    "fvcore: 1 per multiply-accumulate, q k^T and a v of fused attention included; "
    "5 per element of layer_norm and group_norm, 2 of batch_norm; batch 1, evaluation mode"
)


@dataclass(frozen=True, slots=True)
class FvcoreFigure:
    """fvcore's count of one forward pass of one example."""

    total: int
    by_operator: dict[str, int]
    """By fvcore's names: `conv`, `linear`, `matmul`, `scaled_dot_product_attention`, ..."""
    convention: str
    unsupported: dict[str, int]
    """How often operators ran that fvcore counts as 0, cheap ones (`aten::softmax`) among them."""


def fvcore_macs(model: nn.Module, inputs: Tensor, knobs: Mapping[str, Any]) -> FvcoreFigure:
    """Trace one evaluation of the first example of `inputs` (B, ...), on the device it is on.

    Raises `EnvironmentProblem` if fvcore is not installed.
    """
    analysis_of = _fvcore().FlopCountAnalysis
    with (
        in_mode(model, training=False),
        without_fast_path(),
        torch.random.fork_rng(devices=[]),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        analysis = analysis_of(_Traceable(model, knobs), (inputs[:1],))
        analysis.set_op_handle("aten::scaled_dot_product_attention", _attention_macs)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        analysis.tracer_warnings("none")
        # einsum's count is a float that stands for an integer
        by_operator = {name: round(macs) for name, macs in analysis.by_operator().items()}
        unsupported = dict(analysis.unsupported_ops())
    return FvcoreFigure(sum(by_operator.values()), by_operator, CONVENTION, unsupported)


class _Traceable(nn.Module):
    """The model as the tracer needs it: only tensors come in, only tensors go out."""

    def __init__(self, model: nn.Module, knobs: Mapping[str, Any]) -> None:
        super().__init__()
        self.model, self.knobs = model, knobs

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(_tensors(self.model(inputs, self.knobs)))


def _tensors(value: object) -> Iterator[Tensor]:
    """Every tensor of an output: what leads to none of them is dropped from a trace."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _tensors(getattr(value, field.name))


def _attention_macs(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    """q k^T and a v: N M (K + V) per head, from (..., M, K) keys and (..., N, V) outputs."""
    key: list[int] = inputs[1].type().sizes()
    out: list[int] = outputs[0].type().sizes()
    return prod(out[:-1]) * key[-2] * (key[-1] + out[-1])


def _fvcore() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return import_module("fvcore.nn")
        except ModuleNotFoundError as error:
            if not str(error.name).startswith("fvcore"):
                raise
            raise EnvironmentProblem(
                "fvcore is not installed, so the figure that papers quote cannot be computed",
                hint="pip install fvcore",
            ) from error
