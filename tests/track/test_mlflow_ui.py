"""The command that serves MLflow's pages; tests/track/test_mlflow_server.py runs it."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.errors import UsageError
from labctl.project import Project
from labctl.track.ui import ui_command


def test_it_serves_the_projects_store_to_this_machine_alone(project: Project, client: Any) -> None:
    command = ui_command(project, 5123)
    options = dict(zip(command[4::2], command[5::2], strict=True))
    assert options == {
        "--backend-store-uri": f"sqlite:///{project.runs}/mlflow.db",
        "--default-artifact-root": f"file://{project.runs}/artifacts",
        "--host": "127.0.0.1",
        "--port": "5123",
        "--workers": "1",
    }


def test_a_server_shows_itself(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@example.org")
    with pytest.raises(UsageError) as error:
        ui_command(project)
    assert error.value.hint == "open https://example.org"
