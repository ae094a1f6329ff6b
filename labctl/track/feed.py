"""The process that feeds MLflow while others train: `python -m labctl.track.feed ORDER`.

ORDER is JSON: `{"project": ROOT, "runs": [FOLDER, ...]}`; each line of standard input names one
folder more. The process reads run folders and nothing else, so training never waits for it. When
its standard input ends (its supervisor is done, or dead), it makes a last pass over all runs and
exits: with 0 if MLflow has everything, with 1 if `labctl sync` has something left to do.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from labctl.errors import EnvironmentProblem, LabctlError
from labctl.project import Project
from labctl.store.run import Run

from .mirror import Mirror
from .store import Refused, import_mlflow, prepare

PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 30.0
CORE_SHARE = 0.05
"""Largest share of a core spent on reading journals while others train."""
LAST_PASS_SECONDS = 20.0
"""From the end of standard input (and of importing mlflow) to the end of this process, at most."""


class Feed:
    """Passes over the runs, again and again; tells each distinct problem once."""

    def __init__(self, project: Project, runs: Sequence[Run]) -> None:
        self.runs = runs
        self.mirror = Mirror(project)
        self._told: set[str] = set()

    def pass_over(self) -> bool:
        """Deliver all that can be delivered now; False if something could not be."""
        is_whole = True
        for run in list(self.runs):
            try:
                self.mirror.deliver(run)
            except Exception as error:
                self.tell(error)
                is_whole = False
                if isinstance(error, EnvironmentProblem) and not isinstance(error, Refused):
                    break  # a store that does not answer would keep each run waiting as long
        return is_whole

    def tell(self, error: Exception) -> None:
        """Say what went wrong, unless it was said before."""
        text = str(error) if isinstance(error, LabctlError) else f"{type(error).__name__}: {error}"
        if text not in self._told:
            self._told.add(text)
            _say(text)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # the supervisor that listened may be dead
        print(text, file=sys.stderr, flush=True)


def _await_end(runs: list[Run], ended: threading.Event, is_ready: threading.Event) -> None:
    """Take further runs from standard input; set `ended` when it ends, and let the process live
    `LAST_PASS_SECONDS` more."""
    rest = b""
    with contextlib.suppress(OSError):
        while data := os.read(0, 4096):  # sys.stdin has a lock, which would outlive the main thread
            *lines, rest = (rest + data).split(b"\n")
            runs += [Run(Path(os.fsdecode(line))) for line in lines]
    ended.set()
    is_ready.wait()  # an import takes what it takes on a busy machine; only a store may hang
    time.sleep(LAST_PASS_SECONDS)
    _give_up()


def _give_up() -> None:
    """End although a delivery is under way, which the next one makes good."""
    _say(f"MLflow took longer than {LAST_PASS_SECONDS:.0f} s: `labctl sync` sends the rest")
    os._exit(1)


def main(arguments: Sequence[str]) -> int:
    """Feed until standard input ends; 0 if everything was delivered."""
    order = json.loads(arguments[0])
    # Ctrl-C and a closed terminal reach the whole process group; the end comes from the supervisor.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.nice(10)
    ended, is_ready = threading.Event(), threading.Event()
    runs = [Run(Path(folder)) for folder in order["runs"]]
    threading.Thread(target=_await_end, args=(runs, ended, is_ready), daemon=True).start()
    import_mlflow()
    is_ready.set()
    project = Project.at(order["project"])
    feed = Feed(project, runs)
    try:
        prepare(project)
    except LabctlError as error:
        feed.tell(error)
    pause = PAUSE_SECONDS
    while not ended.wait(pause):
        busy = time.process_time()
        is_whole = feed.pass_over()
        busy = time.process_time() - busy
        pause = max(PAUSE_SECONDS, busy / CORE_SHARE) if is_whole else 2 * pause
        pause = min(pause, LONGEST_PAUSE_SECONDS)
    return 0 if feed.pass_over() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
