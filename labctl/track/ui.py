"""MLflow's own pages on the runs of a project."""

from __future__ import annotations

import sys

from labctl.errors import UsageError
from labctl.project import Project

from .store import artifact_root, is_served, prepare, shown, tracking_uri


def ui_command(project: Project, port: int = 5000) -> list[str]:
    """The command that serves the project's store on this machine, at `http://127.0.0.1:<port>`.

    Raises:
        UsageError: a server has the store; it shows the runs itself.
        EnvironmentProblem: the store cannot be used.
    """
    uri = tracking_uri(project)
    if is_served(uri):
        raise UsageError("the runs are on an MLflow server", hint=f"open {shown(uri)}")
    prepare(project, uri)
    return [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--backend-store-uri", uri),
        *("--default-artifact-root", artifact_root(project).as_uri()),
        *("--host", "127.0.0.1"),
        *("--port", str(port)),
        *("--workers", "1"),
    ]
