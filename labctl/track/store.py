"""The MLflow store that the runs are mirrored in: which one it is, and how it is opened."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from labctl.errors import EnvironmentProblem
from labctl.project import Project
from labctl.store.lock import FileLock

if TYPE_CHECKING:
    from mlflow import MlflowClient

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # s
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""How MLflow is to behave unless the user's environment says otherwise: quiet, quick to give up.

By default it retries a server that is down for minutes; here the next pass is the retry.
"""
REFUSALS = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE", "BAD_REQUEST"}


class Refused(EnvironmentProblem):
    """The store answers, but does not take what it is given for one run; others may go through."""


def tracking_uri(project: Project) -> str:
    """MLFLOW_TRACKING_URI, else the SQLite file `mlflow.db` among the project's runs."""
    named = os.environ.get("MLFLOW_TRACKING_URI")
    if not named:
        return sqlite_uri(project.runs / "mlflow.db")
    path = sqlite_path(named)
    return sqlite_uri(path) if path else named


def artifact_root(project: Project) -> Path:
    """Where artifacts go, unless a server keeps them."""
    return project.runs / "artifacts"


def sqlite_uri(path: Path) -> str:
    """The absolute URI of an SQLite file; what SQLAlchemy would read as syntax is quoted."""
    quoted = str(path.resolve()).translate({ord(sign): f"%{ord(sign):02X}" for sign in "%?#"})
    return f"sqlite:///{quoted}"


def sqlite_path(uri: str) -> Path | None:
    """The file of an `sqlite:///` URI, absolute; None for any other store."""
    name = uri.removeprefix("sqlite:///")
    if name == uri or name in ("", ":memory:"):
        return None
    return Path(unquote(name)).resolve()


def is_served(uri: str) -> bool:
    """Whether an MLflow server stands at `uri`, rather than a database that labctl opens itself."""
    return uri.startswith(("http://", "https://"))


def shown(text: str) -> str:
    """`text` with user names and passwords taken out of every URI in it."""
    return re.sub(r"://[^/@\s]+@", "://", text)


@contextmanager
def answering(uri: str, refusal: type[EnvironmentProblem] = Refused) -> Iterator[None]:
    """Around calls of MLflow: what goes wrong there becomes an error that says what to do.

    Raises:
        Refused: the store answers, and does not take what it was given (or another `refusal`).
        EnvironmentProblem: it cannot be reached or used.
    """
    import_mlflow()
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError  # with which MLflow opens its databases

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        message = f"MLflow store {shown(uri)}: {_reason(error)}"
        if isinstance(error, MlflowException) and error.error_code in REFUSALS:
            raise refusal(message, hint="the run itself is not touched") from error
        raise EnvironmentProblem(
            message,
            hint="no run is touched by this; `labctl sync` sends the rest once the store answers",
        ) from error


def _reason(error: Exception) -> str:
    """One line, the same whenever it is the same thing that goes wrong."""
    # The errors of requests are OSErrors; MLflow's words for them name the call that met them.
    if isinstance(error.__context__, OSError):
        return f"no answer ({type(error.__context__).__name__})"
    lines = shown(str(error)).splitlines()
    return lines[0] if lines else type(error).__name__


def import_mlflow() -> None:
    """Import MLflow into the environment that it is to find, and silence what it logs."""
    # It would make every run that is created here the one run that it names.
    os.environ.pop("MLFLOW_RUN_ID", None)
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow

    # What goes wrong arrives as an exception too. MLflow sets its level when it is imported.
    for name in (mlflow.__name__, "alembic", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def prepare(project: Project, uri: str | None = None) -> None:
    """Make the store usable: create an SQLite file that is not there, migrate the project's own.

    Raises:
        EnvironmentProblem: it cannot be reached or used.
    """
    connect(project, uri)


def connect(project: Project, uri: str | None = None) -> MlflowClient:
    """A client of the store, after `prepare`.

    Several processes may do this at once: MLflow alone lets most of them die over a new SQLite
    file, so here they take turns under a lock beside it.

    Raises:
        EnvironmentProblem: the store cannot be reached or used.
    """
    uri = uri or tracking_uri(project)
    with answering(uri, refusal=EnvironmentProblem):
        path = sqlite_path(uri)
        if path is None:
            return _client(uri)
        with FileLock(path.parent / ".mlflow.lock"):
            _make_current(path, is_own=path == sqlite_path(sqlite_uri(project.runs / "mlflow.db")))
            return _client(uri)


def _client(uri: str) -> MlflowClient:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    client.search_experiments(max_results=1)
    return client


def _make_current(path: Path, *, is_own: bool) -> None:
    """Bring the SQLite file at `path` to the schema of this MLflow."""
    import mlflow
    from alembic.script import ScriptDirectory  # with which MLflow numbers its schemas

    found = _schema(path)
    if found is None:
        _create(path)
        return
    migrations = Path(mlflow.__file__).parent / "store" / "db_migrations"
    known = [script.revision for script in ScriptDirectory(str(migrations)).walk_revisions()]
    if found not in known:
        raise EnvironmentProblem(
            f"MLflow store {path}: its schema {found} is unknown to mlflow {mlflow.__version__}: "
            "a newer MLflow wrote it, or another program",
            hint=f"no run is touched by this: upgrade mlflow, or {_elsewhere(path)}",
        )
    if found != known[0]:
        _migrate(path, is_own)


def _schema(path: Path) -> str | None:
    """The schema that a file says it has; None for a file that is not there, or empty."""
    if not path.exists():
        return None
    try:
        # Not `mode=ro`, which cannot take back what a writer that was killed had begun.
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=20)) as file:
            tables = {name for (name,) in file.execute("SELECT name FROM sqlite_master")}
            if not tables:
                return None
            if "alembic_version" in tables:
                row = file.execute("SELECT version_num FROM alembic_version").fetchone()
                return str(row[0]) if row else "(none)"
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorname", "") in ("SQLITE_BUSY", "SQLITE_LOCKED"):
            raise EnvironmentProblem(
                f"MLflow store {path}: another program is writing to it",
                hint="no run is touched by this: try again when it is done",
            ) from error
        raise EnvironmentProblem(
            f"MLflow store {path}: {error}",
            hint=f"no run is touched by this: move the file away, or {_elsewhere(path)}",
        ) from error
    raise EnvironmentProblem(
        f"MLflow store {path}: a database of another program",
        hint=f"no run is touched by this: {_elsewhere(path)}",
    )


def _elsewhere(path: Path) -> str:
    uri = sqlite_uri(path.with_name(f"{path.stem}-2.db"))
    return f"mirror the runs elsewhere:\n  MLFLOW_TRACKING_URI='{uri}' labctl sync"


def _create(path: Path) -> None:
    """Make a store beside `path`, then rename: a process killed meanwhile leaves no half of one."""
    from mlflow import MlflowClient

    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    MlflowClient(tracking_uri=sqlite_uri(partial))
    partial.replace(path)


def _migrate(path: Path, is_own: bool) -> None:
    uri = sqlite_uri(path)
    if not is_own:
        raise EnvironmentProblem(
            f"MLflow store {path}: its schema is older than this MLflow",
            hint=f"no run is touched by this: mlflow db upgrade '{uri}'",
        )
    command = [sys.executable, "-m", "mlflow", "db", "upgrade", uri]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise EnvironmentProblem(
            f"MLflow store {path}: it cannot be migrated: {lines[-1]}",
            hint="no run is touched by this: move the file away; `labctl sync` fills a new one",
        )
