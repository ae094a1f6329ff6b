from __future__ import annotations

import torch
from torch.nn import functional as F

from labctl.train.streams import seed_global, seed_of, stream


def test_streams_are_reproducible_and_apart() -> None:
    seeds = {
        seed_of(s, use, i)
        for s in range(4)
        for use in ("init", "shuffle", "dropout")
        for i in range(50)
    }
    assert len(seeds) == 4 * 3 * 50
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert torch.equal(
        torch.rand(5, generator=stream(1, "a", 2)), torch.rand(5, generator=stream(1, "a", 2))
    )
    draws = torch.stack([torch.rand(2000, generator=stream(0, "augment", i)) for i in range(8)])
    correlation = torch.corrcoef(draws) - torch.eye(8)
    assert correlation.abs().max() < 4.5 / 2000**0.5


def test_the_stream_of_a_use_is_pinned() -> None:
    """A change here changes every result: raise labctl.plans.key.NUMERICS with it."""
    assert seed_of(42, "dropout", 7) == 3803059556129463798


def test_seeding_does_what_torch_does() -> None:
    seed_global(42, "dropout", 7)
    state = torch.get_rng_state()
    torch.manual_seed(3803059556129463798)
    assert torch.equal(torch.get_rng_state(), state)


def test_dropout_follows_the_global_stream() -> None:
    x = torch.ones(100)
    seed_global(3, "dropout", 5)
    first = F.dropout(x, 0.5)
    torch.rand(17)
    seed_global(3, "dropout", 5)
    assert torch.equal(F.dropout(x, 0.5), first)
    seed_global(3, "dropout", 6)
    assert not torch.equal(F.dropout(x, 0.5), first)
