from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labctl.builtin import CrossEntropyConfig
from labctl.data import digits
from labctl.data.batches import Batches
from labctl.data.examples import Windows
from labctl.errors import LabctlError
from labctl.recipe.document import Numerics
from labctl.registry.card import DataSpec, Places
from labctl.train.evaluation import evaluate
from labctl.train.learner import Objective
from labctl.train.losses import cross_entropy
from labctl.train.numerics import Arithmetic

CPU = torch.device("cpu")
ARITHMETIC = Arithmetic(Numerics(), CPU)


class Flat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)
        self.drop = nn.Dropout(0.5)

    def forward(self, inputs: Tensor, knobs: object) -> Tensor:
        return self.head(self.drop(inputs.flatten(1)))


def objective(smoothing: float = 0.0, spec: DataSpec = digits.SPEC) -> Objective:
    return Objective(
        {"cross_entropy": cross_entropy(CrossEntropyConfig(smoothing=smoothing), spec)}
    )


def test_uneven_last_batches_are_weighed_by_their_size() -> None:
    torch.manual_seed(0)
    model = Flat()
    test = Batches(digits.load(None, Places(()))["test"], digits.SPEC, CPU)
    result = evaluate(model, test, objective(0.1), {}, ARITHMETIC, 97, keep_predictions=True)
    everything = test.at(torch.arange(len(test)))
    model.eval()
    logits = model(everything.inputs, {})
    assert (
        abs(
            result.metrics["loss"]
            - F.cross_entropy(logits, everything.targets, label_smoothing=0.1).item()
        )
        < 1e-6
    )
    assert result.metrics["acc"] == (logits.argmax(1) == everything.targets).double().mean().item()
    assert result.predictions is not None and torch.equal(result.predictions, logits.argmax(1))
    assert result.targets is not None and torch.equal(result.targets, everything.targets)


def test_the_mode_of_the_model_is_left_as_it_was() -> None:
    model = Flat().train()
    test = Batches(digits.load(None, Places(()))["test"], digits.SPEC, CPU)
    evaluate(model, test, objective(), {}, ARITHMETIC, 500)
    assert model.training


def test_a_batch_without_any_target_adds_nothing() -> None:
    model, loaded = Flat(), digits.load(None, Places(()))["test"]
    labels = loaded.labels.clone()
    labels[-100:] = -100
    kept = loaded.subset(torch.arange(len(labels) - 100))
    found, expected = (
        evaluate(model, Batches(images, digits.SPEC, CPU), objective(), {}, ARITHMETIC, 50).metrics
        for images in (replace(loaded, labels=labels), kept)
    )
    assert found == pytest.approx(expected) and math.isfinite(found["loss"])


def test_logits_of_other_classes_than_the_data_are_said() -> None:
    class Wide(nn.Module):
        def forward(self, inputs: Tensor, knobs: object) -> Tensor:
            return inputs.new_zeros(len(inputs), 20)

    test = Batches(digits.load(None, Places(()))["test"], digits.SPEC, CPU)
    with pytest.raises(LabctlError, match="logits are of 20 classes, and digits has 10"):
        evaluate(Wide(), test, objective(), {}, ARITHMETIC, 50)


def test_tokens_without_a_target_do_not_count() -> None:
    spec = DataSpec("toy", "1", "tokens", (4,), 5, {"train": 3})
    windows = Windows.of(torch.tensor([0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1, 2]), 4)
    assert len(windows) == 3
    inputs, targets = windows.take(torch.tensor([2, 0]))
    assert inputs.tolist() == [[3, 4, 0, 1], [0, 1, 2, 3]] and targets.tolist() == [
        [4, 0, 1, 2],
        [1, 2, 3, 4],
    ]

    class Next(nn.Module):
        def forward(self, inputs: Tensor, knobs: object) -> Tensor:
            return 20.0 * F.one_hot((inputs + 1) % 5, 5).float()

    result = evaluate(Next(), Batches(windows, spec, CPU), objective(spec=spec), {}, ARITHMETIC, 2)
    assert result.metrics["acc"] == 1.0 and result.metrics["loss"] < 1e-6
