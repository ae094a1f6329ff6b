"""Numbers of tokens and their cost: the arithmetic that everything else relies on."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import floor
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.api import DataSpec

Make = Callable[..., Any]
Modules = Callable[[str], ModuleType]

RANDOM = {"saliency": "random"}
MODES: list[tuple[dict[str, Any], list[int], float]] = [
    ({"where": "compound"}, [41, 26, 16, 10, 6, 3, 1, 1], 0.291),
    ({"where": "once", "drop_at": 0}, [41] * 8, 0.673),
    ({"where": "once", "drop_at": 2}, [64, 64, 41, 41, 41, 41, 41, 41], 0.759),
    ({"where": "input"} | RANDOM, [41] * 8, 0.658),
    ({"where": "spread"}, [61, 57, 54, 52, 49, 46, 44, 42], 0.815),
    ({"where": "stages"}, [64, 64, 42, 42, 28, 28, 19, 19], 0.649),
    ({"where": "ltd"} | RANDOM, [64, 41, 41, 41, 41, 41, 41, 64], 0.743),
]
"""Of CIFAR-100 at the paper's size and d = 0.35: patches in each block's MLP, share of the MACs."""

ABLATION: list[tuple[float, float, float, float, float, float, float]] = [
    (0.5, 0.2324, 48.66, 0.782, 0.771, 0.828, 0.467),
    (1.0, 0.1916, 51.28, 0.819, 0.810, 0.858, 0.543),
    (1.5, 0.1671, 52.83, 0.841, 0.833, 0.875, 0.593),
    (2.0, 0.1508, 53.85, 0.856, 0.849, 0.886, 0.629),
    (3.0, 0.1304, 55.12, 0.874, 0.868, 0.901, 0.675),
]
"""Gamma; over 200 epochs the means of d, patches, and MACs of once at 0, input, ltd, compound."""


def asked(gamma: float) -> list[float]:
    """The paper's curriculum at its 200 epochs."""
    return [0.35 * min(max((epoch - 20) / 140, 0), 1) ** gamma for epoch in range(200)]


@pytest.mark.parametrize(("fields", "chain", "ratio"), MODES)
def test_modes_keep_and_cost_what_they_should(
    ctd: Modules,
    ctd_config: Make,
    cifar100: DataSpec,
    fields: dict[str, Any],
    chain: list[int],
    ratio: float,
) -> None:
    config = ctd_config(**fields)
    macs = ctd("cost").forward_macs
    assert list(ctd("tokens").token_chain(config, 64, 0.35)) == chain
    assert macs(config, cifar100, 0.35) / macs(config, cifar100, 0.0) == pytest.approx(
        ratio, abs=6e-4
    )


def test_forward_of_the_paper_costs_995_mmac(
    ctd: Modules, ctd_config: Make, cifar100: DataSpec
) -> None:
    width, tokens = 384, 65
    stem = 9 * (3 * 64 * 32 * 32 + 64 * 128 * 16 * 16 + 128 * 384 * 8 * 8)
    blocks = 8 * (12 * tokens * width**2 + 2 * tokens**2 * width)
    macs = ctd("cost").forward_macs(ctd_config(), cifar100, 0.0)
    assert macs == stem + blocks + 100 * width == 995_077_632


@pytest.mark.parametrize(
    ("stem", "mmac"), [("pool", 48.96), ("stride", 33.47), ("late_pool", 190.5)]
)
def test_stems_cost_what_they_should(
    ctd: Modules, ctd_config: Make, cifar100: DataSpec, stem: str, mmac: float
) -> None:
    macs = ctd("cost").stem_macs(ctd_config(stem=stem), cifar100)
    assert macs / 1e6 == pytest.approx(mmac, rel=2e-4)


@pytest.mark.parametrize("row", ABLATION)
def test_a_gamma_of_the_paper_saves_what_it_can(
    ctd: Modules, ctd_config: Make, cifar100: DataSpec, row: tuple[float, ...]
) -> None:
    gamma, mean_drop, mean_patches, *ratios = row
    drops = asked(gamma)
    kept, macs = ctd("tokens").kept, ctd("cost").forward_macs
    assert sum(drops) / 200 == pytest.approx(mean_drop, abs=5e-5)
    assert sum(kept(64, drop) for drop in drops) / 200 == pytest.approx(mean_patches, abs=6e-3)
    modes: tuple[dict[str, Any], ...] = (
        {"drop_at": 0},
        {"where": "input"} | RANDOM,
        {"where": "ltd"} | RANDOM,
        {"where": "compound"},
    )
    for fields, ratio in zip(modes, ratios, strict=True):
        config = ctd_config(**fields)
        mean = sum(macs(config, cifar100, drop) for drop in drops) / 200
        assert mean / macs(config, cifar100, 0.0) == pytest.approx(ratio, abs=6e-4)


def test_ladder_of_the_paper_has_seven_rungs(ctd: Modules, ctd_config: Make) -> None:
    tokens = ctd("tokens")
    reached = {tokens.kept(64, drop) for drop in asked(1.5)}
    assert len(reached) == 24
    rungs = {tokens.kept(64, drop) for drop in tokens.ladder(ctd_config(), 64, asked(1.5))}
    assert sorted(rungs) == [41, 44, 48, 52, 56, 60, 64]


def test_ladder_gives_the_nearest_rung_and_of_two_the_larger(
    ctd: Modules, ctd_config: Make
) -> None:
    tokens = ctd("tokens")
    counts = [64, 63, 62, 61, 58, 57, 46, 43, 42, 41]
    given = tokens.ladder(ctd_config(), 64, [1 - count / 64 for count in counts])
    assert [tokens.kept(64, drop) for drop in given] == [64, 64, 64, 60, 60, 56, 48, 44, 41, 41]


def test_without_a_bucket_the_ladder_is_what_was_asked(ctd: Modules, ctd_config: Make) -> None:
    assert ctd("tokens").ladder(ctd_config(bucket=None), 64, [0.0, 0.123, 0.35]) == [
        0.0,
        0.123,
        0.35,
    ]


@given(
    patches=st.integers(2, 300),
    bucket=st.integers(1, 40),
    shares=st.lists(st.floats(0, 1), min_size=1, max_size=60),
)
def test_ladder_properties(
    ctd: Modules, ctd_config: Make, patches: int, bucket: int, shares: list[float]
) -> None:
    tokens = ctd("tokens")
    config = ctd_config(bucket=bucket)
    drops = [share * (1 - 1 / patches) for share in shares]
    wanted = [tokens.kept(patches, drop) for drop in drops]
    given_drops = tokens.ladder(config, patches, drops)
    got = [tokens.kept(patches, drop) for drop in given_drops]
    low, high = min(wanted), max(wanted)
    rungs = {low, high} | {k for k in range(low, high + 1) if k % bucket == 0}
    for drop, have, want in zip(given_drops, got, wanted, strict=True):
        assert 0 <= drop < 1
        assert drop == 1 - have / patches, "the ratio names the number of patches exactly"
        assert have in rungs
        assert all(abs(have - want) <= abs(rung - want) for rung in rungs)
    assert {low, high} <= set(got)
    assert tokens.ladder(config, patches, given_drops) == given_drops, "rungs stay where they are"


@given(patches=st.integers(1, 1000), drop=st.floats(0, 0.999))
def test_kept_is_the_floor_and_at_least_one(ctd: Modules, patches: int, drop: float) -> None:
    kept = ctd("tokens").kept(patches, drop)
    exact = patches * (1 - drop)
    assert kept == max(1, floor(exact)) or (kept == round(exact) and abs(exact - kept) < 1e-8)
    assert 1 <= kept <= patches


def test_kept_loses_none_to_float_error(ctd: Modules) -> None:
    assert floor(10 * (1 - 0.9)) == 0 and floor(50 * (1 - 0.42)) == 29
    assert [ctd("tokens").kept(100, hundredths / 100) for hundredths in range(100)] == [
        100 - hundredths for hundredths in range(100)
    ]


@given(
    where=st.sampled_from(["once", "compound", "input", "spread", "stages", "ltd"]),
    depth=st.integers(4, 24),
    patches=st.integers(2, 256),
    drop=st.floats(0, 0.99),
)
def test_chains_shrink_and_drop_nothing_at_zero(
    ctd: Modules, ctd_config: Make, where: str, depth: int, patches: int, drop: float
) -> None:
    chain = ctd("tokens").token_chain
    config = ctd_config(where=where, depth=depth, drop_at=depth // 3)
    assert chain(config, patches, 0.0) == (patches,) * depth
    counts = chain(config, patches, drop)
    assert len(counts) == depth
    assert all(1 <= count <= patches for count in counts)
    if where == "ltd":
        assert counts[0] == counts[-1] == patches and len(set(counts[1:-1])) == 1
    else:
        assert all(after <= before for before, after in pairwise(counts))


def test_stages_of_twelve_blocks_are_those_of_evit(ctd: Modules) -> None:
    assert ctd("tokens").stage_blocks(12) == (3, 6, 9)
    assert ctd("tokens").stage_blocks(8) == (2, 4, 6)


@pytest.mark.parametrize(
    ("stem", "side", "patches"),
    [
        ("pool", 32, 64), ("late_pool", 32, 64), ("stride", 32, 64), ("plain", 8, 64),
        ("pool", 28, 49), ("stride", 28, 49), ("pool", 30, 49), ("stride", 30, 64),
        ("pool", 64, 256),
    ],
)  # fmt: skip
def test_patches_of_an_image(
    ctd: Modules, ctd_config: Make, stem: str, side: int, patches: int
) -> None:
    spec = DataSpec("any", "1", "image", (1, side, side), 10, {"train": 1})
    assert ctd("tokens").num_patches(ctd_config(stem=stem), spec) == patches


def test_realised_says_what_a_drop_ratio_comes_to(
    ctd_card: Callable[[str], Any], ctd_config: Make, cifar100: DataSpec
) -> None:
    realised = ctd_card("ctd_vit").realised(ctd_config(drop_at=2), cifar100, {"token_drop": 0.35})
    blocks = [realised.pop(f"tokens_block{place}") for place in range(1, 9)]
    assert blocks == [64, 64, 41, 41, 41, 41, 41, 41]
    assert realised == {
        "tokens_mean": (2 * 64 + 6 * 41) / 8,
        "tokens_last": 41,
        "mac_ratio": pytest.approx(0.759, abs=5e-4),
    }
