"""The exact losses of a run's first steps."""

from __future__ import annotations

from pathlib import Path

import torch

from labctl.store.journal import FIRST_LOSSES, Journal, JournalWriter
from labctl.train.first_losses import FirstLosses
from labctl.train.learner import Metrics


def third(of: float) -> Metrics:
    return {"loss": (torch.tensor(of), torch.tensor(3.0))}


def recorded(folder: Path) -> list[tuple[int, int, list[str]]]:
    records = Journal.read(folder).of("first_losses")
    return [(r.step, r.fields["of_step"], r.fields["losses"]) for r in records]


def test_losses_are_journalled_to_the_last_bit_and_once(tmp_path: Path) -> None:
    journal, first = JournalWriter(tmp_path, 1, 0, {}), FirstLosses()
    for step in range(FIRST_LOSSES + 2):
        first.add(step, third(step / 7))
    first.record(journal, FIRST_LOSSES)
    first.record(journal, FIRST_LOSSES + 2)
    journal.close()
    ((step, of_step, losses),) = recorded(tmp_path)
    assert (step, of_step, len(losses)) == (FIRST_LOSSES, 0, FIRST_LOSSES)
    exact = [torch.tensor(i / 7) / 3 for i in range(FIRST_LOSSES)]
    assert [torch.tensor(float(loss)) for loss in losses] == exact


def test_losses_before_a_checkpoint_are_told_with_those_after_it(tmp_path: Path) -> None:
    journal, before, after = JournalWriter(tmp_path, 1, 2, {}), FirstLosses(), FirstLosses()
    before.add(0, third(3.0))
    after.load(before.losses, torch.device("cpu"))
    after.add(1, third(6.0))
    after.record(journal, 2)
    journal.close()
    assert recorded(tmp_path) == [(2, 0, ["1.0", "2.0"])]
