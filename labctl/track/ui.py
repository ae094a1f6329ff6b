"""MLflow's own pages on the runs of a project."""

from __future__ import annotations

import socket
import sys

from labctl.errors import EnvironmentProblem, UsageError
from labctl.project import Project

from .store import artifact_root, is_served, prepare, shown, tracking_uri


def ui_command(project: Project, port: int = 5000) -> list[str]:
    """The command that serves the project's store on this machine, at `http://127.0.0.1:<port>`.

    Raises:
        UsageError: a server has the store; it shows the runs itself.
        EnvironmentProblem: the store or the port cannot be used.
    """
    uri = tracking_uri(project)
    if is_served(uri):
        raise UsageError("the runs are on an MLflow server", hint=f"open {shown(uri)}")
    _require_free(port)
    prepare(project, uri)
    return [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--backend-store-uri", uri),
        *("--default-artifact-root", artifact_root(project).as_uri()),
        *("--host", "127.0.0.1"),
        *("--port", str(port)),
        *("--workers", "1"),
    ]


def _require_free(port: int) -> None:
    """Said before the server is started: it would take many seconds to find out."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise EnvironmentProblem(
                f"port {port} cannot be used: {getattr(error, 'strerror', None) or error}",
                hint="labctl ui --port 5001",
            ) from None
