"""What the user sees while runs train: live bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from labctl.recipe.derived import is_accuracy
from labctl.store.run import Run
from labctl.store.status import Status

from .duration import lasting
from .follower import Follower

COLOUR = {
    Status.DONE: "green",
    Status.DIVERGED: "yellow", Status.HALTED: "yellow", Status.STOPPED: "yellow",
    Status.FAILED: "red", Status.LOST: "red",
}  # fmt: skip
HIDDEN = ("lr",)
WIDE = 110
"""Columns of a terminal from which on there is room for long bars."""


class Watched:
    """A run that is training, as far as its journal and progress file tell."""

    def __init__(self, run: Run) -> None:
        self.run, self.plan = run, run.plan
        self.follower = Follower(run)
        self.step = 0
        self.latest: dict[str, float] = {}
        self.seconds_per_step: float | None = None
        self.findings: list[str] = []
        """Of evaluations and measurements, until they were shown."""
        self.warnings: list[str] = []
        """Until they were shown."""
        self._since = time.time()

    @property
    def opening(self) -> str:
        """What is about to be done, asked before it is."""
        run, steps, end = self.run, self.plan.work.steps, self.run.end
        if end is not None and Status(end["status"]).is_final:
            wanted = ", ".join(part.name for part in run.unmeasured(self.plan))
            return f"measures {wanted}" if wanted else "has ended"
        if run.checkpoint_path.exists() and (done := run.journal.durable_step):
            return f"goes on from step {done} of {steps}"
        return f"begins: {steps} steps"

    def refresh(self) -> None:
        """Read what is new."""
        progress = self.run.progress
        if float(progress.get("time", 0.0)) < self._since:
            progress = {}  # of an earlier attempt
        self.step = int(progress.get("step", self.step))
        self.seconds_per_step = progress.get("seconds_per_step") or self.seconds_per_step
        for record in self.follower.new():
            self.step = max(self.step, record.step)
            if record.kind == "metrics":
                values = record.values
                self.latest |= values
                if any(not name.startswith(("train/", "knob/")) for name in values):
                    self.findings.append(self._evaluated(record.step, values))
            elif record.kind == "warning":
                self.warnings.append(f"{self.plan.name}  {record.fields['message']}")

    def _evaluated(self, step: int, values: Mapping[str, float]) -> str:
        """What an evaluation gave; of a measurement only that it was taken."""
        splits = [name for name in values if name.startswith(("val/", "test/"))]
        if not splits:
            taken = ", ".join(dict.fromkeys(name.split("/")[0] for name in values))
            return f"{self.plan.name}  {self.epoch(step)}  measured {taken}"
        shown = "  ".join(f"{n} {_shown(n, values[n])}" for n in splits if n.count("/") == 1)
        return f"{self.plan.name}  {self.epoch(step)}  {shown}{self._knobs()}"

    def epoch(self, step: int) -> str:
        per = self.plan.work.steps_per_epoch
        return f"ep {step / per:.4g}/{self.plan.work.steps / per:.4g}"

    def _knobs(self) -> str:
        structural = self.plan.work.structural_at(max(0, self.step - 1))
        values: dict[str, Any] = {**{k: v for k, v in self._continuous().items()}, **structural}
        return "".join(
            f"  {name} {value:.3g}" if not isinstance(value, str) else f"  {name} {value}"
            for name, value in values.items()
        )

    def _continuous(self) -> dict[str, float]:
        names = [name for name in self.plan.work.schedules if name not in HIDDEN]
        return {
            name: self.latest[f"knob/{name}"] for name in names if f"knob/{name}" in self.latest
        }

    @property
    def summary(self) -> str:
        """Loss, accuracy, knobs, speed and time left."""
        parts = [
            f"{short} {_shown(name, self.latest[name])}"
            for name, short in _COLUMNS
            if name in self.latest
        ]
        rate = self.seconds_per_step
        if rate:
            items = self.plan.work.batch_size / rate
            left = (self.plan.work.steps - self.step) * rate
            parts += [
                f"{items:,.0f} examples/s" if items >= 10 else f"{items:.2g} examples/s",
                f"{lasting(left)} left",
            ]
        return "  ".join(parts) + self._knobs()


_COLUMNS = (("train/loss", "loss"), ("train/acc", "acc"), ("val/acc", "val"), ("test/acc", "test"))


def _shown(name: str, value: float) -> str:
    return f"{100 * value:.2f}%" if is_accuracy(name) else f"{value:.4g}"


class Display(Protocol):
    """Shows the state of runs; told of each once when it begins and ends."""

    def __enter__(self) -> Display: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def began(self, watched: Watched) -> None: ...

    def ended(self, watched: Watched, status: Status, message: str) -> None: ...

    def say(self, text: str) -> None: ...

    def refresh(self, watched: list[Watched]) -> None: ...


class Lines:
    """Plain lines: for logs, pipes and CI."""

    def __init__(self, console: Console, every_s: float = 30.0) -> None:
        self.console, self.every_s = console, every_s
        self._spoke: dict[Run, float] = {}

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True, markup=False)

    def began(self, watched: Watched) -> None:
        self.say(f"{watched.plan.name}  {watched.opening}, key {watched.plan.key}")
        self._spoke[watched.run] = time.monotonic()

    def ended(self, watched: Watched, status: Status, message: str) -> None:
        self._tell(watched)  # what it wrote after the last look
        self.say(f"{watched.plan.name}  {status}{'  ' + message if message else ''}")

    def _tell(self, one: Watched) -> None:
        one.refresh()
        for text in (*one.warnings, *one.findings):
            self.say(text)
            self._spoke[one.run] = time.monotonic()
        one.warnings.clear()
        one.findings.clear()

    def refresh(self, watched: list[Watched]) -> None:
        for one in watched:
            self._tell(one)
            if time.monotonic() - self._spoke.get(one.run, 0.0) > self.every_s and one.step:
                self.say(f"{one.plan.name}  {one.epoch(one.step)}  {one.summary}")
                self._spoke[one.run] = time.monotonic()


def _fitted(name: str, width: int) -> str:
    """A run's name in `width` columns; its end, which holds the seed, is kept."""
    if len(name) <= width:
        return name
    tail = min(len(name.rpartition(" ")[2]) + 1, width - 3)
    return f"{name[: width - tail - 2]}..{name[-tail:]}"


class Bars:
    """A progress bar per run, and a line for each that ends."""

    def __init__(self, console: Console) -> None:
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24 if console.width >= WIDE else 8),
            TextColumn("{task.fields[epoch]}"),
            TextColumn(
                "{task.fields[summary]}",
                table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"),
            ),
            console=console,
            refresh_per_second=4,
            expand=True,
        )
        self._tasks: dict[Run, TaskID] = {}

    def __enter__(self) -> Bars:
        self.progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.progress.stop()

    def say(self, text: str) -> None:
        self.progress.console.print(text, highlight=False, soft_wrap=True, markup=False)

    def began(self, watched: Watched) -> None:
        if watched.run in self._tasks:  # it goes on in another worker
            self.progress.remove_task(self._tasks[watched.run])
        self._tasks[watched.run] = self.progress.add_task(
            _fitted(watched.plan.name, self.progress.console.width // 2),
            total=watched.plan.work.steps,
            epoch="starting",
            summary="",
        )

    def ended(self, watched: Watched, status: Status, message: str) -> None:
        self._tell(watched)
        self.progress.remove_task(self._tasks.pop(watched.run))
        word = (f"{status:<9}", COLOUR.get(status, "white"))
        line = Text.assemble(word, f" {watched.plan.name}  {message or watched.summary}")
        self.progress.console.print(line, soft_wrap=True)

    def _tell(self, one: Watched) -> None:
        """What it warns of; its bar shows what it finds."""
        one.refresh()
        for text in one.warnings:
            self.say(text)
        one.warnings.clear()
        one.findings.clear()

    def refresh(self, watched: list[Watched]) -> None:
        for one in watched:
            self._tell(one)
            self.progress.update(
                self._tasks[one.run],
                completed=one.step,
                epoch=one.epoch(one.step),
                summary=one.summary,
            )


def display_for(console: Console) -> Display:
    """Bars on a terminal, lines elsewhere."""
    return Bars(console) if console.is_terminal else Lines(console)
