"""fvcore's figure: pinned, reconciled with the FLOP count, silent, and honest about attention."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from labctl.errors import EnvironmentProblem
from labctl.measure.compatibility import CONVENTION, fvcore_macs
from labctl.measure.flops import count
from labctl.measure.forward import forward_pass
from labctl.train.learner import Knobs, Output

IMAGES = torch.zeros(3, 3, 32, 32)
TOKENS, DIM, DEPTH = 65, 256, 6


def test_explicit_attention_gives_the_published_figure(build_vit: Callable[..., nn.Module]) -> None:
    figure = fvcore_macs(build_vit(fused=False), IMAGES, {})
    assert figure.total == 321_558_272
    assert figure.by_operator == {
        "conv": 786_432,
        "linear": 306_711_040,
        "matmul": 12_979_200,
        "layer_norm": 1_081_600,
    }
    assert figure.by_operator["layer_norm"] == 5 * TOKENS * DIM * (2 * DEPTH + 1)
    assert figure.convention == CONVENTION


def test_fused_attention_gives_the_same_figure(build_vit: Callable[..., nn.Module]) -> None:
    figure = fvcore_macs(build_vit(fused=True), IMAGES, {})
    assert figure.total == 321_558_272
    assert figure.by_operator["scaled_dot_product_attention"] == 12_979_200
    assert "aten::scaled_dot_product_attention" not in figure.unsupported


@pytest.mark.parametrize("fused", [False, True])
def test_figure_and_flops_are_reconciled(build_vit: Callable[..., nn.Module], fused: bool) -> None:
    model = build_vit(fused=fused)
    products = {**fvcore_macs(model, IMAGES, {}).by_operator}
    del products["layer_norm"]
    flops = count(forward_pass(model, IMAGES[:1], {})).flops
    assert flops == 640_953_344
    assert flops == 2 * sum(products.values())


class Cross(nn.Module):
    def forward(self, x: Tensor, knobs: Knobs) -> Tensor:
        keys = x[:, :, : knobs["keys"]]
        return nn.functional.scaled_dot_product_attention(x, keys, keys[..., :4])


def test_attention_over_fewer_keys_and_narrower_values() -> None:
    x = torch.zeros(1, 2, 9, 6)
    figure = fvcore_macs(Cross(), x, {"keys": 5})
    assert figure.total == 2 * 9 * 5 * (6 + 4)
    assert 2 * figure.total == count(lambda: Cross()(x, {"keys": 5})).flops


class Normalised(nn.Module):
    """Convolution, batch norm, a branch that only a loss reads, and an operator fvcore lacks."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
        self.branch = nn.Linear(4, 5)

    def forward(self, x: Tensor, knobs: Knobs) -> Output:
        pooled = self.norm(self.conv(x)).mean((2, 3)) * knobs["scale"]
        spectrum = torch.fft.rfft(pooled).abs()
        return Output(spectrum, {"branch": self.branch(pooled)})


def test_outputs_with_parts_are_traced_whole_and_unknown_operators_named() -> None:
    model = Normalised().train()
    figure = fvcore_macs(model, torch.zeros(2, 3, 8, 8), {"scale": torch.tensor(2.0)})
    assert figure.by_operator == {"conv": 64 * 12, "batch_norm": 2 * 64 * 4, "linear": 20}
    assert figure.unsupported["aten::fft_rfft"] == 1
    assert model.training
    assert model.norm.num_batches_tracked == 0


def test_transformer_layers_show_their_products() -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

        def forward(self, x: Tensor, knobs: Knobs) -> Tensor:
            encoded: Tensor = self.layer(x)
            return encoded

    model, x = Encoder(), torch.zeros(1, 5, 8)
    with torch.no_grad():
        figure = fvcore_macs(model, x, {})
    normalised = figure.by_operator.pop("layer_norm")
    assert normalised == 2 * 5 * 5 * 8
    assert 2 * (figure.total - normalised) == count(forward_pass(model, x, {})).flops


def test_figure_is_silent(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Linear(2, 2)

        def forward(self, x: Tensor, knobs: Knobs) -> Tensor:
            return x.sin() if x.sum() > 0 else x.cos()  # a value: the tracer warns of it

    with caplog.at_level(logging.DEBUG):
        assert fvcore_macs(Branching(), torch.ones(1, 2), {}).total == 0
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def test_a_missing_fvcore_is_a_problem_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fvcore.nn", None)
    with pytest.raises(EnvironmentProblem, match="fvcore is not installed") as caught:
        fvcore_macs(Cross(), torch.zeros(1, 2, 9, 6), {"keys": 5})
    assert caught.value.hint == "pip install fvcore"
