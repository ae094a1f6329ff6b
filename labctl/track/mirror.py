"""Runs, shown in MLflow. The run folders are the truth; nothing here ever changes what they say.

One experiment `labctl/<recipe>` per recipe; in it a parent run per label and group, and a child per
run. They are found again by their tags (names are not unique in MLflow), a run also by when it
began.

Every point is delivered once: only what no later attempt can supersede is sent, the mark in the
run's folder says through which step, and where the mark is missing or unsettled the store itself is
asked.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from labctl.errors import EnvironmentProblem, LabctlError
from labctl.project import Project
from labctl.store.journal import segments
from labctl.store.lock import FileLock
from labctl.store.run import Run
from labctl.store.status import Status

from . import mark as marks
from .mark import Mark
from .projection import FINAL, MLFLOW_STATUS, Point, Projection
from .store import Refused, answering, artifact_root, connect, is_served, shown, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as Entity

METRICS_PER_CALL = 1000
PARAMS_PER_CALL = 100
LOCK_SECONDS = 60.0
"""How long to wait for another process that is delivering a run of the same project."""
SET_ASIDE = "SET ASIDE"
"""In place of a status, of a run that was begun anew: nobody goes on with what it was."""
DELETED = "deleted in MLflow, and left so: `mlflow runs restore` brings it back"


@dataclass(frozen=True, slots=True)
class Delivery:
    """What one delivery of a run did."""

    folder: Path
    sent: int
    """Metric points that this delivery sent."""
    remaining: int
    """Points recorded after the last checkpoint: sent once they can no longer be superseded."""
    note: str = ""
    """Why nothing was sent, where that needs saying."""


class Mirror:
    """Delivers runs of one project to one store.

    The store is opened, and mlflow imported, when the first run has something to show.
    """

    def __init__(self, project: Project, uri: str | None = None) -> None:
        self.project = project
        self.uri = uri or tracking_uri(project)
        self._store = shown(self.uri)
        self._client: MlflowClient | None = None
        self._experiments: dict[str, str] = {}
        self._parents: dict[tuple[str, str], str] = {}
        self._opened: set[Path] = set()
        self._delivered: dict[Path, tuple[object, Delivery]] = {}

    def deliver(self, run: Run) -> Delivery:
        """Send what the store does not have of `run`, or nothing if the run says nothing new.

        Raises:
            EnvironmentProblem: the store cannot be reached or used; nothing is lost, deliver again.
            Refused: it does not take something of this run.
            RunError: the plan of the run cannot be read.
        """
        seen = _fingerprint(run)
        if (known := self._delivered.get(run.folder)) and known[0] == seen:
            return Delivery(run.folder, 0, known[1].remaining, known[1].note)
        if seen == _BLANK:
            return Delivery(run.folder, 0, 0)
        lock = FileLock(self.project.runs / ".mlflow-feed.lock")
        if not lock.acquire(LOCK_SECONDS):
            raise EnvironmentProblem(
                f"another process has been delivering to MLflow for {LOCK_SECONDS:.0f} s",
                hint="let it end, then `labctl sync` sends what is missing",
            )
        try:
            delivery = self._deliver(run)
        except LabctlError:
            # Something may have been deleted from the store: look it up again.
            self._opened.discard(run.folder)
            self._experiments.clear()
            self._parents.clear()
            raise
        finally:
            lock.release()
        self._delivered[run.folder] = seen, delivery
        return delivery

    def _deliver(self, run: Run) -> Delivery:
        projection = Projection.of(run)
        if projection is None:
            return Delivery(run.folder, 0, 0)
        if self._client is None:
            self._client = connect(self.project, self.uri)
        with answering(self.uri):
            mark = self._open(self._client, projection)
            if mark is None:
                return Delivery(run.folder, 0, 0, DELETED)
            due = [p for p in projection.points() if p.step > mark.through.get(p.name, -1)]
            last = projection.durable_step
            durable = [point for point in due if point.step <= last]
            self._send(self._client, projection, mark, durable)
            self._send_files(self._client, projection, mark)
            self._tell(self._client, projection, mark)
            self._tell_set_aside(self._client, projection)
            if not mark.is_settled:
                mark.is_settled = True
                marks.save(run.folder, self._store, mark)
        return Delivery(run.folder, len(durable), len(due) - len(durable))

    def _open(self, client: MlflowClient, projection: Projection) -> Mark | None:
        """The mark of a run that has its place in the store; None if it was deleted there."""
        folder = projection.run.folder
        mark = marks.load(folder, self._store)
        if mark and mark.is_settled and folder in self._opened:
            return mark
        experiment = self._experiment(client, projection.plan.recipe)
        entity = self._found(client, experiment, projection, mark)
        if entity is None:
            entity = self._created(client, experiment, projection)
        if entity.info.lifecycle_stage != "active":
            return None
        parent = self._parent(client, experiment, projection)
        if entity.data.tags.get("mlflow.parentRunId") != parent:
            client.set_tag(entity.info.run_id, "mlflow.parentRunId", parent)
        if mark is None or not mark.is_settled or mark.run_id != entity.info.run_id:
            mark = self._asked(client, entity)
            marks.save(folder, self._store, mark)
            self._send_params(client, projection, entity)
        self._opened.add(folder)
        return mark

    def _experiment(self, client: MlflowClient, recipe: str) -> str:
        if recipe not in self._experiments:
            name = f"labctl/{recipe}"
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                folder = artifact_root(self.project) / recipe
                location = None if is_served(self.uri) else folder.as_uri()
                self._experiments[recipe] = client.create_experiment(name, location)
            elif experiment.lifecycle_stage != "active":
                raise Refused(
                    f"MLflow store {self._store}: the experiment {name!r} was deleted",
                    hint=f"MLFLOW_TRACKING_URI='{self._store}' "
                    f"mlflow experiments restore --experiment-id {experiment.experiment_id}",
                )
            else:
                self._experiments[recipe] = experiment.experiment_id
        return self._experiments[recipe]

    def _found(
        self, client: MlflowClient, experiment: str, projection: Projection, mark: Mark | None
    ) -> Entity | None:
        """The run in the store, also if it was deleted.

        On a shared server another project may have carried out the same plan; that began otherwise.
        """
        from mlflow.entities import ViewType

        key = projection.plan.key
        found = [
            entity
            for entity in client.search_runs(
                [experiment], f"tags.`labctl.key` = '{key}'", ViewType.ALL
            )
            if entity.info.start_time == projection.start_ms
            and entity.data.tags.get("labctl.label") == projection.plan.label
        ]
        marked = mark.run_id if mark else None
        found.sort(key=lambda it: (it.info.run_id != marked, it.info.lifecycle_stage != "active"))
        return found[0] if found else None

    def _created(self, client: MlflowClient, experiment: str, projection: Projection) -> Entity:
        parent = self._parent(client, experiment, projection)
        tags = {**projection.tags(), **projection.state(), "mlflow.parentRunId": parent}
        return client.create_run(experiment, projection.start_ms, tags, projection.plan.name)

    def _parent(self, client: MlflowClient, experiment: str, projection: Projection) -> str:
        """The run under which the replicates of this one stand."""
        plan = projection.plan
        at = plan.label, plan.group
        if at not in self._parents:
            query = f"tags.`labctl.group` = '{plan.group}' and tags.`labctl.kind` = 'group'"
            found = client.search_runs([experiment], query, order_by=["start_time ASC"])
            same = [entity for entity in found if entity.data.tags["labctl.label"] == plan.label]
            if not same:
                tags = {**projection.group_tags(), "labctl.kind": "group"}
                name = f"{plan.label} {plan.group[:8]}"
                same = [client.create_run(experiment, projection.start_ms, tags, name)]
            self._parents[at] = same[0].info.run_id
        return self._parents[at]

    def _asked(self, client: MlflowClient, entity: Entity) -> Mark:
        """A mark made of what the store has."""
        run_id = entity.info.run_id
        through = {
            name: max(metric.step for metric in client.get_metric_history(run_id, name))
            for name in entity.data.metrics
        }
        return Mark(run_id, through)

    def _send_params(self, client: MlflowClient, projection: Projection, entity: Entity) -> None:
        from mlflow.entities import Param

        missing = [
            Param(name, value)
            for name, value in projection.params().items()
            if name not in entity.data.params
        ]
        for start in range(0, len(missing), PARAMS_PER_CALL):
            client.log_batch(entity.info.run_id, params=missing[start : start + PARAMS_PER_CALL])

    def _send(
        self, client: MlflowClient, projection: Projection, mark: Mark, points: Sequence[Point]
    ) -> None:
        """Send points in order of steps, and note each batch once it arrived."""
        from mlflow.entities import Metric

        folder = projection.run.folder
        if points and mark.is_settled:
            mark.is_settled = False
            marks.save(folder, self._store, mark)
        for start in range(0, len(points), METRICS_PER_CALL):
            batch = points[start : start + METRICS_PER_CALL]
            client.log_batch(
                mark.run_id, [Metric(p.name, p.value, p.time_ms, p.step) for p in batch]
            )
            mark.through.update((point.name, point.step) for point in batch)
            marks.save(folder, self._store, mark)

    def _send_files(self, client: MlflowClient, projection: Projection, mark: Mark) -> None:
        for name, path in projection.files():
            stat = path.stat()
            if mark.files.get(name) == [stat.st_size, stat.st_mtime_ns]:
                continue
            if Path(name).name == path.name:
                parent = Path(name).parent.as_posix()
                client.log_artifact(mark.run_id, str(path), parent if parent != "." else None)
            else:
                client.log_text(mark.run_id, path.read_text(encoding="utf-8"), name)
            mark.files[name] = [stat.st_size, stat.st_mtime_ns]
            mark.is_settled = False

    def _tell(self, client: MlflowClient, projection: Projection, mark: Mark) -> None:
        """Bring status, changing tags and parent up to date; last: FINISHED means complete."""
        state = projection.state()
        if state == mark.told:
            return
        taken_back = dict.fromkeys(mark.told.keys() - state.keys(), "")
        _set(client, mark.run_id, projection.status, projection.end_ms, {**state, **taken_back})
        self._tell_parent(client, projection)
        mark.told = state
        mark.is_settled = False

    def _tell_set_aside(self, client: MlflowClient, projection: Projection) -> None:
        """End what the run was before it was begun anew; its parent no longer counts it."""
        told = False
        experiment = self._experiment(client, projection.plan.recipe)
        for folder in projection.run.set_aside:
            mark = marks.load(folder, self._store)
            if mark is None or mark.told.get("labctl.status") == SET_ASIDE:
                continue
            if client.search_runs([experiment], f"attributes.run_id = '{mark.run_id}'"):
                tags = {"labctl.status": SET_ASIDE}
                _set(client, mark.run_id, Status.STOPPED, None, tags)
                told = True
            mark.told["labctl.status"] = SET_ASIDE
            marks.save(folder, self._store, mark)
        if told:
            self._tell_parent(client, projection)

    def _tell_parent(self, client: MlflowClient, projection: Projection) -> None:
        """The parent counts the runs under it, stands where they stand together, and has the means
        of those that are done."""
        experiment = self._experiment(client, projection.plan.recipe)
        parent = self._parent(client, experiment, projection)
        query = f"tags.`mlflow.parentRunId` = '{parent}' and tags.`labctl.kind` = 'run'"
        found = client.search_runs([experiment], query)
        children = [one for one in found if one.data.tags["labctl.status"] != SET_ASIDE]
        counts = Counter(entity.data.tags["labctl.status"] for entity in children)
        tags = {f"labctl.runs.{status}": str(counts[status]) for status in Status}
        end_ms = max((entity.info.end_time or 0 for entity in children), default=0)
        done = [one for one in children if one.data.tags["labctl.status"] == Status.DONE]
        _send_means(client, parent, [one.data.metrics for one in done])
        _set(
            client, parent, _together(counts), end_ms, {**tags, "labctl.runs": str(counts.total())}
        )


def _send_means(client: MlflowClient, run_id: str, seeds: Sequence[Mapping[str, float]]) -> None:
    """`mean/test/acc` and, of two or more, `sd/test/acc`, of what every seed has as its last."""
    from mlflow.entities import Metric

    names = set.intersection(*(set(one) for one in seeds)) if seeds else set()
    values: dict[str, float] = {}
    for name in sorted(name for name in names if name.startswith(FINAL)):
        found = [one[name] for one in seeds]
        if not all(map(math.isfinite, found)):
            continue
        values[f"mean/{name.removeprefix(FINAL)}"] = fmean(found)
        if len(found) > 1:
            values[f"sd/{name.removeprefix(FINAL)}"] = stdev(found)
    now = round(time.time() * 1000)
    metrics = [Metric(name, value, now, 0) for name, value in values.items()]
    client.log_batch(run_id, metrics=metrics)


def _set(
    client: MlflowClient, run_id: str, status: Status, end_ms: int | None, tags: dict[str, str]
) -> None:
    from mlflow.entities import RunTag

    client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])
    if status is Status.RUNNING:
        client.update_run(run_id, MLFLOW_STATUS[status])
    else:
        client.set_terminated(run_id, MLFLOW_STATUS[status], end_ms)


def _together(counts: Counter[str]) -> Status:
    """One status for the runs of a group: that of the one that asks most for attention."""
    order = (
        Status.RUNNING,
        Status.FAILED,
        Status.DIVERGED,
        Status.HALTED,
        Status.LOST,
        Status.STOPPED,
    )
    return next((status for status in order if counts[status]), Status.DONE)


_BLANK = (Status.PENDING, (), None)


def _fingerprint(run: Run) -> object:
    """Changes whenever the run says something new."""
    sizes = tuple(path.stat().st_size for path in segments(run.folder))
    ended = run.end_path.stat().st_mtime_ns if run.end_path.exists() else None
    return run.status, sizes, ended


def sync(project: Project, runs: Iterable[Run], uri: str | None = None) -> list[Delivery]:
    """Deliver everything of `runs`.

    Raises:
        EnvironmentProblem: the store cannot be reached or used. What it refuses of one run is that
            run's note, and does not keep the others from being delivered.
    """
    mirror = Mirror(project, uri)
    deliveries = []
    for run in runs:
        try:
            deliveries.append(mirror.deliver(run))
        except Refused as error:
            deliveries.append(Delivery(run.folder, 0, 0, str(error)))
    return deliveries
