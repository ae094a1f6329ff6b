"""The process that trains: `python -m labctl.execute.worker ORDER`. It knows nothing of MLflow."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from labctl.store.run import Run
from labctl.store.status import Status

from .crew import TAKEN
from .forerunner import Forerunner
from .rounds import work
from .stop import Stop
from .width import width_of


def main(arguments: Sequence[str]) -> int:
    """Train the run folders named on the command line."""
    order = json.loads(arguments[0])
    torch.set_num_threads(order["threads" if torch.cuda.is_available() else "cpu_threads"])
    stop = Stop()
    stop.catch_signals()
    roots = tuple(Path(root) for root in order["data_roots"])
    runs = [Run(Path(folder)) for folder in order["runs"]]
    width = width_of(order["together"])
    forerunner = Forerunner(roots, order["of_machine"], order["workers"])
    facts = {"workers": order["workers"]}
    try:
        attempts = work(runs, roots, stop, facts=facts, width=width, forerunner=forerunner)
    finally:
        forerunner.end()
    if not attempts:
        return TAKEN
    return 0 if all(attempt.status in (Status.DONE, Status.STOPPED) for attempt in attempts) else 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
