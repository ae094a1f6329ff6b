"""Runs made by hand, and stores to mirror them in."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labctl.plans.key import digest_of
from labctl.plans.plan import (
    DataPart,
    EvaluatePlan,
    OptimizerPart,
    Part,
    Plan,
    Rung,
    RuntimePlan,
    Work,
)
from labctl.project import Project
from labctl.recipe.augment import Augment
from labctl.recipe.document import Numerics, ParameterGroup
from labctl.store.atomic import write_json
from labctl.store.journal import JournalWriter
from labctl.store.run import Run, run_of
from labctl.store.status import Status
from labctl.track import store

Points = dict[str, list[tuple[int, float, int]]]


@pytest.fixture(autouse=True)
def _no_ambient_store(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)


def make_plan(seed: int, recipe: str, preset: str | None) -> Plan:
    work = Work(
        architecture=Part(
            name="toy", plugin="toys", config={"depth": 2, "wide": True, "note": None}
        ),
        data=DataPart(
            name="digits",
            plugin="labctl",
            config={},
            version="1",
            val=100,
            augment=Augment(flip=True),
        ),
        learner=Part(name="backprop", plugin="labctl", config={}),
        losses=(Part(name="cross_entropy", plugin="labctl", config={"smoothing": 0.1}),),
        optimizer=OptimizerPart(
            name="sgd",
            plugin="labctl",
            config={"momentum": 0.9},
            weight_decay=0.0,
            clip_norm=None,
            groups=(ParameterGroup(match=("head.*",), lr_scale=0.5),),
        ),
        batch_size=10,
        steps=100,
        steps_per_epoch=10,
        schedules={"lr": {"kind": "constant", "value": 0.1}},
        ladders={"token_drop": (Rung(step=0, value=1), Rung(step=50, value=2))},
        constants={},
        numerics=Numerics(),
        evaluate=EvaluatePlan(every=50, tail=0, batch_size=100, train=True),
        ema=None,
        seed=seed,
        digests={"toys": "ab12"},
        labctl_numerics=1,
    )
    values = work.model_dump(mode="json", by_alias=True)
    return Plan(
        recipe=recipe,
        preset=preset,
        title="A toy",
        tags=("small",),
        key=digest_of(values),
        group=digest_of({name: value for name, value in values.items() if name != "seed"}),
        work=work,
        measures=(),
        runtime=RuntimePlan(device="cpu", log_every=10, checkpoint_seconds=60.0),
    )


@pytest.fixture
def new_run(project: Project) -> Callable[..., Run]:
    """`new_run(seed, recipe, preset)`: a run that was planned and not begun."""

    def create(seed: int = 0, recipe: str = "toy", preset: str | None = "smoke") -> Run:
        plan = make_plan(seed, recipe, preset)
        run = run_of(project, plan)
        git = {
            "commit": "c0ffee",
            "branch": "main",
            "remote": "https://me:secret@example.org/x.git",
            "is_dirty": True,
        }
        run.create(plan, {"git": git, "recipe": "/home/me/recipes/toy.yaml"})
        return run

    return create


@pytest.fixture
def end() -> Callable[..., None]:
    """`end(run, journal, status, step)`: what a worker writes last."""

    def write(
        run: Run, journal: JournalWriter, status: Status, step: int, message: str = ""
    ) -> None:
        journal.record("end", step, status=status, message=message)
        journal.close()
        facts = {"status": status, "step": step, "message": message, "code": 0}
        write_json(run.end_path, {**facts, "time": 1_800_000_000.5})

    return write


@pytest.fixture(scope="session")
def fresh_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database, made once: making one takes seconds."""
    project = Project(tmp_path_factory.mktemp("store"))
    store.prepare(project)
    return project.runs / "mlflow.db"


@pytest.fixture
def client(project: Project, fresh_store: Path) -> Any:
    """A client of the project's own store, which is there and empty."""
    project.runs.mkdir(exist_ok=True)
    shutil.copy(fresh_store, project.runs / "mlflow.db")
    return store.connect(project)


@pytest.fixture
def found() -> Callable[..., Any]:
    """`found(client, run)`: the one run that mirrors `run`."""

    def search(client: Any, run: Run) -> Any:
        experiment = client.get_experiment_by_name(f"labctl/{run.plan.recipe}")
        runs = client.search_runs(
            [experiment.experiment_id], f"tags.`labctl.key` = '{run.plan.key}'"
        )
        assert len(runs) == 1
        return runs[0]

    return search


@pytest.fixture
def points() -> Callable[..., Points]:
    """`points(client, entity)`: (step, value, time in ms) of every point stored, by metric."""

    def histories(client: Any, entity: Any) -> Points:
        return {
            name: sorted(
                (point.step, point.value, point.timestamp)
                for point in client.get_metric_history(entity.info.run_id, name)
            )
            for name in client.get_run(entity.info.run_id).data.metrics
        }

    return histories
