"""The figures of a bench: ratios, eta, and the file that holds them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labctl.errors import UsageError
from labctl.measure.speed import (
    Case,
    Launches,
    Matmul,
    Shares,
    Speed,
    Spread,
    eta,
    read_speed,
    write_speed,
)


def case(seconds: float, flops: int, **fields: Any) -> Case:
    default: dict[str, Any] = {
        "engine": "eager",
        "carried_out": "eager",
        "together": 1,
        "at": "0%",
        "at_step": 0,
        "structural": {},
        "steps": 10,
        "step_seconds": Spread(median=seconds, low=seconds / 2, high=2 * seconds),
        "step_flops": flops,
        "launches": Launches(unit="operators", as_written=7, as_carried_out=7),
        "shares": Shares(data=0.1, step=0.7, evaluation=0.15, tracking=0.05),
        "start_seconds": 3.0,
        "compile_seconds": 0.0,
        "capture_seconds": 0.0,
    }
    return Case(**{**default, **fields})


@pytest.fixture
def speed_of() -> Callable[..., Speed]:
    def build(*cases: Case) -> Speed:
        return Speed(
            recipe="x@smoke",
            point={"model.depth": 4},
            key="0123456789abcdef",
            precision="fp32",
            batch_size=64,
            unit="examples",
            per_step=64,
            environment={"device_name": "a device", "torch": "2.11"},
            matmul=Matmul(flops_per_second=2e12, size=2048, dtype="float32"),
            cases=cases,
        )

    return build


@pytest.mark.parametrize(
    ("time_ratio", "flops_ratio", "expected"),
    [
        (0.75, 0.75, 1.0),  # a quarter saved, a quarter shorter
        (1.0, 0.75, 0.0),  # saved for nothing
        (0.9, 0.8, 0.5),
        (1.1, 0.8, -0.5),  # it takes longer, for less
        (0.5, 1.0, None),
    ],
)
def test_eta_is_the_share_of_saved_flops_that_is_saved_time(
    time_ratio: float, flops_ratio: float, expected: float | None
) -> None:
    assert eta(time_ratio, flops_ratio) == (None if expected is None else pytest.approx(expected))


def test_a_rate_turns_the_spread_of_times_around(speed_of: Callable[..., Speed]) -> None:
    speed = speed_of(case(0.5, 10))
    rate = speed.rate(speed.cases[0])
    assert (rate.median, rate.low, rate.high) == (128, 64, 256)


def test_the_first_case_is_what_the_others_are_compared_with(
    speed_of: Callable[..., Speed],
) -> None:
    speed = speed_of(case(0.5, 10), case(0.25, 10), case(1.0, 10))
    assert [speed.ratio(each) for each in speed.cases] == [1, 2, 0.5]


def test_eta_compares_what_was_trained_alike(speed_of: Callable[..., Speed]) -> None:
    speed = speed_of(
        case(1.0, 100),
        case(4.0, 100, together=3),
        case(0.9, 80, at="100%"),
        case(3.2, 80, at="100%", together=3),
    )
    found = [speed.efficiency(each) for each in speed.cases]
    assert found[:2] == [None, None]
    assert [each.median for each in found[2:] if each] == pytest.approx([0.5, 1.0])


@pytest.mark.parametrize("flops", [80, 125])
def test_eta_is_as_uncertain_as_its_windows(speed_of: Callable[..., Speed], flops: int) -> None:
    """Windows of half and double the time: from 4 to 1/4 of the time before."""
    speed = speed_of(case(1.0, 100), case(1.0, flops, at="100%"))
    found = speed.efficiency(speed.cases[1])
    assert found is not None
    ends = sorted((1 - ratio) / (1 - flops / 100) for ratio in (4, 0.25))
    assert (found.low, found.median, found.high) == pytest.approx((ends[0], 0, ends[1]))


def test_what_was_written_is_read_back(speed_of: Callable[..., Speed], tmp_path: Path) -> None:
    speed = speed_of(case(0.5, 10, structural={"drop": 0.25, "mask": "dense"}), case(0.3, 9))
    write_speed(speed, tmp_path / "a.json")
    assert read_speed(tmp_path / "a.json") == speed
    write_speed(read_speed(tmp_path / "a.json"), tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_another_file_is_refused_with_its_name(
    speed_of: Callable[..., Speed], tmp_path: Path
) -> None:
    path = tmp_path / "x.json"
    with pytest.raises(UsageError, match=r"x\.json: cannot be read"):
        read_speed(path)
    for text, fault in (("{", "not JSON"), ('{"runs": []}', "not what labctl bench writes")):
        path.write_text(text)
        with pytest.raises(UsageError, match=fault):
            read_speed(path)
    write_speed(speed_of(case(0.5, 10)), path)
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "labctl_bench": 99}))
    with pytest.raises(UsageError, match="format 99"):
        read_speed(path)
    del content["cases"][0]["shares"]["data"]
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match=r"damaged: cases\.0\.shares\.data"):
        read_speed(path)
