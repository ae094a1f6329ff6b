"""A table stands in MLflow beside the runs that it is made of, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labctl.errors import EnvironmentProblem
from labctl.project import Project
from labctl.store.journal import JournalWriter
from labctl.store.run import Run
from labctl.store.status import Status
from labctl.track.mirror import sync
from labctl.track.tables import keep_table


def test_the_group_of_each_row_keeps_the_table(
    client: Any, project: Project, new_run: Callable[..., Run], end: Callable[..., None]
) -> None:
    runs = [new_run(seed, recipe) for recipe in ("one", "two") for seed in (0, 1)]
    for run in runs:
        journal = JournalWriter(run.folder, 1, 0, {})
        journal.metrics(100, {"test/acc": 0.5})
        end(run, journal, Status.DONE, 100)
    sync(project, runs)
    groups = [runs[0].plan.group, runs[0].plan.group, "of a published bundle"]
    kept = keep_table(project, groups, {"main.md": "| a |", "main.json": "{}"})
    parents = {
        entity.data.tags["labctl.label"]: entity.info.run_id
        for experiment in client.search_experiments()
        for entity in client.search_runs([experiment.experiment_id], "tags.`labctl.kind` = 'group'")
    }
    assert len(parents) == 2
    with_table = [
        label for label, run_id in parents.items() if client.list_artifacts(run_id, "tables")
    ]
    # The two recipes are the same work under two names, hence of one group.
    assert kept == 2 and sorted(with_table) == ["one@smoke", "two@smoke"]
    path = client.download_artifacts(parents["one@smoke"], "tables/main.md")
    assert Path(path).read_text() == "| a |"


def test_a_store_without_these_runs_says_what_to_do_first(client: Any, project: Project) -> None:
    with pytest.raises(EnvironmentProblem, match="none of the table's runs") as caught:
        keep_table(project, ["abc"], {"main.md": ""})
    assert "labctl sync" in caught.value.hint
