"""How training ends before its budget does."""

from __future__ import annotations

from labctl.errors import LabctlError


class Diverged(LabctlError):
    """The loss is no longer finite."""

    exit_code = 3


class Halted(LabctlError):
    """A stop rule of the recipe was met."""

    exit_code = 3
