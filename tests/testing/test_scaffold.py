"""`labctl new plugin`: what it writes works, and what it cannot write it explains."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from labctl.errors import UsageError
from labctl.plans.derive import plans
from labctl.project import Project
from labctl.recipe.recipe import load
from labctl.registry.registry import Registry
from labctl.store.run import all_runs
from labctl.store.status import Status
from labctl.testing import scaffold

ROOT = Path(__file__).parents[2]
Labctl = Callable[..., subprocess.CompletedProcess[str]]


def write(project: Project, name: str) -> list[Path]:
    return scaffold.write(project, Registry(project.plugins), name)


def start(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A Python module as a program, in the project."""
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        check=False,
    )


def test_the_files(project: Project) -> None:
    written = write(project, "my_mixer")
    assert [path.relative_to(project.root).as_posix() for path in written] == [
        "plugins/my_mixer/__init__.py",
        "plugins/my_mixer/config.py",
        "plugins/my_mixer/model.py",
        "plugins/my_mixer/README.md",
        "plugins/my_mixer/test_my_mixer.py",
        "recipes/my_mixer.yaml",
    ]
    assert all("skeleton" not in path.read_text(encoding="utf-8").lower() for path in written)


def test_both_recipes_are_valid_and_turn_the_knob(project: Project) -> None:
    write(project, "my_mixer")
    registry = Registry(project.plugins)
    smoke, whole = (load(project, registry, "my_mixer", preset) for preset in ("smoke", None))
    assert (smoke.spec.name, whole.spec.name) == ("digits", "cifar10")
    for recipe in (smoke, whole):
        (plan, *_) = plans(recipe)
        assert set(plan.work.schedules) == {"lr", "noise"}
        assert plan.work.digests.keys() == {"my_mixer"}


def test_two_scaffolds_live_side_by_side(project: Project) -> None:
    write(project, "one")
    write(project, "other")
    registry = Registry(project.plugins)
    for name in ("one", "other"):
        assert load(project, registry, name, "smoke").architecture.plugin.plugin.name == name


def test_data_that_do_not_fit_are_named(project: Project) -> None:
    write(project, "my_mixer")
    with pytest.raises(Exception, match="patch 3 does not divide 8x8 pixels"):
        load(project, Registry(project.plugins), "my_mixer", "smoke", ("model.patch=3",))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("MyVit", "cannot name a plugin", "labctl new plugin my_vit"),
        ("my-vit", "cannot name a plugin", "labctl new plugin my_vit"),
        ("2nd try", "cannot name a plugin", "labctl new plugin nd_try"),
        ("ResNet50", "cannot name a plugin", "labctl new plugin res_net50"),
        ("../escape", "cannot name a plugin", "labctl new plugin escape"),
        ("lambda", "cannot name a plugin", "labctl new plugin my_model"),
        ("", "cannot name a plugin", "labctl new plugin my_model"),
        ("torch", "is a Python module", "labctl new plugin torch_model"),
        ("random", "is a Python module", "labctl new plugin random_model"),
        ("ctd_vit", "plugin 'ctd_vit' is there already", "labctl new plugin ctd_vit2"),
        ("mine", "plugins/mine exists", "labctl new plugin mine2"),
        ("reader", "architecture 'reader' is brought by", "labctl new plugin reader2"),
        ("planned", "recipe 'planned' is there already: recipes/planned.yaml", "planned2"),
    ],
)
def test_names_that_cannot_be(project: Project, name: str, message: str, hint: str) -> None:
    (project.plugins / "mine").mkdir(parents=True)
    write(project, "book")
    init = project.plugins / "book" / "__init__.py"
    init.write_text(init.read_text(encoding="utf-8").replace('name="book"', 'name="reader"'))
    (project.recipes / "planned.yaml").write_text("title: planned\n")
    before = sorted(project.root.rglob("*.*"))
    with pytest.raises(UsageError) as caught:
        write(project, name)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert [p for p in sorted(project.root.rglob("*.*")) if "__pycache__" not in str(p)] == before


def test_a_test_beside_the_code_changes_no_key(project: Project) -> None:
    write(project, "my_mixer")
    (before,) = plans(load(project, Registry(project.plugins), "my_mixer", "smoke"))
    test = project.plugins / "my_mixer" / "test_my_mixer.py"
    test.write_text(test.read_text(encoding="utf-8") + "\n\nMORE = 1\n", encoding="utf-8")
    (same,) = plans(load(project, Registry(project.plugins), "my_mixer", "smoke"))
    model = project.plugins / "my_mixer" / "model.py"
    model.write_text(model.read_text(encoding="utf-8") + "\n\nMORE = 1\n", encoding="utf-8")
    (other,) = plans(load(project, Registry(project.plugins), "my_mixer", "smoke"))
    assert same.key == before.key
    assert other.key != before.key


@pytest.mark.slow
def test_from_the_command_line_to_a_trained_model(project: Project) -> None:
    """Make, validate, run, test: with labctl's commands and pytest alone."""
    root = project.root
    made = start("labctl", "new", "plugin", "my_mixer", cwd=root)
    assert made.returncode == 0, made.stderr
    assert "next: labctl run my_mixer --preset smoke" in made.stdout
    valid = start("labctl", "validate", "my_mixer", cwd=root)
    assert valid.returncode == 0, valid.stderr
    trained = start("labctl", "run", "my_mixer", "--preset", "smoke", "--no-track", cwd=root)
    assert trained.returncode == 0, trained.stdout + trained.stderr
    (run,) = all_runs(project)
    assert run.status is Status.DONE
    assert run.journal.last["test/acc"] > 0.85
    noise = run.journal.curves["knob/noise"]
    assert noise[min(noise)] > 0.15 > 0.01 > noise[max(noise)]
    tested = start("pytest", "-q", "-W", "error", "-p", "no:cacheprovider", cwd=root)
    # Once, though the run has a copy of the plugin's code.
    assert re.search(r"^25 passed in", tested.stdout, re.M), tested.stdout
    again = start("labctl", "new", "plugin", "my_mixer", cwd=root)
    assert again.returncode == 2
    assert "plugins/my_mixer exists" in again.stderr


@pytest.mark.slow
def test_what_is_written_is_typed_and_tidy(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    # mypy follows no editable install that renames folders.
    monkeypatch.setenv("MYPYPATH", str(ROOT))
    write(project, "my_mixer")
    for command in (
        ("mypy", "--strict", "--follow-imports=silent", "plugins/my_mixer"),
        ("ruff", "format", "--check", "--line-length=100", "plugins"),
        ("ruff", "check", "--line-length=100", "--select=E,F,UP,B,ANN", "plugins"),
    ):
        done = start(*command, cwd=project.root)
        assert done.returncode == 0, done.stdout
