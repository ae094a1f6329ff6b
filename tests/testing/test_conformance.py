"""The suite as strangers run it, on a bundled plugin, on one that reads text, on a scaffold."""

from __future__ import annotations

from pathlib import Path

import pytest

from labctl.project import Project
from labctl.registry.registry import Registry
from labctl.testing import PluginSuite, scaffold
from labctl.testing.bench import Bench

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
class TestCtdVit(PluginSuite):
    plugin = "ctd_vit"
    recipe = str(Path(__file__).with_name("ctd_digits.yaml"))
    preset = None
    project = ROOT


@pytest.mark.slow
class TestCtdVitRankedByGradient(TestCtdVit):
    overrides = ("model.saliency=gradient", "learner.kind=saliency_gradient")


@pytest.mark.slow
class TestCtdVitRankedByReusedGradient(TestCtdVit):
    overrides = ("model.saliency=gradient", "learner.kind=saliency_gradient_ema")


class TestMarginalia(PluginSuite):
    plugin = "marginalia"
    recipe = str(ROOT / "tests" / "plugins" / "marginalia" / "marginalia.yaml")
    project = ROOT / "tests"


class TestScaffold(PluginSuite):
    plugin = "fresh"

    @pytest.fixture(scope="class")
    @classmethod
    def bench(cls, tmp_path_factory: pytest.TempPathFactory) -> Bench:
        project = Project(tmp_path_factory.mktemp("project"))
        scaffold.write(project, Registry(project.plugins), cls.plugin)
        folder = tmp_path_factory.mktemp("runs")
        return Bench(cls.plugin, project, folder, cls.plugin, cls.preset)
