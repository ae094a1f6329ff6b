"""Runs of one worker: the same numbers as alone, and none falls with another."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from rich.console import Console
from torch._dynamo.utils import counters

from labctl.execute import attempt as attempts
from labctl.execute.attempt import Workbench
from labctl.execute.display import Lines
from labctl.execute.inline import carry_out_inline
from labctl.execute.options import Options
from labctl.execute.provenance import Provenance
from labctl.execute.rounds import work
from labctl.execute.stop import Stop
from labctl.execute.supervisor import Supervisor
from labctl.execute.width import Fixed
from labctl.registry.card import Places
from labctl.reports.result import result_of
from labctl.store.atomic import write_json
from labctl.store.run import Run
from labctl.store.status import Status
from labctl.train.assembly import Assembly
from labctl.train.training import Training

pytestmark = pytest.mark.slow

SHORT = ("data.val=1200", "batch_size=64", "schedules.token_drop=0")
"""18 steps of one kind."""


def assert_same(one: Run, other: Run) -> None:
    assert one.status is other.status is Status.DONE
    assert one.journal.curves == other.journal.curves
    weights = [torch.load(run.weights_path, weights_only=True) for run in (one, other)]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


def prepared(lab: Any, *overrides: str) -> list[Run]:
    provenance, jobs = Provenance(lab.registry), lab.jobs("tiny", *overrides)
    runs: list[Run] = lab.runs("tiny", *overrides)
    for job, run in zip(jobs, runs, strict=True):
        provenance.store(run, job.plan, job.recipe)
    return runs


@pytest.mark.gpu
@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("how", ["graphed", "eager", "compiled"])
def test_seeds_together_on_a_gpu_are_the_seeds_alone(
    make_lab: Callable[[str], Any], how: str
) -> None:
    """Dropout, augmentation, an average and a structural schedule; each on a stream of its own."""
    found = {}
    for number in (1, 4):
        lab = make_lab(f"{how}-{number}")
        engine = "numerics.compiled=true" if how == "compiled" else f"runtime.engine={how}"
        options = ("runtime.device=cuda", engine, "seeds=4", "model.dropout=0.1")
        carry_out_inline(lab.project, lab.registry, lab.jobs("tiny", *options), number)
        found[number] = lab.runs("tiny", *options)
    assert [run.journal.attempts for run in found[4]] == [1] * 4
    assert {c.replicas for run in found[4] for c in result_of(run).conditions} == {4}
    for alone, together in zip(found[1], found[4], strict=True):
        assert_same(alone, together)


def test_one_that_diverges_leaves_the_other_undisturbed(make_lab: Callable[[str], Any]) -> None:
    alone = make_lab("alone").train_here("tiny", "seeds=[1]", *SHORT)[0]
    lab = make_lab("together")
    wild = ("seeds=[2]", "schedules.lr.peak=1e9", "schedules.lr.warmup=0ep", *SHORT,
            "optimizer.clip_norm=null", "runtime.log_every=5step")  # fmt: skip
    runs = prepared(lab, "seeds=[1]", *SHORT) + prepared(lab, *wild)
    work(runs, (), Stop())
    assert runs[1].status is Status.DIVERGED
    assert_same(runs[0], alone)
    first, *_, last = (r.fields for r in runs[0].journal.of("metrics") if "steps" in r.fields)
    assert first["replicas"] == 2 and last["replicas"] == 1
    assert "seconds" not in first, "what two kinds of work take together cannot be told apart"
    assert "seconds" in last and result_of(runs[0]).conditions[0].replicas == 1


def test_one_that_finds_no_memory_beside_the_others_waits_for_them(
    make_lab: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, built = make_lab("lab"), list[int]()

    class Greedy(Training):
        """Where two are there already, a third is too many."""

        def __init__(self, run: Run, *rest: Any) -> None:
            living = [r for r in runs if r.status is Status.RUNNING and r.folder != run.folder]
            built.append(len(living))
            if len(living) == 2:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            super().__init__(run, *rest)

    monkeypatch.setattr(attempts, "Training", Greedy)
    runs = prepared(lab, "seeds=4", *SHORT)
    work(runs, (), Stop())
    assert [run.status for run in runs] == [Status.DONE] * 4
    assert built == [0, 1, 2, 0, 1] or built == [0, 1, 2, 1, 1]
    notes = [r.fields["why"] for r in runs[0].journal.of("together")]
    assert notes == ["2 together: the device has no memory for another one"]


def test_one_that_finds_no_memory_alone_has_failed(
    make_lab: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def greedy(*arguments: Any) -> Training:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(attempts, "Training", greedy)
    (run,) = prepared(make_lab("lab"), "seeds=[1]")
    work([run], (), Stop())
    assert run.status is Status.FAILED
    assert "out of device memory" in (run.end or {})["message"]


def test_one_that_outgrows_the_memory_beside_others_waits_for_them(
    make_lab: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It began alone; what others have taken since is no fault of its own."""
    squeezed = list[int]()

    class Growing(Training):
        def advance(self, steps: int) -> None:
            beside = [run for run in runs if run.status is Status.RUNNING]
            if self.work.seed == 0 and self.step == 5 and len(beside) > 1:
                squeezed.append(self.step)
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            super().advance(steps)

    monkeypatch.setattr(attempts, "Training", Growing)
    runs = prepared(make_lab("lab"), "seeds=2", *SHORT)
    work(runs, (), Stop())
    assert squeezed == [5]
    assert [run.status for run in runs] == [Status.DONE] * 2
    assert_same(runs[0], make_lab("alone").train_here("tiny", "seeds=[0]", *SHORT)[0])


def test_what_has_ended_gives_its_memory_back_before_the_next_begins(
    make_lab: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    models, alive = list[weakref.ref[Any]](), list[int]()

    class Noted(Training):
        def __init__(self, *arguments: Any) -> None:
            alive.append(sum(model() is not None for model in models))
            super().__init__(*arguments)
            models.append(weakref.ref(self.rig.model))

    monkeypatch.setattr(attempts, "Training", Noted)
    work(prepared(make_lab("lab"), "seeds=3", *SHORT), (), Stop(), width=Fixed(1))
    assert alive == [0, 0, 0]


def test_each_measures_by_its_own_code(make_lab: Callable[[str], Any]) -> None:
    """Plugins import what they measure with when they measure; the other's has the same name."""
    runs = prepared(make_lab("lab"), "seeds=2", *SHORT, "measure.attention_maps.images=8")
    with next(runs[1].source_path.rglob("maps.py")).open("a") as code:
        code.write("\nANOTHER = True\n")
    work(runs, (), Stop())
    assert [(run.status, run.end["message"]) for run in runs if run.end] == [(Status.DONE, "")] * 2


def test_runs_have_the_modules_of_those_that_stored_the_same_code_and_of_no_other(
    make_lab: Callable[[str], Any],
) -> None:
    one, alike, another = prepared(make_lab("lab"), "seeds=3")
    with next(another.source_path.rglob("model.py")).open("a") as code:
        code.write("\nANOTHER = True\n")
    bench = Workbench((), Stop(), None, {})
    plugins = [bench.plugins_of(run) for run in (one, alike, another)]
    cards = [each.load("ctd_vit").cards for each in plugins]
    assert cards[0] == cards[1]
    assert not {id(card) for card in cards[0]} & {id(card) for card in cards[2]}


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_what_was_compiled_for_one_seed_fits_the_others(make_lab: Callable[[str], Any]) -> None:
    torch.compiler.reset()
    counters.clear()
    runs = prepared(make_lab("lab"), "seeds=3", *SHORT, "numerics.compiled=true")
    work(runs, (), Stop())
    assert [run.status for run in runs] == [Status.DONE] * 3
    assert counters["stats"]["unique_graphs"] == 1


def test_a_waiting_run_whose_folder_is_gone_costs_the_others_nothing(
    make_lab: Callable[[str], Any],
) -> None:
    runs = prepared(make_lab("lab"), "seeds=3", *SHORT)
    runs[1].discard()
    work([Run(run.folder) for run in runs], (), Stop(), width=Fixed(1))
    assert [runs[0].status, runs[2].status] == [Status.DONE] * 2


def test_a_device_that_fails_the_process_leaves_no_run_with_the_blame(
    make_lab: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Faulty(Training):
        def advance(self, steps: int) -> None:
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(attempts, "Training", Faulty)
    lab = make_lab("lab")
    runs = prepared(lab, "seeds=2")
    with pytest.raises(attempts.Poisoned, match="illegal memory access"):
        work(runs, (), Stop())
    assert [run.end for run in runs] == [None, None]
    (alone,) = prepared(lab, "seeds=[7]")
    work([alone], (), Stop())
    assert alone.status is Status.FAILED


def test_data_of_the_same_name_by_other_code_are_other_data(make_lab: Callable[[str], Any]) -> None:
    lab = make_lab("lab")
    (plan, *_) = [job.plan for job in lab.jobs()]
    digests = {**plan.work.digests, plan.work.data.plugin: "another"}
    work_of_another = plan.work.model_copy(update={"digests": digests})
    another = plan.model_copy(update={"work": work_of_another})
    names = {Assembly(each, lab.registry, Places(())).shelf_name for each in (plan, another)}
    assert len(names) == 2


def test_runs_that_a_dead_worker_had_not_begun_are_tried_too(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their last word is an earlier attempt's."""
    runs, given = prepared(lab, "seeds=3"), list[int]()
    for run in runs:
        write_json(run.end_path, {"status": "STOPPED", "step": 0, "message": "", "time": 0.0})

    def spawn(self: Supervisor, runs: Sequence[Run], slot: Any) -> subprocess.Popen[bytes]:
        given.append(len(runs))
        slot.lock.release()
        return subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"])

    monkeypatch.setattr(Supervisor, "_spawn", spawn)
    options = Options(jobs=1, track=False, together=3)
    silent = Lines(Console(quiet=True))
    outcomes = Supervisor(lab.project, lab.registry, silent, options).carry_out(
        lab.jobs("tiny", "seeds=3")
    )
    assert given == [3, 1, 1, 1]
    assert len(outcomes) == 3


def test_no_worker_is_given_more_than_its_share(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other slot may only be busy for a moment."""
    given = list[int]()

    def spawn(self: Supervisor, runs: Sequence[Run], slot: Any) -> subprocess.Popen[bytes]:
        given.append(len(runs))
        slot.lock.release()
        return subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"])

    monkeypatch.setattr(Supervisor, "_spawn", spawn)
    monkeypatch.setattr(Supervisor, "_goes_alone", lambda *arguments: False)
    options = Options(jobs=2, track=False, together=6)
    silent = Lines(Console(quiet=True))
    Supervisor(lab.project, lab.registry, silent, options).carry_out(lab.jobs("tiny", "seeds=6"))
    assert given[0] == 3 and sum(given) == 6


def test_a_worker_that_dies_leaves_each_to_go_on_alone(make_lab: Callable[[str], Any]) -> None:
    """`--together 2`: one process has both, and they are what they are in one process each."""
    lab, calm = make_lab("killed"), make_lab("calm")
    how = ("tiny", "--jobs", "1", "--no-track", "batch_size=128", "runtime.checkpoint_seconds=0")
    process: subprocess.Popen[str] = lab.start("run", *how, "--together", "2")
    runs = lab.runs("tiny", *how[-2:])
    deadline = time.monotonic() + 90
    while any(run.journal.durable_step == 0 for run in runs):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    (pid,) = {begin.fields["pid"] for run in runs for begin in run.journal.of("begin")}
    os.kill(pid, signal.SIGKILL)
    output, _ = process.communicate(timeout=180)
    assert process.returncode == 0, output
    assert output.count("goes on alone: the worker that it shared died (SIGKILL)") == 2
    assert [run.journal.attempts for run in runs] == [2, 2]
    assert len({list(run.journal.of("begin"))[-1].fields["pid"] for run in runs}) == 2
    code, output = calm.labctl("run", *how, "--together", "off")
    assert code == 0, output
    for run, undisturbed in zip(runs, calm.runs("tiny", *how[-2:]), strict=True):
        assert_same(run, undisturbed)


@pytest.mark.parametrize("text", ["0", "many", "-1", "1.5"])
def test_what_is_no_number_of_runs_is_refused(lab: Any, text: str) -> None:
    code, output = lab.labctl("run", "tiny", "--together", text, "--no-track")
    assert code == 2
    assert f"--together {text} is no number of runs" in output
    assert "--together auto, 3 or off" in output


def test_an_engine_that_is_not_there_is_refused_before_anything_begins(lab: Any) -> None:
    code, output = lab.labctl("run", "tiny", "runtime.engine=graphed", "--no-track")
    assert code == 6, output
    assert "runtime.engine graphed needs CUDA; this is cpu" in output
    assert "runtime.engine=auto" in output
    assert not any(run.folder.exists() for run in lab.runs("tiny", "runtime.engine=graphed"))
