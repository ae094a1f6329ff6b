"""What a recipe can say about the measurements."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from labctl.api import Config

Batch = Annotated[int, Field(ge=1)]


class TokenFlowConfig(Config):
    """Which images are followed through the blocks."""

    split: str = "test"
    """Name of the split."""
    images: int = Field(default=2000, ge=1)
    """How many, from its beginning."""


class TokenCourseConfig(Config):
    """What was noted during training is drawn as it is."""


class ImportanceMapsConfig(Config):
    """Which images are drawn."""

    split: str = "test"
    """Name of the split."""
    images: int = Field(default=64, ge=1)
    """How many, from its beginning; the arrays hold all of them."""
    shown: int = Field(default=8, ge=1)
    """How many of these the figure shows."""


class InferenceCostConfig(Config):
    """What is counted and timed."""

    split: str = "test"
    """Name of the split."""
    images: int = Field(default=2000, ge=1)
    """Over how many, from its beginning, the tokens that are left are averaged."""
    batches: tuple[Batch, ...] = Field(default=(1, 128, 1024), min_length=1)
    """Images at once, each timed."""
    seconds: float = Field(default=1.0, gt=0)
    """For which each model is timed at each number, at least, and as long for latency."""
    precision: Literal["bf16"] | None = None
    """To which weights and images of both models are rounded; null: that of the weights."""
    compiled: bool = False
    """Whether models are fused by `torch.compile`, for each number of images anew, and on a GPU
    recorded. Packed ones, which wait for the device twice a block, are timed as written, beside a
    plain one that is fused."""
