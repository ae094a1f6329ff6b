from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from labctl.store.journal import Journal, JournalWriter, glance, segments

Attempt = Callable[[Path, int, int], JournalWriter]


@pytest.fixture
def attempt() -> Iterator[Attempt]:
    with ExitStack() as stack:

        def begin(folder: Path, number: int, from_step: int) -> JournalWriter:
            writer = JournalWriter(folder, number, from_step, {"device": "cpu"})
            stack.callback(writer.close)
            return writer

        yield begin


def test_values_come_back_bit_for_bit(attempt: Attempt, tmp_path: Path) -> None:
    writer = attempt(tmp_path, 1, 0)
    values = {"a": 0.1 + 0.2, "b": 1e-310, "c": -0.0, "d": float(2**53 + 1)}
    writer.metrics(3, values)
    curves = Journal.read(tmp_path).curves
    assert {name: curve[3] for name, curve in curves.items()} == values
    assert math.copysign(1, curves["c"][3]) == -1


def test_values_that_are_not_finite_stay_valid_json(attempt: Attempt, tmp_path: Path) -> None:
    attempt(tmp_path, 1, 0).metrics(1, {"loss": float("nan"), "norm": float("inf")})
    for line in segments(tmp_path)[0].read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    curves = Journal.read(tmp_path).curves
    assert math.isnan(curves["loss"][1]) and curves["norm"][1] == math.inf


def test_a_resumed_attempt_supersedes_what_lies_beyond_it(attempt: Attempt, tmp_path: Path) -> None:
    first = attempt(tmp_path, 1, 0)
    for step in (10, 20, 30):
        first.metrics(step, {"loss": float(step)})
        first.record("checkpoint", step) if step == 20 else None
    assert Journal.read(tmp_path).durable_step == 20
    second = attempt(tmp_path, 2, 20)
    second.metrics(30, {"loss": -30.0})
    journal = Journal.read(tmp_path)
    assert journal.curves == {"loss": {10: 10.0, 20: 20.0, 30: -30.0}}
    assert journal.attempts == 2
    third = attempt(tmp_path, 3, 0)
    third.metrics(10, {"loss": 1.0})
    assert Journal.read(tmp_path).curves == {"loss": {10: 1.0}}


def test_an_end_is_forgotten_when_the_run_goes_on(attempt: Attempt, tmp_path: Path) -> None:
    first = attempt(tmp_path, 1, 0)
    first.metrics(10, {"loss": 1.0})
    first.record("checkpoint", 10)
    first.record("end", 10, status="STOPPED")
    assert [record.kind for record in Journal.read(tmp_path).of("end")] == ["end"]
    attempt(tmp_path, 2, 10)
    journal = Journal.read(tmp_path)
    assert not list(journal.of("end"))
    assert journal.durable_step == 10


@pytest.mark.parametrize("cut", range(1, 40, 7))
def test_a_last_line_cut_anywhere_is_left_out_without_complaint(
    attempt: Attempt, tmp_path: Path, cut: int
) -> None:
    writer = attempt(tmp_path, 1, 0)
    writer.metrics(1, {"loss": 1.0})
    writer.metrics(2, {"loss": 2.0})
    path = segments(tmp_path)[0]
    path.write_bytes(path.read_bytes()[:-cut])
    journal = Journal.read(tmp_path)
    assert journal.curves["loss"][1] == 1.0
    assert not journal.damage


def test_damage_inside_is_named_by_line(attempt: Attempt, tmp_path: Path) -> None:
    writer = attempt(tmp_path, 1, 0)
    for step in range(1, 4):
        writer.metrics(step, {"loss": float(step)})
    path = segments(tmp_path)[0]
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = b"\x00\xff garbage\n"
    lines[2] = b'{"kind": "metrics"}\n'
    path.write_bytes(b"".join(lines))
    journal = Journal.read(tmp_path)
    assert journal.damage == ("0001.jsonl:2: not a record", "0001.jsonl:3: not a record")
    assert journal.curves == {"loss": {3: 3.0}}


def test_an_attempt_never_writes_into_another_ones_segment(
    attempt: Attempt, tmp_path: Path
) -> None:
    from labctl.errors import EnvironmentProblem

    attempt(tmp_path, 1, 0)
    with pytest.raises(EnvironmentProblem):
        attempt(tmp_path, 1, 0)


@pytest.mark.parametrize("seed", range(12))
def test_a_glance_finds_what_a_reading_does(attempt: Attempt, tmp_path: Path, seed: int) -> None:
    """Attempts that begin anywhere before the end of the last, checkpoints journalled late."""
    draws, reached = random.Random(seed), 0
    for number in range(1, 2 + seed % 4):
        step = draws.randint(0, reached)
        writer = attempt(tmp_path, number, step)
        for _ in range(draws.randint(0, 6)):
            saved, step = step, step + draws.randint(1, 5)
            names = draws.sample(["test/acc", "val/acc", "train/loss"], draws.randint(1, 2))
            writer.metrics(step, {name: draws.random() for name in names})
            if draws.random() < 0.5:
                writer.record("checkpoint", saved)
        reached = step
    read = Journal.read(tmp_path)
    for metrics in (("test/acc", "val/acc"), ("val/acc",), ("test/top5",)):
        known = [(name, read.last[name]) for name in metrics if name in read.last]
        assert glance(tmp_path, metrics) == (reached, known[0] if known else None)


def test_a_glance_passes_over_what_is_no_record(attempt: Attempt, tmp_path: Path) -> None:
    assert glance(tmp_path, ("test/acc",)) == (0, None)
    attempt(tmp_path, 1, 0).metrics(7, {"test/acc": 0.5})
    with segments(tmp_path)[0].open("a") as file:
        file.write('not a record\n{"kind": "metrics", "st')
    assert glance(tmp_path, ("test/acc",)) == (7, ("test/acc", 0.5))
