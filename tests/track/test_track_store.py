"""Which store it is, and how it is opened, made, migrated or refused."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from labctl.errors import EnvironmentProblem
from labctl.project import Project
from labctl.track.store import connect, prepare, shown, sqlite_path, sqlite_uri, tracking_uri


def schema(path: Path) -> str:
    with closing(sqlite3.connect(path)) as file:
        return str(file.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def set_schema(path: Path, version: str) -> None:
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE alembic_version SET version_num = ?", (version,))


def test_the_store_is_among_the_runs(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracking_uri(project) == f"sqlite:///{project.root}/runs/mlflow.db"
    monkeypatch.setenv("LABCTL_RUNS", "/big/disk")
    assert tracking_uri(project) == "sqlite:////big/disk/mlflow.db"


@pytest.mark.parametrize(
    "named, uri",
    [
        ("http://example.org:5000", "http://example.org:5000"),
        ("postgresql://me@db/mlflow", "postgresql://me@db/mlflow"),
        ("sqlite:////there/x.db", "sqlite:////there/x.db"),
    ],
)
def test_the_environment_names_another(
    project: Project, monkeypatch: pytest.MonkeyPatch, named: str, uri: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", named)
    assert tracking_uri(project) == uri


def test_a_relative_file_becomes_absolute(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mine.db")
    assert tracking_uri(project) == f"sqlite:///{project.root}/mine.db"


@pytest.mark.parametrize(
    "name", ["plain.db", "with space.db", "per%20cent.db", "what?.db", "a#b.db"]
)
def test_a_path_survives_its_uri(tmp_path: Path, name: str) -> None:
    from sqlalchemy.engine import make_url

    uri = sqlite_uri(tmp_path / name)
    assert sqlite_path(uri) == tmp_path / name
    assert make_url(uri).database == str(tmp_path / name)


@pytest.mark.slow
def test_a_store_in_a_folder_with_an_odd_name(tmp_path: Path) -> None:
    project = Project(tmp_path / "50% of é ?")
    prepare(project)
    assert schema(project.runs / "mlflow.db")


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///:memory:", "http://example.org/a.db"])
def test_what_is_no_sqlite_file(uri: str) -> None:
    assert sqlite_path(uri) is None


def test_passwords_are_not_shown() -> None:
    text = "API request to https://me:secret@example.org/api failed, then http://example.org/x@y"
    assert (
        shown(text) == "API request to https://example.org/api failed, then http://example.org/x@y"
    )


def test_a_fresh_store_is_whole_and_used_again(project: Project, client: Any) -> None:
    client.create_experiment("kept")
    assert connect(project).get_experiment_by_name("kept")
    assert [path.name for path in project.runs.glob("mlflow*")] == ["mlflow.db"]


@pytest.mark.slow
def test_a_creation_that_was_killed_is_begun_again(project: Project) -> None:
    project.runs.mkdir()
    (project.runs / "mlflow.db.partial").write_bytes(b"half of a database")
    prepare(project)
    assert schema(project.runs / "mlflow.db")
    assert not (project.runs / "mlflow.db.partial").exists()


@pytest.mark.slow
def test_processes_that_make_the_store_at_once(project: Project) -> None:
    script = (
        "import sys\n"
        "from labctl.project import Project\n"
        "from labctl.track.store import connect\n"
        "import mlflow\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "connect(Project.at(sys.argv[1])).create_experiment(sys.argv[2])"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(project.root), f"of {number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(5)
    ]
    for process in processes:
        assert process.stdout and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    outcomes = [(process.communicate()[1], process.returncode) for process in processes]
    assert outcomes == [("", 0)] * 5
    names = {experiment.name for experiment in connect(project).search_experiments()}
    assert names == {"Default", *(f"of {number}" for number in range(5))}


KILLED = """
import os, signal, sqlite3, sys
file = sqlite3.connect(sys.argv[1], isolation_level=None)
file.execute("PRAGMA cache_size = 1")
file.execute("BEGIN")
file.execute("CREATE TABLE half (text TEXT)")
file.executemany("INSERT INTO half VALUES (?)", [("x" * 4000,)] * 50)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_writer_had_begun_is_taken_back(project: Project, client: Any) -> None:
    path = project.runs / "mlflow.db"
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert path.with_name("mlflow.db-journal").stat().st_size > 0, "the writer left its journal"
    prepare(project)
    assert {experiment.name for experiment in connect(project).search_experiments()} >= {"Default"}
    with closing(sqlite3.connect(path)) as file:
        assert not file.execute("SELECT * FROM sqlite_master WHERE name = 'half'").fetchall()


def test_a_newer_schema_is_refused(project: Project, client: Any) -> None:
    set_schema(project.runs / "mlflow.db", "from_the_future")
    before = (project.runs / "mlflow.db").read_bytes()
    with pytest.raises(EnvironmentProblem, match="from_the_future is unknown to mlflow") as problem:
        prepare(project)
    assert str(project.runs / "mlflow.db") in problem.value.message
    assert "no run is touched" in problem.value.hint
    assert f"MLFLOW_TRACKING_URI='sqlite:///{project.runs}/mlflow-2.db'" in problem.value.hint
    assert (project.runs / "mlflow.db").read_bytes() == before


def test_the_database_of_another_program_is_left_alone(project: Project) -> None:
    project.runs.mkdir()
    path = project.runs / "mlflow.db"
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("CREATE TABLE studies (study_id INTEGER)")
    before = path.read_bytes()
    with pytest.raises(EnvironmentProblem, match="of another program"):
        prepare(project)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database(project: Project) -> None:
    project.runs.mkdir()
    (project.runs / "mlflow.db").write_text("no database " * 100)
    with pytest.raises(EnvironmentProblem, match="not a database"):
        prepare(project)


@pytest.fixture
def old_store(project: Project) -> Path:
    """A store as an MLflow of four schemas ago would have left it."""
    import mlflow.store.db.utils as db
    from alembic import command
    from alembic.script import ScriptDirectory
    from mlflow.store.tracking.dbmodels.initial_models import Base

    project.runs.mkdir()
    path = project.runs / "mlflow.db"
    engine = db.create_sqlalchemy_engine(sqlite_uri(path))
    Base.metadata.create_all(engine)
    config = db._get_alembic_config(sqlite_uri(path))
    revisions = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revisions[4])
    engine.dispose()
    assert schema(path) == revisions[4]
    return path


@pytest.mark.slow
def test_the_projects_own_store_is_migrated(
    project: Project, old_store: Path, fresh_store: Path
) -> None:
    client = connect(project)
    assert client.get_experiment_by_name("Default")
    assert schema(old_store) == schema(fresh_store)


@pytest.mark.slow
def test_a_store_that_others_use_is_not_migrated(
    tmp_path: Path, old_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", sqlite_uri(old_store))
    before = schema(old_store)
    with pytest.raises(EnvironmentProblem, match="older than this MLflow") as problem:
        prepare(Project(tmp_path / "elsewhere"))
    assert "mlflow db upgrade" in problem.value.hint
    assert schema(old_store) == before


@pytest.mark.parametrize(
    "uri, why",
    [("file:///tmp/mlruns", "filesystem"), ("nonsense://x", "nonsense"), ("./mlruns", "file")],
)
def test_a_store_that_mlflow_does_not_know(project: Project, uri: str, why: str) -> None:
    with pytest.raises(EnvironmentProblem, match=why) as problem:
        connect(project, uri)
    assert type(problem.value) is EnvironmentProblem


def test_a_server_that_is_down(project: Project) -> None:
    with pytest.raises(EnvironmentProblem, match=r"http://127\.0\.0\.1:9: no answer") as problem:
        connect(project, "http://me:secret@127.0.0.1:9")
    assert "secret" not in str(problem.value)
    assert "labctl sync" in problem.value.hint


def test_importing_the_room_imports_no_mlflow() -> None:
    script = (
        "import sys\n"
        "import labctl.track.feed, labctl.track.mirror, labctl.track.ui\n"
        "from labctl.project import Project\n"
        "from labctl.track.mirror import Mirror\n"
        "mirror = Mirror(Project.at())\n"
        "heavy = {'mlflow', 'sqlalchemy', 'alembic', 'torch', 'pandas', 'requests'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
