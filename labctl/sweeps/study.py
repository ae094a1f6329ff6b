"""A study on disk: which points were asked, and what became of them, in Optuna's own journal.

This module imports Optuna; it is imported when a search begins, and not before. One process at a
time writes a study: its owner holds the lock of `labctl.sweeps.search`.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from optuna import Study as OptunaStudy
from optuna import create_study, load_study
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from labctl.errors import EnvironmentProblem, RunError
from labctl.store.atomic import storage

from .objective import Goal
from .pruning import WHOLE, Pruner
from .space import Params, Range, Space

_BRACKETS_FACTOR = 3
"""Of hyperband: one trial in three goes on."""


@contextmanager
def _quiet() -> Iterator[None]:
    """What is worth saying the search says itself."""
    logger = logging.getLogger("optuna")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        logger.setLevel(before)


class Log:
    """A file with the studies of one sweep."""

    def __init__(self, path: Path, *, is_owner: bool) -> None:
        """Open or begin the file; its owner mends what a killed one left behind.

        Raises:
            RunError: it cannot be read.
        """
        self.path = path
        if is_owner:
            with storage(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                _mend(path)
        try:
            with storage(path), _quiet():
                self.storage = JournalStorage(JournalFileBackend(str(path)))
        except (ValueError, KeyError, AssertionError) as error:
            raise RunError(
                f"the study cannot be read: {error}",
                where=str(path),
                hint="move the file away and search again; no run is trained twice",
            ) from None

    def names(self) -> list[str]:
        """Of the studies, the latest first."""
        return [study.study_name for study in reversed(self.storage.get_all_studies())]

    def study(self, name: str) -> Study:
        with _quiet():
            return Study(load_study(study_name=name, storage=self.storage), self.storage)

    def new(self, goals: Sequence[Goal], about: str) -> Study:
        """Begin a study; `about` says what it asks."""
        name = str(len(self.storage.get_all_studies()) + 1)
        with _quiet():
            study = create_study(study_name=name, storage=self.storage, directions=list(goals))
            study.set_user_attr("about", about)
        return Study(study, self.storage)


def _mend(path: Path) -> None:
    """Cut off a line that its writer did not live to finish, and open the lock that it held."""
    Path(f"{path}.lock").unlink(missing_ok=True)
    with suppress(FileNotFoundError), path.open("r+b") as file:
        whole = file.read().rfind(b"\n") + 1
        if whole < os.fstat(file.fileno()).st_size:
            file.truncate(whole)


class Study:
    """Trials by number: asked, watched, told."""

    def __init__(self, study: OptunaStudy, storage: JournalStorage) -> None:
        self._study, self._storage = study, storage
        self._study_id = storage.get_study_id_from_name(study.study_name)

    @property
    def about(self) -> str:
        return str(self._study.user_attrs.get("about", ""))

    @property
    def trials(self) -> list[FrozenTrial]:
        """As they stand now, not to be changed."""
        return self._study.get_trials(deepcopy=False)

    @property
    def best(self) -> list[FrozenTrial]:
        """Complete trials that no other beats in every objective."""
        return self._study.best_trials

    def set_pruner(self, pruner: Pruner | None) -> None:
        self._study.pruner = _pruner(pruner)

    def ask(self, kind: str, seed: int, space: Space) -> tuple[int, dict[str, Any]]:
        """A new trial: its number and parameters, which depend on `seed` and on what was told."""
        with _quiet():
            self._study.sampler = _sampler(kind, seed)
            trial = self._study.ask(_distributions(space))
        return trial.number, dict(trial.params)

    def enqueue(self, params: Params, **facts: Any) -> None:
        """Let `ask` give these parameters before it draws others."""
        with _quiet():
            self._study.enqueue_trial(dict(params), user_attrs=facts)

    def add(self, space: Space, params: Params, values: Sequence[float], **facts: Any) -> None:
        """A complete trial that was never asked."""
        trial = create_trial(
            params=dict(params),
            distributions=_distributions(space),
            values=list(values),
            user_attrs=facts,
        )
        with _quiet():
            self._study.add_trial(trial)

    def note(self, number: int, **facts: Any) -> None:
        """Keep facts about a trial that is not told."""
        for name, fact in facts.items():
            self._storage.set_trial_user_attr(self._id(number), name, fact)

    def report(self, number: int, progress: int, value: float) -> bool:
        """Note where a trial stands; False if that was known."""
        if progress in self._storage.get_trial(self._id(number)).intermediate_values:
            return False
        self._storage.set_trial_intermediate_value(self._id(number), progress, value)
        return True

    def is_hopeless(self, number: int) -> bool:
        """What the pruner says of the values reported so far."""
        with _quiet():
            trial = self._storage.get_trial(self._id(number))
            return self._study.pruner.prune(self._study, trial)

    def complete(self, number: int, values: Sequence[float]) -> None:
        self._tell(number, TrialState.COMPLETE, values)

    def prune(self, number: int) -> None:
        self._tell(number, TrialState.PRUNED)

    def fail(self, number: int, **facts: Any) -> None:
        self.note(number, **facts)
        self._tell(number, TrialState.FAIL)

    def _tell(self, number: int, state: TrialState, values: Sequence[float] | None = None) -> None:
        with _quiet():
            self._study.tell(number, values, state=state)

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)


def _distributions(space: Space) -> dict[str, BaseDistribution]:
    return {field: _distribution(values) for field, values in space.items()}


def _distribution(values: Any) -> BaseDistribution:
    if not isinstance(values, Range):
        return CategoricalDistribution(values.texts)
    if values.integer:
        low, high, step = int(values.low), int(values.high), int(values.step or 1)
        return IntDistribution(low, high, log=values.log, step=step)
    return FloatDistribution(values.low, values.high, log=values.log, step=values.step)


def _sampler(kind: str, seed: int) -> BaseSampler:
    """A sampler for one trial; what it needs of the trials before, it reads from the study."""
    match kind:
        case "random":
            return RandomSampler(seed=seed)
        case "gp":
            return GPSampler(seed=seed)
        case "cmaes":
            if find_spec("cmaes") is None:
                raise EnvironmentProblem(
                    "the sampler cmaes needs a package that is not installed",
                    hint="pip install cmaes, or sampler: tpe",
                )
            return CmaEsSampler(seed=seed)
        case _:
            return TPESampler(seed=seed)


def _pruner(pruner: Pruner | None) -> BasePruner:
    if pruner is None:
        return NopPruner()
    if pruner.kind == "median":
        return MedianPruner(n_startup_trials=pruner.startup, n_warmup_steps=pruner.begin)
    return HyperbandPruner(
        min_resource=pruner.begin, max_resource=WHOLE, reduction_factor=_BRACKETS_FACTOR
    )
