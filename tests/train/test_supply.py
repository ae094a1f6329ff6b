"""Batches made several at once against batches made one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from labctl.data.batches import Batches
from labctl.data.decisions import Decisions
from labctl.data.draws import Draws
from labctl.data.examples import Batch, Images, Windows
from labctl.recipe.augment import Augment, Erase
from labctl.registry.card import DataSpec
from labctl.train import supply
from labctl.train.streams import stream
from labctl.train.supply import Supply

CPU = torch.device("cpu")
SIZE, SEED = 8, 5
AUGMENT = Augment(crop=2, flip=True, policy="autoaugment_cifar10", erase=Erase(probability=0.5))


def images(count: int) -> Batches:
    shape = (3, 12, 10)
    spec = DataSpec("some", "1", "image", shape, 10, {}, (0.5,) * 3, (0.2,) * 3)
    draws = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, *shape), generator=draws).to(torch.uint8)
    return Batches(Images(pixels, torch.arange(count) % 10), spec, CPU)


def work(count: int, **settings: Any) -> Any:
    """As much of a run's work as decides about its batches; three epochs."""
    given = {
        "batch_size": SIZE,
        "steps_per_epoch": -(-count // SIZE),
        "steps": 3 * -(-count // SIZE),
        "seed": SEED,
        "data": SimpleNamespace(augment=AUGMENT),
    }
    return SimpleNamespace(**given | settings)


def one_by_one(batches: Batches, work: Any) -> Iterator[Batch]:
    for step in range(work.steps):
        epoch, position = divmod(step, work.steps_per_epoch)
        order = torch.randperm(len(batches), generator=stream(SEED, "shuffle", epoch))
        index = order[position * SIZE : (position + 1) * SIZE]
        draws = Draws.alone(len(index), stream(SEED, "augment", step))
        yield batches.at(index, Decisions.drawn(draws, (12, 10), AUGMENT))


def assert_same(one: Batch, other: Batch) -> None:
    for field in fields(Batch):
        a, b = getattr(one, field.name), getattr(other, field.name)
        assert (a is None and b is None) or torch.equal(a, b), field.name


@pytest.mark.parametrize("ahead", [1, 3, 100])
def test_a_batch_is_the_same_however_many_are_made_with_it(
    ahead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last of an epoch is smaller here; a resumed run begins in the midst of one."""
    monkeypatch.setattr(supply, "VALUES_CACHED", ahead * SIZE * 360)
    batches, given = images(45), work(45)
    expected = list(one_by_one(batches, given))
    assert Supply(batches, given, torch.float32).ahead == ahead
    for start in (0, 4, 17):
        supplied = Supply(batches, given, torch.float32)
        for step in range(start, given.steps):
            assert_same(supplied.at(step), expected[step])


def test_a_batch_has_memory_of_its_own() -> None:
    supplied = Supply(images(45), work(45), torch.bfloat16)
    first, second = supplied.at(0), supplied.at(1)
    assert first.inputs.dtype == torch.bfloat16
    for batch in (first, second):
        for tensor in (batch.inputs, batch.targets, batch.index):
            assert tensor.storage_offset() == 0
            assert tensor.untyped_storage().nbytes() == tensor.nbytes


def test_every_epoch_has_every_example_once() -> None:
    given = work(45)
    supplied = Supply(images(45), given, torch.float32)
    seen = torch.cat([supplied.at(step).index for step in range(given.steps)]).view(3, 45)
    assert all(torch.equal(epoch.sort().values, torch.arange(45)) for epoch in seen)
    assert not torch.equal(seen[0], seen[1])


def test_windows_of_tokens_are_the_streams() -> None:
    stream_of_tokens = torch.arange(100) % 7
    spec = DataSpec("text", "1", "tokens", (6,), 7, {})
    batches = Batches(Windows.of(stream_of_tokens, 6), spec, CPU)
    supplied = Supply(batches, work(len(batches)), torch.float32)
    batch = supplied.at(0)
    for position, inputs, targets in zip(batch.index, batch.inputs, batch.targets, strict=True):
        assert torch.equal(inputs, stream_of_tokens[6 * position :][:6])
        assert torch.equal(targets, stream_of_tokens[6 * position + 1 :][:6])
