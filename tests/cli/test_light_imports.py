"""Reading verbs answer at once: they import none of the heavy libraries."""

from __future__ import annotations

import resource
import subprocess
import sys
from statistics import median
from typing import Any

import pytest

HEAVY = (
    "torch", "torchvision", "mlflow", "optuna", "scipy", "matplotlib", "fvcore", "sklearn",
    "pandas",
)  # fmt: skip
RUNNER = """
import sys
from labctl.cli.main import main
sys.argv = ["labctl", *sys.argv[1:]]
try:
    main()
except SystemExit as stop:
    code = stop.code or 0
heavy = sorted(name for name in {heavy!r} if name in sys.modules)
print("\\nheavy:", ",".join(heavy), "code:", code)
"""
LIGHT = (
    ("--help",),
    ("run", "--help"),
    ("validate", "tiny"),
    ("plan", "tiny"),
    ("ls",),
    ("ls", "architectures"),
    ("show", "ctd_gamma1.5"),
    ("status",),
    ("schema",),
    ("data",),
    ("report", "--table", "main"),
    ("check",),
    ("logs", "--help"),
    ("bench", "--help"),
    ("verify", "--help"),
    ("sweep", "model.depth", "--recipe", "tiny", "--values", "1,2", "--dry-run"),
    ("compare", "tiny", "ctd_gamma1.5@smoke"),
)


@pytest.mark.slow
@pytest.mark.parametrize("verb", LIGHT, ids=" ".join)
def test_a_light_verb_imports_nothing_heavy(lab: Any, verb: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUNNER.format(heavy=HEAVY), *verb],
        cwd=lab.root,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.splitlines()[-1] == "heavy:  code: 0", done.stdout[-300:] + done.stderr


@pytest.mark.slow
def test_whoever_only_watches_training_imports_nothing_heavy(lab: Any) -> None:
    """The supervisor, as it trains and where nothing is left to train."""
    command = [sys.executable, "-c", RUNNER.format(heavy=HEAVY), "run", "tiny", "--no-track"]
    for said in ("2 DONE", "2 DONE before"):
        done = subprocess.run(command, cwd=lab.root, capture_output=True, text=True, timeout=240)
        assert done.stdout.splitlines()[-1] == "heavy:  code: 0", done.stdout[-300:] + done.stderr
        assert said in done.stdout + done.stderr


@pytest.mark.slow
def test_reading_verbs_take_a_small_multiple_of_their_libraries(lab: Any) -> None:
    """A guard against a slow start; what was measured, and what was aimed at, is in docs/log.md.

    Processor time beside that of the libraries just before, the median: what else the machine does,
    and how fast it happens to be, cancels.
    """

    def seconds(*command: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, cwd=lab.root, capture_output=True, timeout=60, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    bare = (sys.executable, "-c", "import typer, pydantic, rich, yaml")
    labctl = (sys.executable, "-m", "labctl")
    bounds = {"--help": 3, "status": 5, "ls": 5, "validate tiny": 5, "plan tiny": 5}
    found: dict[str, list[float]] = {verb: [] for verb in bounds}
    for _ in range(7):
        for verb, of in found.items():
            before = seconds(*bare)
            of.append(seconds(*labctl, *verb.split()) / before)
    ratios = {verb: median(of) for verb, of in found.items()}
    assert all(ratios[verb] < bound for verb, bound in bounds.items()), ratios
