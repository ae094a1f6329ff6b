"""The closed, frozen value that every block of a recipe is validated into."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """What a recipe can say in one block: unknown fields are errors, values never change.

    The docstring under a field is its help text: see `labctl.registry.helptext`.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        defer_build=True,  # validators are made when first used: reading verbs use few
        strict=True,
        allow_inf_nan=False,
        populate_by_name=True,
    )
