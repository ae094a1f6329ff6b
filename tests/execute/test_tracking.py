"""The process that feeds MLflow, as the supervisor sees it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from labctl.execute import tracking
from labctl.execute.tracking import Tracking
from labctl.project import Project
from labctl.store.run import Run

POPEN = subprocess.Popen


@pytest.fixture(autouse=True)
def _runs(project: Project) -> None:
    project.runs.mkdir()


def stands_in(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Python code is run in the place of the feed."""

    def popen(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        return POPEN([sys.executable, "-c", code, *command[3:]], **options)

    monkeypatch.setattr(subprocess, "Popen", popen)


def test_its_death_is_told_and_troubles_nobody(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    stands_in(monkeypatch, "exit(3)")
    subject = Tracking(project, [])
    subject._process.wait()
    subject.add(Run(project.runs / "r/seed=0"))
    assert not subject.finish()


def test_the_first_of_what_it_says_is_told(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    for words in ("the store is closed\\nfor good", "", "the key is lost"):
        stands_in(monkeypatch, f"print('{words}')\nexit(1)")
        subject = Tracking(project, [])
        assert not subject.finish()
        assert subject.complaint == words.partition("\\n")[0]


def test_it_hears_of_every_run_and_is_not_waited_for_long(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = project.root / "heard"
    said = "sys.argv[1] + sys.stdin.read()"
    stands_in(monkeypatch, f"import sys; open({str(heard)!r}, 'w').write({said})")
    subject = Tracking(project, [Run(project.runs / "a/seed=0")])
    subject.add(Run(project.runs / "b/seed=1"))
    assert subject.finish()
    assert "a/seed=0" in heard.read_text() and heard.read_text().endswith("b/seed=1\n")

    monkeypatch.setattr(tracking, "LAST_WORDS_SECONDS", 0.2)
    stands_in(monkeypatch, "import time; time.sleep(60)")
    slow = Tracking(project, [])
    assert not slow.finish()
    assert slow._process.returncode < 0
