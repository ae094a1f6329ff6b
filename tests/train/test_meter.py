"""Energy is what the device's own counter went up by, and is not told where there is none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
import torch

from labctl.registry.card import Places
from labctl.reports.result import result_of
from labctl.store.journal import Journal
from labctl.train import meter as meters
from labctl.train.assembly import Assembly
from labctl.train.meter import Meter
from labctl.train.training import Training

CUDA = torch.device("cuda")


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Millijoules that a device says it has drawn."""
    millijoules = [5_000]
    properties = SimpleNamespace(uuid="a4f31f85")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", lambda uuid: {"GPU-a4f31f85": 7}[uuid])
    monkeypatch.setattr(
        pynvml, "nvmlDeviceGetTotalEnergyConsumption", lambda handle: {7: millijoules[-1]}[handle]
    )
    return millijoules


def test_each_answer_is_what_was_drawn_since_the_one_before(counter: list[int]) -> None:
    meter = Meter(CUDA)
    counter.append(5_250)
    assert meter.drawn() == 0.25
    assert meter.drawn() == 0.0
    counter.append(9_250)
    assert meter.drawn() == 4.0


@pytest.mark.parametrize("name", ["nvmlInit", "nvmlDeviceGetTotalEnergyConsumption"])
def test_a_device_that_does_not_count_tells_nothing(
    counter: list[int], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def refused(*arguments: Any) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    monkeypatch.setattr(pynvml, name, refused)
    assert Meter(CUDA).drawn() is None


def test_a_cpu_tells_nothing() -> None:
    assert Meter(torch.device("cpu")).drawn() is None


class Told:
    """A meter that is due and tells these one after the other."""

    def __init__(self, *joules: float) -> None:
        self.drawn, self.is_due = iter(joules).__next__, True


def test_it_is_due_when_the_last_reading_is_old(
    counter: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(meters.time, "monotonic", lambda: now[-1])
    meter = Meter(CUDA)
    assert not meter.is_due
    now.append(100.0 + meters.EVERY_SECONDS)
    assert meter.is_due and not Meter(torch.device("cpu")).is_due
    meter.drawn()
    assert not meter.is_due


def test_a_run_journals_its_share_of_what_was_drawn(lab: Any) -> None:
    """At ends of stretches of steps where the meter is due, and at the very end; between them,
    whatever happened there."""
    (job, *others), (run, *_) = lab.jobs("tiny", "runtime.log_every=2step"), lab.runs("tiny")
    run.create(job.plan, {})
    assembly = Assembly(job.plan, lab.registry, Places(lab.project.data_roots))
    training = Training(run, assembly, torch.device("cpu"), {})
    training.meter = Told(8.0, 6.0, 1.0)  # type: ignore[assignment]
    training.advance(2)
    training.stopwatch.attend([job.plan, *(other.plan for other in others)])
    training.meter.is_due = False  # type: ignore[misc]
    training.advance(2)
    training.meter.is_due = True  # type: ignore[misc]
    training.advance(2)
    training.end("STOPPED")
    journal = Journal.read(run.folder)
    drawn = [record.fields["joules"] for record in journal.records if "joules" in record.fields]
    assert drawn == [8.0, 3.0, 0.5]


def test_what_was_drawn_last_is_kept_when_the_run_is_opened_again(lab: Any) -> None:
    """Though the word of how an attempt ended is not."""
    (job, *_), (run, *_) = lab.jobs("tiny", "runtime.log_every=2step"), lab.runs("tiny")
    run.create(job.plan, {})
    for joules in (5.0, 7.0):
        assembly = Assembly(job.plan, lab.registry, Places(lab.project.data_roots))
        training = Training(run, assembly, torch.device("cpu"), {"workers": 1})
        training.meter = Told(joules)  # type: ignore[assignment]
        training.meter.is_due = False  # type: ignore[misc]
        training.advance(2)
        training.checkpoint()
        training.end("STOPPED")
    assert result_of(run).joules == 12.0
