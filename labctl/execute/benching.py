"""`labctl bench`: how fast a recipe trains here, by engine, number of seeds and place in training.

Each case is timed in a worker process of its own, in a folder that is gone afterwards.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from labctl.errors import EnvironmentProblem, LabctlError, RunError, UsageError, did_you_mean
from labctl.measure.speed import COMPILED, Case, Matmul, Speed
from labctl.plans.derive import plans
from labctl.plans.plan import Plan
from labctl.project import Project
from labctl.recipe.document import EngineName
from labctl.recipe.recipe import Recipe
from labctl.recipe.times import Time
from labctl.registry.registry import Registry
from labctl.store.run import Run, all_runs
from labctl.store.status import Status

from .errand import carried_out
from .slots import threads_of_each
from .stretch import stretch

ENGINES: tuple[str, ...] = (*get_args(EngineName), COMPILED)
"""`auto`, `eager` and `graphed` are `runtime.engine`; `compiled` is `numerics.compiled`, which is
other arithmetic, so the figures are those of another key."""
RUNGS = "rungs"
"""Every value that structural knobs take, instead of places."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A case to be timed."""

    engine: str
    together: int
    at: str
    at_step: int

    def __str__(self) -> str:
        seeds = f"{self.together} seeds" if self.together > 1 else "one seed"
        return f"{self.engine}, {seeds}, at {self.at}"


def own_engine(plan: Plan) -> str:
    """What the recipe itself asks for."""
    return COMPILED if plan.work.numerics.compiled else plan.runtime.engine


def usable(engines: Sequence[str], device: str, tell: Callable[[str], None]) -> list[str]:
    """Those of `engines` that the device can have; what is left out is told.

    Raises:
        UsageError: there is no such engine.
        EnvironmentProblem: none is left.
    """
    for name in engines:
        if name not in ENGINES:
            raise UsageError(f"no engine {name!r}", hint=did_you_mean(name, ENGINES))
    kept = [name for name in dict.fromkeys(engines) if name != "graphed" or device == "cuda"]
    if not kept:
        raise EnvironmentProblem(
            f"graphed needs CUDA; this is {device}", hint="--engines eager,compiled"
        )
    if len(kept) < len(set(engines)):
        tell(f"graphed needs CUDA; this is {device}: it is left out")
    return kept


def places(recipe: Recipe, plan: Plan, at: Sequence[str]) -> list[tuple[str, int]]:
    """Where in the training to look: names and steps.

    Raises:
        UsageError: a place that is no time of this recipe.
    """
    if list(at) == [RUNGS]:
        first: dict[str, int] = {}
        for phase in plan.work.phases():
            first.setdefault(phase.form, phase.start)
        return [(f"{100 * step / plan.work.steps:.3g}%", step) for step in first.values()]
    return [(text, _step(recipe, plan, text)) for text in at]


def _step(recipe: Recipe, plan: Plan, text: str) -> int:
    try:
        step = int(recipe.clock.step(Time.parse(text)))
    except ValueError as error:
        raise UsageError(f"--at {text}: {error}", hint="--at 0%,50%,100%, or --at rungs") from None
    if step > plan.work.steps:
        raise UsageError(
            f"--at {text} is step {step:,}, after the end at {plan.work.steps:,}",
            hint="--at 100% is the last step",
        )
    return min(step, plan.work.steps - 1)


def case_of(plan: Plan, asked: Asked, seed: int) -> Plan:
    """A run of a case."""
    endless = stretch(plan, asked.at_step)
    numerics = plan.work.numerics.model_copy(update={"compiled": asked.engine == COMPILED})
    engine = "auto" if asked.engine == COMPILED else asked.engine
    return endless.model_copy(
        update={
            "work": endless.work.model_copy(update={"numerics": numerics, "seed": seed}),
            "runtime": endless.runtime.model_copy(update={"engine": engine}),
        }
    )


def seeds_of(recipe: Recipe, count: int) -> list[int]:
    """The recipe's, and more if it has too few."""
    own = list(recipe.document.first_seeds)
    return [*own, *range(max(own) + 1, max(own) + 1 + count)][:count]


class Benching:
    """The cases of one recipe, timed one after the other."""

    def __init__(
        self, project: Project, registry: Registry, recipe: Recipe, tell: Callable[[str], None]
    ) -> None:
        """Args:
        tell: hears what is being timed.
        """
        self.project, self.registry, self.recipe, self.tell = project, registry, recipe, tell
        self.plan = plans(recipe)[0]

    def speeds(
        self,
        *,
        engines: Sequence[str],
        together: Sequence[int],
        at: Sequence[str],
        steps: int,
    ) -> Iterator[Speed]:
        """Time every engine with every number of seeds at every place.

        Yields:
            after each case, what has been found so far.

        Args:
            engines: see `ENGINES`; the recipe's own if empty.
            together: numbers of seeds.
            at: times of the recipe, or `rungs` alone.
            steps: of each seed, without those that warm up.

        Raises:
            UsageError: something that cannot be understood.
            RunError: a case cannot be trained.
            EnvironmentProblem: the device is not there, or lacks all engines.
        """
        from labctl.train.numerics import device_of

        device = device_of(self.plan.runtime.device)
        threads = threads_of_each(1, on_gpu=device.type == "cuda")
        named = usable(engines or [own_engine(self.plan)], device.type, self.tell)
        cases = [
            Asked(engine, count, *place)
            for place in places(self.recipe, self.plan, at)
            for engine in named
            for count in together
        ]
        if busy := sum(run.status is Status.RUNNING for run in all_runs(self.project)):
            self.tell(f"{busy} runs of this project are being trained: the figures suffer")
        answers: list[dict[str, Any]] = []
        with tempfile.TemporaryDirectory(prefix="labctl-bench-") as folder:
            for asked in cases:
                self.tell(f"timing {asked}")
                own, is_first = Path(folder, str(len(answers))), not answers
                environment = _empty_caches(own) | {"OMP_NUM_THREADS": str(threads)}
                answers.append(self._answer(asked, own, environment, steps, is_first))
                yield self._speed(answers, cases[: len(answers)])

    def _answer(
        self,
        asked: Asked,
        folder: Path,
        environment: Mapping[str, str],
        steps: int,
        wants_matmul: bool,
    ) -> dict[str, Any]:
        runs = []
        for seed in seeds_of(self.recipe, asked.together):
            runs.append(Run(folder / f"seed={seed}"))
            runs[-1].create(case_of(self.plan, asked, seed), {})
        result = folder / "result.json"
        order = {
            "runs": [str(run.folder) for run in runs],
            "data_roots": [str(root) for root in self.project.data_roots],
            "plugins": str(self.project.plugins),
            "whole": self.plan.model_dump(mode="json", by_alias=True),
            "at_step": asked.at_step,
            "steps": steps,
            "wants_matmul": wants_matmul,
            "result": str(result),
        }
        log = folder / "worker.log"
        whole = {**order, "spawned": time.time()}
        code = carried_out("labctl.execute.timing", whole, log, environment)
        try:
            answer: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        except OSError:
            raise RunError(
                f"{asked}: the worker ended with exit code {code} and no answer",
                hint="\n  ".join(
                    log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
                ),
            ) from None
        if fault := answer.get("fault"):
            kind = EnvironmentProblem if fault["code"] == EnvironmentProblem.exit_code else RunError
            error: LabctlError = kind(f"{asked}: {fault['message']}", hint=fault["hint"])
            raise error
        return answer

    def _speed(self, answers: Sequence[dict[str, Any]], cases: Sequence[Asked]) -> Speed:
        spec, work = self.recipe.spec, self.plan.work
        is_text = spec.inputs == "tokens"
        return Speed(
            recipe=self.plan.label,
            point=self.plan.point,
            key=self.plan.key,
            precision=work.numerics.precision,
            batch_size=work.batch_size,
            unit="tokens" if is_text else "examples",
            per_step=work.batch_size * (spec.shape[0] if is_text else 1),
            environment=answers[0]["facts"],
            matmul=Matmul.model_validate(answers[0]["matmul"]),
            cases=tuple(
                Case.model_validate_json(json.dumps(
                    {**answer["case"], "engine": asked.engine, "together": asked.together,
                     "at": asked.at, "at_step": asked.at_step,
                     "structural": work.structural_at(asked.at_step)}
                ))
                for asked, answer in zip(cases, answers, strict=True)
            ),
        )  # fmt: skip


def _empty_caches(folder: Path) -> dict[str, str]:
    """Where compilers find nothing that they made before: what they take shows whole."""
    names = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
    return {name: str(folder / name.lower()) for name in names}
