"""What a recipe can say about the model."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

from labctl.api import Config

StemKind = Literal["pool", "stride", "late_pool", "plain"]
Where = Literal["once", "compound", "input", "spread", "stages", "ltd"]
Saliency = Literal["cls_attn", "gradient", "random", "stem_norm", "value_norm", "entropy"]

BEFORE_ATTENTION: tuple[Saliency, ...] = ("random", "stem_norm")
"""Scores that need no attention, hence can choose patches before the first block."""


class CtdVitConfig(Config):
    """A convolutional stem, a vision transformer, and where and how it drops tokens in training."""

    embed_dim: int = Field(default=384, ge=1)
    """Width of a token."""
    depth: int = Field(default=8, ge=1)
    """Transformer blocks."""
    num_heads: int = Field(default=6, ge=1)
    """Attention heads; must divide embed_dim."""
    mlp_ratio: float = Field(default=4.0, gt=0)
    """Width of the hidden layer of a block's MLP, over embed_dim."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """After the position embedding, after the attention's projection, and twice in the MLP."""
    drop_path: float = Field(default=0.1, ge=0, lt=1)
    """Stochastic depth of the last block; rises linearly from 0 in the first."""
    stem: StemKind = "pool"
    """How three convolutions make patches. `pool` (max-pool after the first two), `late_pool`
    (after the last two) and `stride` (the first two have stride 2) quarter the image's side;
    `plain` makes a patch of every pixel."""
    stem_widths: tuple[PositiveInt, PositiveInt] = (64, 128)
    """Channels of the first two convolutions; the third ends at embed_dim."""
    readout: Literal["cls", "mean"] = "cls"
    """What the head reads: the CLS token, or the mean of the patches that are left."""
    where: Where = "once"
    """Where patches are dropped: in one block (`once`), in every block by the same ratio
    (`compound`), before the first block (`input`), geometrically over all blocks (`spread`), in
    three blocks (`stages`); or patches bypass each middle block, others in each (`ltd`)."""
    drop_at: int = Field(default=2, ge=0)
    """For `where: once`: the block, from 0, that drops after its attention and before its MLP."""
    saliency: Saliency = "cls_attn"
    """What ranks the patches. `gradient` trains with `learner: {kind: saliency_gradient}`, or
    `saliency_gradient_ema`, which reuses it."""
    select: Literal["top", "bottom"] = "top"
    """Keep the patches of highest saliency, or, as a control, of lowest."""
    bucket: int | None = Field(default=4, ge=1)
    """Numbers of patches kept in training are rounded to multiples of this, so that only a few
    shapes occur; null rounds nothing."""

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        width, heads = self.embed_dim, self.num_heads
        if width % heads:
            divisors = [n for n in range(1, width + 1) if width % n == 0]
            near = {max(n for n in divisors if n < heads), *[n for n in divisors if n > heads][:1]}
            raise ValueError(
                f"num_heads {heads} does not divide embed_dim {width}; num_heads "
                f"{' or '.join(map(str, sorted(near)))} does, or embed_dim "
                f"{max(round(width / heads), 1) * heads}"
            )
        return self


class SaliencyGradientEmaConfig(Config):
    """How often an image's patches are scored, and for how long that counts."""

    refresh: int = Field(default=8, ge=1)
    """One image in so many of each batch is scored anew."""
    momentum: float = Field(default=0.5, ge=0, lt=1)
    """Share of the old score in the new one."""


class MapsConfig(Config):
    """Which images a measurement looks at."""

    split: str = "test"
    """Name of the split."""
    images: int = Field(default=256, ge=1)
    """How many, from its beginning; the numbers and arrays are of all of them."""
    shown: int = Field(default=8, ge=1)
    """How many of these the figure shows."""


class SaliencyMapsConfig(MapsConfig):
    """Which images a measurement looks at, and how many of their patches go."""

    token_drop: float = Field(default=0.35, gt=0, lt=1)
    """Where the knob of that name stands while it looks."""
