"""What a recipe can say about the model."""

from __future__ import annotations

from pydantic import Field

from labctl.api import Config


class MixerConfig(Config):
    """Sizes of the mixer."""

    patch: int = Field(default=4, ge=1)
    """Side of a patch, in pixels; must divide height and width."""
    width: int = Field(default=128, ge=1)
    """Channels of a patch."""
    depth: int = Field(default=4, ge=1)
    """Mixing layers."""
