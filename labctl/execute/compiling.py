"""Compile what a run's training comes to later: `python -m labctl.execute.compiling ORDER`.

A step of each later form is taken, with weights that nobody keeps. What the compiler made of it
stays in its cache.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from labctl.registry.registry import Registry
from labctl.store.run import Run
from labctl.train.cost import forgo_ledger

from .attempt import Workbench
from .stop import Stop
from .stretch import stretch

NICENESS = 10


def compile_later(run: Run, roots: tuple[Path, ...], scratch: Path) -> Iterator[int]:
    """Compile the form of each phase that `run`, which is being trained, has not come to.

    Args:
        roots: where data are.
        scratch: an empty folder.

    Yields:
        the first step of each that has been compiled.

    Raises:
        RunError: such a step fails.
    """
    bench = Workbench(roots, Stop(), Registry(run.source_path, is_quiet=True), {})
    for phase in run.plan.work.phases():
        if phase.start > run.progress.get("step", 0):
            _one_step(bench, Run(scratch / str(phase.start)), run, phase.start)
            yield phase.start


def _one_step(bench: Workbench, scratch: Run, run: Run, step: int) -> None:
    scratch.create(stretch(run.plan, step), {})
    forgo_ledger(scratch)
    attempt = bench.join(scratch)
    attempt.turn()
    attempt.require()
    attempt.let_go()
    bench.live.remove(attempt)
    gc.collect()
    torch.cuda.empty_cache()


def _end_with_worker(scratch: Path) -> None:
    os.read(sys.stdin.fileno(), 1)  # buffered, it would hold a lock that the interpreter wants
    shutil.rmtree(scratch, ignore_errors=True)
    os._exit(0)


def main(arguments: Sequence[str]) -> None:
    """Carry out the order on the command line, as long as somebody holds standard input."""
    order = json.loads(arguments[0])
    scratch = Path(order["scratch"])
    threading.Thread(target=_end_with_worker, args=(scratch,), daemon=True).start()
    os.nice(NICENESS)
    roots = tuple(Path(root) for root in order["data_roots"])
    for step in compile_later(Run(Path(order["run"])), roots, scratch):
        print(f"compiled what begins at step {step}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
