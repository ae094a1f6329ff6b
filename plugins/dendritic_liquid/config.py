"""What a recipe can say about the model and its budget of tokens."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from labctl.api import Config, DataSpec, Knob

Mask = Literal["soft", "transition", "hard"]
Share = Annotated[float, Field(gt=0, le=1)]
Channels = Annotated[int, Field(ge=1)]


class StemConfig(Config):
    """Convolutions of 3x3 pixels, and one of 1x1, that make the patches."""

    widths: tuple[Channels, ...] = Field(default=(64, 128, 256), min_length=1)
    """Channels after each of 3x3."""
    strides: tuple[Literal[1, 2], ...] | None = None
    """Of each of 3x3: 2 halves the resolution, and patch_size is their product; null: the last
    log2(patch_size) halve it."""


class DendritesConfig(Config):
    """Branches of a token's importance, and what is made of them."""

    branches: int = Field(default=4, ge=1)
    """Dendrites of a block; each is an MLP with one output."""
    hidden: int = Field(default=32, ge=1)
    """Hidden units of a branch."""
    bias: float = 2.0
    """Of a branch's output as training begins: importance sigmoid(2) = 0.88."""
    pool: Literal["max", "logsumexp"] = "max"
    """The strongest branch decides; with `logsumexp` all have a gradient."""
    blend: Literal["weighted", "straight"] = "weighted"
    """What importance is to a block's output. `weighted`: its share, the rest being what the block
    read. `straight`: all is output, and importance has the gradient that it would have as a share:
    it ranks tokens, and holds none back."""


class LiquidConfig(Config):
    """A closed-form continuous-time gate."""

    hidden: int = Field(default=40, ge=1)
    """Units of the backbone that its three heads read."""
    scale: float = Field(default=1e-2, ge=0)
    """What the gate adds to a token is scaled by this as training begins."""


class SparseConfig(Config):
    """Which tokens a block attends to, and what becomes of the others."""

    keep: tuple[Share, ...] = (0.85, 0.8, 0.6, 0.5, 0.4, 0.4)
    """Share of the patches kept in each block."""
    score: Literal["dendrites", "cls"] | None = None
    """What ranks patches: their own importance, or what CLS attended to in the block before, so
    that the first block keeps all; null: importance where there are dendrites, else CLS."""
    threshold: float = Field(default=0.5, gt=0, lt=1)
    """Importance above which a token is kept by a mask."""
    least_temperature: float = Field(default=0.5, gt=0)
    """The slope that hard masks lend to the way back is that of a temperature no lower than this:
    at 0.1 it vanishes for tokens that are far from the threshold."""
    execution: Literal["topk", "packed", "mask"] = "topk"
    """With hard masks. `topk`: the most important patches of each image are gathered, as many as
    `keep` says, and nothing is computed for the others. `packed`: those above the threshold,
    however many an image has; nothing is computed for the others in evaluation, while training
    masks them. `mask`: all are computed and masked, which saves nothing."""
    explore: float = Field(default=0.0, ge=0, lt=1)
    """With `execution: topk`, share of the kept places that training gives to patches drawn by lot
    from the others."""

    @model_validator(mode="after")
    def _check_explore(self) -> Self:
        if self.explore and self.execution != "topk":
            raise ValueError(
                f"explore {self.explore:g} draws lots for the places of execution: topk, and "
                f"{self.execution} has none; explore: 0, or execution: topk"
            )
        return self


class DendriticLiquidConfig(Config):
    """A vision transformer of patches, whose parts each can be left out."""

    patch_size: int = Field(default=4, ge=1)
    """Pixels on a patch's side; must divide the image's."""
    stem: StemConfig | None = None
    """Convolutions that make the patches; null: a single one, as large as a patch."""
    embed_dim: int = Field(default=256, ge=1)
    """Width of a token."""
    depth: int = Field(default=6, ge=1)
    """Transformer blocks."""
    num_heads: int = Field(default=8, ge=1)
    """Attention heads; must divide embed_dim."""
    mlp_ratio: float = Field(default=4.0, gt=0)
    """Width of the hidden layer of a block's MLP, over embed_dim."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """After the position embedding, after the attention's projection, and twice in the MLP."""
    drop_path: float = Field(default=0.0, ge=0, lt=1)
    """Stochastic depth: share of the images that skip attention, and of those that skip the MLP, in
    the last block; it rises linearly from 0 in the first."""
    dendrites: DendritesConfig | None = None
    """Importance of tokens by dendritic gating; null: every token counts fully."""
    liquid: LiquidConfig | None = None
    """A continuous-time gate between a block's input and output; null for none."""
    sparse: SparseConfig | None = None
    """Attention to important tokens alone; null: to all."""

    @property
    def ranked_by_cls(self) -> bool:
        """Whether tokens are left out by what CLS attends to."""
        if self.sparse is None:
            return False
        return self.sparse.score == "cls" or self.dendrites is None

    @model_validator(mode="after")
    def _check_shapes(self) -> Self:
        if self.embed_dim % self.num_heads:
            near = round(self.embed_dim / self.num_heads) or 1
            raise ValueError(
                f"num_heads {self.num_heads} does not divide embed_dim {self.embed_dim}; "
                f"embed_dim {near * self.num_heads} would do"
            )
        if self.stem is not None:
            halvings = self.patch_size.bit_length() - 1
            strides, count = self.stem.strides, len(self.stem.widths)
            if self.patch_size != 1 << halvings:
                raise ValueError(
                    f"stem halves the resolution, and patch_size {self.patch_size} is no power of "
                    f"two; patch_size {1 << halvings}, or stem: null"
                )
            if strides is not None and len(strides) != count:
                raise ValueError(
                    f"stem.strides has {len(strides)} numbers, and stem.widths {count}: one of "
                    "each for every convolution"
                )
            if strides is not None and math.prod(strides) != self.patch_size:
                raise ValueError(
                    f"stem.strides come to {math.prod(strides)}, and patch_size is "
                    f"{self.patch_size}; {halvings} of them must be 2, or strides: null"
                )
            if count < halvings:
                raise ValueError(
                    f"stem.widths has {count} convolutions, and patch_size {self.patch_size} needs "
                    f"{halvings} that halve the resolution"
                )
        if self.sparse is not None:
            if self.sparse.score == "dendrites" and self.dendrites is None:
                raise ValueError(
                    "sparse.score is dendrites, and there are none; dendrites: {}, or score: cls"
                )
            keep = self.sparse.keep
            if len(keep) != self.depth:
                raise ValueError(
                    f"sparse.keep has {len(keep)} shares, and depth is {self.depth}: one for each "
                    "block"
                )
            if any(after > before for before, after in pairwise(keep)):
                raise ValueError(
                    "sparse.keep rises from one block to the next, but what is dropped stays so; "
                    "let it fall"
                )
        return self


class TokenBudgetConfig(Config):
    """A price on keeping more or fewer tokens than the model's `sparse.keep`."""

    weight: float = Field(default=2.0, ge=0)
    """Of the squared distance of each block's share, summed over blocks. DynamicViT has 2 for their
    mean."""


def knobs(config: DendriticLiquidConfig, spec: DataSpec) -> tuple[Knob, ...]:
    """None without `sparse`: nothing is masked then."""
    if config.sparse is None:
        return ()
    return (
        Knob(
            "temperature",
            0.1,
            "softness of a soft mask: 5 keeps all tokens alike, 0.1 parts them at the threshold",
            low=1e-3,
        ),
        Knob(
            "mask",
            "hard",
            "soft: attention is weighed; hard: tokens are in or out; transition: in between",
            kind="structural",
            choices=("soft", "transition", "hard"),
        ),
        Knob(
            "hardness",
            1.0,
            "share of the hard mask in transition, from 0 to 1",
            low=0.0,
            high=1.0,
        ),
    )


def fault(config: DendriticLiquidConfig, spec: DataSpec) -> str | None:
    """What does not fit and what would; None if all does."""
    if spec.inputs != "image":
        return f"dendritic_liquid_vit reads images, and {spec.name} holds {spec.inputs}"
    sides, size = spec.shape[1:], config.patch_size
    if any(side % size for side in sides):
        fits = [n for n in range(1, min(sides) + 1) if all(side % n == 0 for side in sides)]
        return (
            f"patch_size {size} does not divide {sides[0]}x{sides[1]} pixels; "
            f"these do: {', '.join(map(str, fits))}"
        )
    return None
