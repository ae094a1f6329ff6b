"""The model: stem, CLS and positions, blocks that may drop patches, a head."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labctl.api import DataSpec, Knobs, LabctlError

from .block import Block, Heads
from .config import CtdVitConfig
from .saliency import (
    cls_attn,
    entropy,
    keep_patches,
    no_autocast,
    put_back,
    ranked,
    stem_norm,
    taylor,
    value_norm,
)
from .stem import Stem
from .tokens import grid, num_patches, token_chain


@dataclass(frozen=True, slots=True)
class Selection:
    """One place at which patches were chosen; they are numbered from 0 as the stem makes them."""

    block: int
    """The block, from 0, in which they were chosen; before its attention with `input` and `ltd`."""
    candidates: Tensor
    """int64 (B, n): the patches that were there."""
    scores: Tensor
    """float32 (B, n): their saliency."""
    index: Tensor
    """int64 (B, k), ascending: which of the candidates were kept."""

    @property
    def kept(self) -> Tensor:
        """int64 (B, k), ascending: the patches that were kept."""
        return self.candidates.gather(1, self.index)


class CtdVit(nn.Module):
    """A hybrid vision transformer that drops patches as its knob `token_drop` says.

    Learned positions are added before anything is dropped, so patches carry theirs along. CLS is
    never dropped. Batch norm stands in the stem alone, hence sees all pixels whatever is dropped.
    """

    def __init__(self, config: CtdVitConfig, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.grid = grid(config, spec)
        self.num_patches = num_patches(config, spec)
        width, last = config.embed_dim, max(config.depth - 1, 1)
        self.stem = Stem(config, spec.shape[0])
        self.cls = nn.Parameter(torch.zeros(width))
        self.positions = nn.Parameter(torch.zeros(1 + self.num_patches, width))
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            Block(config, config.drop_path * place / last) for place in range(config.depth)
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, spec.num_classes)
        self.apply(_init_linear)
        nn.init.trunc_normal_(self.cls, std=0.02)
        nn.init.trunc_normal_(self.positions, std=0.02)

    def forward(self, inputs: Tensor, knobs: Knobs) -> Tensor:
        """Logits (B, classes) of float images (B, C, H, W); `token_drop` is a Python number.

        Raises:
            LabctlError: training with `saliency: gradient` under a learner that keeps its loss.
        """
        if self.training and self.config.saliency == "gradient":
            raise LabctlError(
                "model.saliency: gradient ranks by the loss, which this learner does not show",
                hint="learner: {kind: saliency_gradient}, or {kind: saliency_gradient_ema}",
            )
        return self.run(inputs, float(knobs["token_drop"]))[0]

    def run(self, inputs: Tensor, drop: float) -> tuple[Tensor, list[Selection]]:
        """Logits (B, classes), and which patches were chosen where.

        With `saliency: gradient` the loss is that of the classes predicted without dropping.
        """
        if self.config.saliency == "gradient":
            return self._run_by_gradient(inputs, drop)
        chain = token_chain(self.config, self.num_patches, drop)
        patches = self.stem(inputs)
        tokens, alive = self._embedded(patches), self._everything(patches)
        chosen: list[Selection] = []
        if self.config.where == "input" and chain[0] < self.num_patches:
            chosen.append(self._chosen(0, alive, self._scores(patches, alive), chain[0]))
            tokens, alive = keep_patches(tokens, chosen[-1].index), chosen[-1].kept
        for place, (block, left) in enumerate(zip(self._blocks, chain, strict=True)):
            if self.config.where == "ltd" and left < self.num_patches:
                chosen.append(self._chosen(place, alive, self._scores(patches, alive), left))
                part = block(keep_patches(tokens, chosen[-1].index))
                tokens = put_back(tokens, part, chosen[-1].index)
                continue
            tokens, heads = block.attend(tokens)
            if left < alive.shape[1]:
                chosen.append(self._chosen(place, alive, self._scores(patches, alive, heads), left))
                tokens, alive = keep_patches(tokens, chosen[-1].index), chosen[-1].kept
            tokens = block.feed(tokens)
        return self._read(tokens), chosen

    def heads(self, inputs: Tensor) -> Iterator[Heads]:
        """Queries, keys and values of each block in turn, with all patches there."""
        tokens = self._embedded(self.stem(inputs))
        for block in self._blocks:
            tokens, heads = block.attend(tokens)
            yield heads
            tokens = block.feed(tokens)

    def until_drop(self, inputs: Tensor) -> Tensor:
        """For `where: once`: the tokens (B, 1 + n, D) of which patches are dropped."""
        tokens = self._embedded(self.stem(inputs))
        for block in self._blocks[: self.config.drop_at]:
            tokens = block(tokens)
        return self._blocks[self.config.drop_at].attend(tokens)[0]

    def after_drop(self, tokens: Tensor) -> Tensor:
        """For `where: once`: logits (B, classes) of the tokens (B, 1 + k, D) that are left."""
        tokens = self._blocks[self.config.drop_at].feed(tokens)
        for block in self._blocks[self.config.drop_at + 1 :]:
            tokens = block(tokens)
        return self._read(tokens)

    def gradient_scores(self, tokens: Tensor, loss_of: Callable[[Tensor], Tensor]) -> Tensor:
        """float32 (B, n): |<x_i, dL/dx_i>| of every patch at the place of the drop.

        Args:
            tokens: (B, 1 + n, D) from `until_drop`.
            loss_of: from such tokens, through `after_drop`, to a 0-d loss.
        """
        with torch.inference_mode(False), torch.enable_grad():
            leaf = tokens.detach().clone().requires_grad_()
            # Tracers of modules, FlopCounterMode for one, cannot follow autograd.grad into a leaf.
            loss = loss_of(leaf.view_as(leaf))
            with no_autocast(tokens.device):
                (gradient,) = torch.autograd.grad(loss, leaf)
        return taylor(leaf, gradient)

    def drops(self, drop: float) -> bool:
        """Whether any patch goes when `token_drop` stands at `drop`."""
        return self._left(drop) < self.num_patches

    def best(self, scores: Tensor, drop: float) -> Selection:
        """For `where: once`: which patches stay when they have these scores (B, n)."""
        return self._chosen(self.config.drop_at, self._everything(scores), scores, self._left(drop))

    def _run_by_gradient(self, inputs: Tensor, drop: float) -> tuple[Tensor, list[Selection]]:
        def loss_of_prediction(leaf: Tensor) -> Tensor:
            logits = self.after_drop(leaf).float()
            return F.cross_entropy(logits, logits.argmax(-1))

        tokens = self.until_drop(inputs)
        if not self.drops(drop):
            return self.after_drop(tokens), []
        chosen = self.best(self.gradient_scores(tokens, loss_of_prediction), drop)
        return self.after_drop(keep_patches(tokens, chosen.index)), [chosen]

    def _left(self, drop: float) -> int:
        return token_chain(self.config, self.num_patches, drop)[-1]

    @property
    def _blocks(self) -> Sequence[Block]:
        return cast("Sequence[Block]", self.blocks)

    def _embedded(self, patches: Tensor) -> Tensor:
        cls = self.cls.expand(patches.shape[0], 1, -1)
        embedded: Tensor = self.dropout(torch.cat([cls, patches], dim=1) + self.positions)
        return embedded

    def _everything(self, patches: Tensor) -> Tensor:
        return torch.arange(self.num_patches, device=patches.device).expand(patches.shape[0], -1)

    def _scores(self, patches: Tensor, alive: Tensor, heads: Heads | None = None) -> Tensor:
        """Saliency (B, n) of the patches `alive`; `heads`, if any yet, are of CLS and those."""
        match self.config.saliency:
            case "random":
                return torch.rand(alive.shape, device=alive.device)
            case "stem_norm":
                return stem_norm(patches).gather(1, alive)
        assert heads is not None
        match self.config.saliency:
            case "value_norm":
                return value_norm(*heads)
            case "entropy":
                return entropy(heads.queries, heads.keys)
        return cls_attn(heads.queries, heads.keys)

    def _chosen(self, block: int, candidates: Tensor, scores: Tensor, left: int) -> Selection:
        return Selection(block, candidates, scores, ranked(scores, left, self.config.select))

    def _read(self, tokens: Tensor) -> Tensor:
        read = tokens[:, 0] if self.config.readout == "cls" else tokens[:, 1:]
        read = self.norm(read)
        logits: Tensor = self.head(read if self.config.readout == "cls" else read.mean(1))
        return logits


def _init_linear(module: nn.Module) -> None:
    """Truncated normal of deviation 0.02, no bias; convolutions keep torch's own."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
