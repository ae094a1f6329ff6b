"""How fast a recipe trains on a machine: what `labctl bench` found. Needs no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from labctl.errors import UsageError
from labctl.registry.config import Config
from labctl.store.atomic import write_text

MARKER = "labctl_bench"
FORMAT = 1
COMPILED = "compiled"
"""The engine that is `numerics.compiled`; the others are `runtime.engine`."""


class Spread(Config):
    """A figure that was measured several times."""

    median: float
    low: float
    """The smallest."""
    high: float
    """The largest."""

    def inverse(self, amount: float) -> Spread:
        """`amount` over each: examples per second, of seconds."""
        return Spread(median=amount / self.median, low=amount / self.high, high=amount / self.low)


class Shares(Config):
    """Where the time of a whole run goes, each from 0 to 1; compilation and capture left out.

    Of a run all of whose steps were like those that were measured, evaluated and checkpointed as
    often as its recipe asks.
    """

    data: float
    """Indexing, augmenting and scaling batches."""
    step: float
    """The learner's steps, and waiting for their metrics."""
    evaluation: float
    tracking: float
    """Journal, progress, and what checkpoints hold up."""


class Launches(Config):
    """Pieces of work that the host hands out in one step of one run."""

    unit: Literal["kernel launches", "operators"]
    """`kernel launches`: calls that start work on a CUDA device, as torch.profiler sees them.
    `operators`: calls that torch's dispatcher sends to a kernel."""
    as_written: int
    as_carried_out: int | None
    """By the engine; None where it cannot be seen, inside a compiled function on a CPU."""


class Case(Config):
    """One way of training a recipe, at one place of its curriculum."""

    engine: str
    """As it was asked for."""
    carried_out: str
    """As it was carried out: see the journal."""
    why: str = ""
    """Why not by a faster engine."""
    together: int = Field(gt=0)
    """Seeds that one worker trained in turns."""
    at: str
    """Place in the training, as it was asked for: `50%`."""
    at_step: int
    structural: dict[str, float | int | str]
    """Where the structural knobs stood."""
    steps: int
    """Of each seed, that were timed."""
    step_seconds: Spread
    """A step of one seed: a round of turns, divided by the seeds in it."""
    step_flops: int
    """That one step of one seed executes, 2 per multiply-accumulate."""
    uncounted: tuple[str, ...] = ()
    """Operators whose FLOPs it lacks."""
    launches: Launches
    shares: Shares
    start_seconds: float
    """From the start of the worker to the end of the first step of its first run."""
    compile_seconds: float
    """The first steps of their forms, where they compile, with caches empty; of all seeds."""
    capture_seconds: float
    """Recording steps as graphs; of all seeds."""

    @property
    def flops_per_second(self) -> float:
        return self.step_flops / self.step_seconds.median


class Matmul(Config):
    """The rate of one large matrix product in the recipe's precision: the roof."""

    flops_per_second: float
    size: int
    """Rows and columns of the factors."""
    dtype: str


class Speed(Config):
    """All that one `labctl bench` found."""

    recipe: str
    """`recipe`, or `recipe@preset`."""
    point: dict[str, Any] = {}
    """Fields that were given other values on the command line."""
    key: str
    """Of the recipe's first seed, as it stands; a compiled case trains under another."""
    precision: str
    batch_size: int
    unit: Literal["examples", "tokens"]
    per_step: int
    """Examples or tokens in a step of one seed."""
    environment: dict[str, Any]
    """Device, torch, threads, labctl, system."""
    matmul: Matmul
    cases: tuple[Case, ...] = Field(min_length=1)

    def rate(self, case: Case) -> Spread:
        """Examples or tokens per second, of all seeds that were trained together."""
        return case.step_seconds.inverse(self.per_step)

    def ratio(self, case: Case) -> float:
        """How many times as fast as the first case."""
        return self.rate(case).median / self.rate(self.cases[0]).median

    def efficiency(self, case: Case) -> Spread | None:
        """`eta` of a case over the first place at which the same engine trained as many seeds.

        Lowest and highest are of the slowest window over the other's fastest, and the reverse: a
        saving that is smaller than the spread of the windows says nothing, and this shows it.
        """
        alike = (
            other
            for other in self.cases
            if (other.engine, other.together) == (case.engine, case.together)
        )
        first = next(alike)
        saved = case.step_flops / first.step_flops if first.step_flops else 1.0
        took, before = case.step_seconds, first.step_seconds
        middle = eta(took.median / before.median, saved)
        ends = (eta(took.high / before.low, saved), eta(took.low / before.high, saved))
        known = [end for end in ends if end is not None]
        return None if middle is None else Spread(median=middle, low=min(known), high=max(known))


def eta(time_ratio: float, flops_ratio: float) -> float | None:
    """`(1 - T/T0) / (1 - F/F0)`: the share of the FLOPs saved that shows up as time saved.

    1: a step is shorter by what it executes less. 0: it is not shorter at all. None where nothing
    was saved.
    """
    if flops_ratio == 1.0:
        return None
    return (1 - time_ratio) / (1 - flops_ratio)


def write_speed(speed: Speed, path: Path) -> None:
    """Write what was found; the same figures give the same bytes."""
    content = {MARKER: FORMAT, **speed.model_dump(mode="json")}
    write_text(path, json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_speed(path: Path) -> Speed:
    """Read back what `write_speed` wrote.

    Raises:
        UsageError: it cannot be read, is something else, or of a format unknown here.
    """
    where = str(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=where) from None
    except ValueError as error:
        raise UsageError(f"not JSON: {error}", where=where) from None
    if not isinstance(content, dict) or MARKER not in content:
        raise UsageError(
            "not what labctl bench writes", where=where, hint="labctl bench RECIPE --out FILE"
        )
    if (found := content.pop(MARKER)) != FORMAT:
        raise UsageError(
            f"a bench of format {found}; this labctl reads format {FORMAT}",
            where=where,
            hint="measure again: labctl bench RECIPE --out FILE",
        )
    try:
        return Speed.model_validate_json(json.dumps(content))
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"]))
        raise UsageError(f"damaged: {place}: {fault['msg']}", where=where) from None
