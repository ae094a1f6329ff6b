"""What a user reads while runs train."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from rich.console import Console

from labctl.execute.display import Bars, Lines, Watched
from labctl.execute.duration import lasting
from labctl.plans.plan import Part
from labctl.store.atomic import write_json
from labctl.store.journal import JournalWriter
from labctl.store.run import Run
from labctl.store.status import Status


def planned(lab: Any) -> Run:
    job, run = lab.jobs("tiny", "seeds=[1]")[0], lab.runs("tiny", "seeds=[1]")[0]
    run.create(job.plan, {})
    return run


def test_lines_tell_evaluations_once_and_measurements_by_name(lab: Any) -> None:
    run = planned(lab)
    out = io.StringIO()
    lines = Lines(Console(file=out))
    watched = Watched(run)
    lines.began(watched)
    journal = JournalWriter(run.folder, 1, 0, {})
    journal.metrics(44, {"train/loss": 2.0, "knob/token_drop": 0.0}, seconds=1.0, steps=44)
    journal.metrics(88, {"test/acc": 0.5, "test/loss": 1.25, "test/as_trained/acc": 0.4})
    journal.metrics(264, {"maps/entropy": 3.0, "maps/kept": 41.0})
    for _ in range(3):
        lines.refresh([watched])
    lines.ended(watched, Status.DONE, "")
    journal.close()
    told = out.getvalue().splitlines()
    assert told[0].startswith("tiny seed=1  begins: 264 steps, key ")
    assert told[1:] == [
        "tiny seed=1  ep 2/6  test/acc 50.00%  test/loss 1.25  token_drop 0",
        "tiny seed=1  ep 6/6  measured maps",
        "tiny seed=1  DONE",
    ]


def test_a_run_that_is_opened_again_says_what_for(lab: Any) -> None:
    run = planned(lab)
    journal = JournalWriter(run.folder, 1, 0, {})
    journal.metrics(50, {"train/loss": 2.0}, steps=50)
    journal.record("checkpoint", 40)
    journal.close()
    assert Watched(run).opening == "begins: 264 steps"
    run.checkpoint_path.write_bytes(b"whatever it holds")
    assert Watched(run).opening == "goes on from step 40 of 264"
    write_json(run.end_path, {"status": "STOPPED"})
    assert Watched(run).opening == "goes on from step 40 of 264"
    write_json(run.end_path, {"status": "DONE"})
    parts = tuple(Part(name=name, plugin="p", config={}) for name in ("maps", "other"))
    run.create(run.plan.model_copy(update={"measures": parts}), {})
    assert Watched(run).opening == "measures maps, other"
    run.create(run.plan.model_copy(update={"measures": ()}), {})
    assert Watched(run).opening == "has ended"


def test_bars_show_loss_accuracy_knobs_pace_and_time_left(lab: Any, tmp_path: Path) -> None:
    run = planned(lab)
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=160)
    watched = Watched(run)
    journal = JournalWriter(run.folder, 1, 0, {})
    with Bars(console) as bars:
        bars.began(watched)
        values = {"train/loss": 2.0, "train/acc": 0.25, "knob/token_drop": 0.0}
        journal.metrics(132, values, seconds=6.6, steps=132)
        watched.seconds_per_step = 0.05
        bars.refresh([watched])
        assert watched.summary == "loss 2  acc 25.00%  640 examples/s  7s left  token_drop 0.0625"
        bars.ended(watched, Status.DIVERGED, "loss stopped being finite")
    journal.close()
    assert "DIVERGED" in out.getvalue() and "loss stopped being finite" in out.getvalue()


def test_a_warning_is_told_on_a_terminal_as_well_and_once(lab: Any) -> None:
    run = planned(lab)
    for make in (Bars, Lines):
        out = io.StringIO()
        with make(Console(file=out, force_terminal=True, width=160)) as display:
            watched = Watched(run)
            display.began(watched)
            journal = JournalWriter.of_next_attempt(run.folder, 0, {})
            journal.record("warning", 0, message="checkpoint.pt: truncated")
            for _ in range(3):
                display.refresh([watched])
            display.ended(watched, Status.DONE, "")
            journal.close()
        assert out.getvalue().count("tiny seed=1  checkpoint.pt: truncated") == 1


def test_a_damaged_line_of_a_journal_is_passed_over(lab: Any) -> None:
    run = planned(lab)
    watched = Watched(run)
    journal = JournalWriter(run.folder, 1, 0, {})
    with journal.path.open("a") as file:
        file.write('{"kind": "metrics"}\n[1]\nnot a record\n')
    journal.metrics(44, {"train/loss": 2.0})
    journal.close()
    watched.refresh()
    assert watched.step == 44 and watched.latest == {"train/loss": 2.0}


def test_lengths_of_time() -> None:
    assert [lasting(s) for s in (0.4, 59.6, 61, 3599, 20580)] == [
        "0s", "1m 00s", "1m 01s", "59m 59s", "5h 43m",
    ]  # fmt: skip
