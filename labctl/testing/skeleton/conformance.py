"""skeleton keeps to what labctl expects of a plugin. Tests of its equations go here too."""

from __future__ import annotations

from labctl.testing import PluginSuite


class TestContract(PluginSuite):
    """Every test of the suite, on the smoke preset of recipes/skeleton.yaml."""

    plugin = "skeleton"
