"""What a search has found: its trials as plain data, and in words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from labctl.project import Project

from .history import At, counted, found_study, study_path
from .search_config import SearchConfig
from .space import point_of

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from .study import Study

_WORDS = {
    "COMPLETE": "complete",
    "PRUNED": "given up",
    "FAIL": "failed",
    "RUNNING": "unfinished",
    "WAITING": "to be tried again",
}


@dataclass(frozen=True, slots=True)
class SearchTrial:
    """A point, and what came of it."""

    number: int
    state: str
    """complete, given up, failed, unfinished, or to be tried again."""
    point: Mapping[str, str]
    """Values by field, as overrides write them."""
    values: Mapping[str, float]
    """Objectives by metric, means over the seeds; none but of a complete trial."""
    runs: tuple[str, ...]
    """Names, seed by seed."""
    folders: tuple[str, ...]
    """Below the folder of runs."""
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Findings:
    """The state of a search."""

    wanted: int
    """Trials there shall be in all."""
    states: Mapping[str, int] = field(default_factory=dict)
    """Numbers of trials: complete, given up, failed, unfinished, to be tried again."""
    best: tuple[SearchTrial, ...] = ()
    """One, or the Pareto front of several objectives; trials that are equally good are all here."""
    trials: tuple[SearchTrial, ...] = ()
    """All that count, the best first; of several objectives, and without values, as they were
    asked."""
    failures: Mapping[int, str] = field(default_factory=dict)
    """Why trials failed, by number: diverged, halted, failed, or refused by the recipe."""
    warning: str = ""
    """What the best values cannot be used for."""
    is_outdated: bool = False
    """The recipe was edited while the search went on, which ended it."""

    def sentences(self) -> list[str]:
        """For people, the most important first."""
        total = sum(self.states.values())
        said = [_best(best) for best in self.best] or ["no trial has given a value yet"]
        if self.best and self.warning:
            said.append(self.warning)
        counts = ", ".join(f"{count} {word}" for word, count in self.states.items())
        said.append(f"{total} of {self.wanted} trials" + (f": {counts}" if counts else ""))
        if self.is_outdated:
            said.append(
                "the recipe was edited meanwhile and means other work now: nothing more was asked; "
                "the same command begins a new study"
            )
        said += [f"trial {number} failed: {why}" for number, why in self.failures.items()]
        return said


def findings_of(study: Study, config: SearchConfig, *, is_outdated: bool = False) -> Findings:
    """What the trials of a study say."""
    trials = list(counted(study))
    numbers = Counter(trial.state.name for trial in trials)
    best: dict[tuple[str, ...], SearchTrial] = {}
    for trial in study.best:
        found = _found(trial, config)
        best.setdefault(found.keys, found)
    return Findings(
        wanted=config.trials,
        states={word: numbers[name] for name, word in _WORDS.items() if numbers[name]},
        best=tuple(best.values()),
        trials=tuple(_ordered([_found(trial, config) for trial in trials], config)),
        failures={trial.number: _why(trial) for trial in trials if trial.state.name == "FAIL"},
        warning=_warning(config),
        is_outdated=is_outdated,
    )


def read_findings(project: Project, name: str, config: SearchConfig, at: At) -> Findings | None:
    """What a search found so far, while it goes on or afterwards; None if it has not begun.

    Raises:
        RunError: the study cannot be read.
    """
    from .study import Log

    path = study_path(project, name)
    if not path.exists():
        return None
    study = found_study(Log(path, is_owner=False), config, at)
    return None if study is None else findings_of(study, config)


def _found(trial: FrozenTrial, config: SearchConfig) -> SearchTrial:
    metrics = [one.metric for one in config.objectives]
    known = trial.user_attrs
    # A search that gives up a trial leaves Optuna its last value, which no other can be held to.
    values = trial.values if trial.state.name == "COMPLETE" else [math.nan] * len(metrics)
    return SearchTrial(
        number=trial.number,
        state=_WORDS[trial.state.name],
        point=point_of(config.space, trial.params),
        values={m: v for m, v in zip(metrics, values, strict=True) if math.isfinite(v)},
        runs=tuple(known.get("runs", ())),
        folders=tuple(known.get("folders", ())),
        keys=tuple(known.get("keys", ())),
    )


def _ordered(trials: list[SearchTrial], config: SearchConfig) -> list[SearchTrial]:
    """The best first, where one objective says which that is; then those without values."""
    first, *others = config.objectives
    if others:
        return trials
    sign = -1 if first.goal == "maximize" else 1
    return sorted(trials, key=lambda one: sign * one.values.get(first.metric, sign * math.inf))


def _best(best: SearchTrial) -> str:
    values = ", ".join(f"{metric} {value:.6g}" for metric, value in best.values.items())
    point = " ".join(f"{field}={value}" for field, value in best.point.items())
    count = len(best.runs)
    return f"{values} at {point} (trial {best.number}, n={count} seed{'s' if count != 1 else ''})"


def _why(trial: FrozenTrial) -> str:
    known = trial.user_attrs
    return str(known.get("why") or known.get("refused") or "its search was killed").splitlines()[0]


def _warning(config: SearchConfig) -> str:
    metrics = [one.metric for one in config.objectives]
    on_test = [metric for metric in metrics if metric.startswith("test/")]
    if on_test:
        return (
            f"chosen by {on_test[0]}: this is the luckiest point on the test set, and no estimate "
            "of what the recipe reaches"
        )
    if any(metric.startswith("val/") for metric in metrics):
        return (
            "the best of many is partly luck: report test/* of this point, trained with seeds "
            "that took no part in the choice"
        )
    return ""
