"""A project and its plugins, found where the caller is."""

from __future__ import annotations

from pathlib import Path

from labctl.project import Project
from labctl.registry.registry import Registry

Where = Project | Path | str | None
"""A project, or its folder; LABCTL_PROJECT or the working folder if not given."""


def opened(project: Where = None) -> tuple[Project, Registry]:
    """The project, and a registry of the plugins that it sees."""
    found = project if isinstance(project, Project) else Project.at(project)
    found.keep_compiled()
    return found, Registry(found.plugins)
