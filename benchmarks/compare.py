"""labctl bench, the plain loop and the timm loop of one recipe, by turns, each its own process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from argparse import Action, ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table
from subject import arguments, positive, result_in

from labctl.errors import LabctlError, RunError
from labctl.measure.speed import read_speed

HERE = Path(__file__).parent


def labctl_rates(asked: Namespace, folder: Path) -> dict[str, float]:
    """Examples per second by engine and number of seeds."""
    out = folder / "speed.json"
    size = [f"batch_size={asked.batch_size}"] if asked.batch_size else []
    command = ["-m", "labctl", "bench", *_recipe(asked), *size, "--together", asked.together]
    _output([*command, "--engines", asked.engines, "--steps", str(asked.steps), "--out", str(out)])
    speed = read_speed(out)
    rates = {}
    for case in speed.cases:
        seeds = f", {case.together} seeds" if case.together > 1 else ""
        rates[f"labctl {case.engine}{seeds}"] = speed.rate(case).median
    return rates


def loop_result(script: str, asked: Namespace, *more: str) -> dict[str, Any]:
    """What one of the loops printed."""
    size = ["--batch-size", str(asked.batch_size)] if asked.batch_size else []
    numbers = ["--steps", str(asked.steps), "--workers", str(asked.workers), *size]
    return result_in(_output([str(HERE / script), *_recipe(asked), *numbers, *more]))


def _recipe(asked: Namespace) -> list[str]:
    preset = ["--preset", asked.preset] if asked.preset else []
    return [asked.recipe, *asked.overrides, *preset]


def _output(command: Sequence[str]) -> str:
    """What a Python process prints.

    Raises:
        RunError: it fails, with its last words.
    """
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, env=dict(os.environ)
    )
    if done.returncode:
        last = "\n  ".join(done.stderr.strip().splitlines()[-5:])
        raise RunError(f"{' '.join(command)} failed", hint=last)
    return done.stdout


def compared(asked: Namespace, console: Console) -> dict[str, Any]:
    """Examples per second of every loop in every round, their medians, and the ratios of these to
    the first loop's."""
    has_timm = find_spec("timm") is not None
    if not has_timm:
        console.print("timm is left out: it is not installed (pip install timm)")
    rounds: dict[str, list[float]] = {}
    facts: dict[str, Any] = {}
    for number in range(asked.rounds):
        console.print(f"round {number + 1} of {asked.rounds}")
        plain = loop_result("plain_loop.py", asked, "--augment", asked.augment)
        facts = {key: plain[key] for key in ("recipe", "batch_size", "precision", "environment")}
        rates = {f"plain, {asked.augment}": plain["examples_per_second"]}
        if has_timm:
            timm = loop_result("timm_loop.py", asked)
            facts["timm"] = timm["timm"]
            rates[f"timm, {asked.workers} workers"] = timm["examples_per_second"]
        with tempfile.TemporaryDirectory() as folder:
            rates |= labctl_rates(asked, Path(folder))
        for name, rate in rates.items():
            rounds.setdefault(name, []).append(rate)
    return {**facts, "steps": asked.steps, "loops": _summary(rounds)}


def _summary(rounds: Mapping[str, Sequence[float]]) -> dict[str, dict[str, Any]]:
    medians = {name: median(rates) for name, rates in rounds.items()}
    first = next(iter(medians.values()))
    return {
        name: {"examples_per_second": rates, "median": medians[name], "x": medians[name] / first}
        for name, rates in ((name, list(rates)) for name, rates in rounds.items())
    }


def _print(found: Mapping[str, Any], console: Console) -> None:
    table = Table("loop", "examples/s", "low to high", "x")
    for name, loop in found["loops"].items():
        rates = loop["examples_per_second"]
        spread = f"{min(rates):,.0f} to {max(rates):,.0f}"
        table.add_row(name, f"{loop['median']:,.0f}", spread, f"{loop['x']:.2f}")
    facts = found["environment"]
    console.print(
        f"{found['recipe']}  {found['batch_size']} a batch, {found['precision']}, "
        f"{facts['device_name']}, torch {facts['torch']}, {facts['threads']} threads"
    )
    console.print(table)


class _Show(Action):
    """Print what an earlier comparison wrote, and leave."""

    def __call__(self, parser: ArgumentParser, asked: Namespace, file: Any, *more: Any) -> None:
        try:
            _print(json.loads(Path(file).read_text(encoding="utf-8")), _console())
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            parser.error(f"{file} is not what --out writes: {type(error).__name__}: {error}")
        parser.exit()


def _console() -> Console:
    return Console(highlight=False, emoji=False)


def main() -> int:
    """Compare, print, and write one JSON file."""
    parser = arguments(__doc__)
    parser.add_argument("--show", action=_Show, metavar="FILE", help="print this JSON file again")
    parser.add_argument("--rounds", type=positive, default=3, help="turns of each loop")
    parser.add_argument("--engines", default="auto", help="of labctl bench")
    parser.add_argument("--together", default="1", help="of labctl bench")
    parser.add_argument("--augment", choices=("batched", "per-sample"), default="batched",
                        help="of the plain loop")  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("compare.json"), help="the JSON file")
    asked = parser.parse_args()
    console = _console()
    try:
        found = compared(asked, console)
    except LabctlError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    asked.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    _print(found, console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
