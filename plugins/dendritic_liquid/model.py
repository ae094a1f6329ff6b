"""The model: patches, CLS and positions, blocks that may attend to few tokens, a head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from labctl.api import DataSpec, Knobs, Output

from .block import Block, with_cls
from .config import DendriticLiquidConfig, SparseConfig
from .cost import kept
from .packing import Packed, Padding, attended_packed
from .sparsity import cls_share, hard_of, mask_of
from .stem import Patches, Stem


@dataclass(frozen=True, slots=True)
class Seen:
    """What one block made of the patches that came to it, for those who watch."""

    patches: Tensor
    """int64 (B, n): their numbers in the grid."""
    scores: Tensor | None
    """float32 (B, n): importance, or what CLS attended to; None where nothing scores."""
    kept: Tensor
    """bool (B, n): those that it attends to; with masks that are not hard, those that count for
    more than half."""
    queries: Tensor
    """As keys (B, H, 1 + m, d), of the m patches that it computes."""
    keys: Tensor
    weights: Tensor | None
    """(B, 1 + m) of the keys; None for all alike."""


class DendriticLiquidViT(nn.Module):
    """A vision transformer with dendritic importance, a liquid gate and sparse attention, each of
    which its config may leave out; without all of them it is an ordinary one."""

    def __init__(self, config: DendriticLiquidConfig, spec: DataSpec) -> None:
        super().__init__()
        self.config = config
        channels, height, width = spec.shape
        size, dim = config.patch_size, config.embed_dim
        self.grid = (height // size, width // size)
        self.num_patches = self.grid[0] * self.grid[1]
        self.patches: nn.Module = (
            Patches(channels, size, dim)
            if config.stem is None
            else Stem(config.stem, channels, size, dim)
        )
        self.cls = nn.Parameter(torch.zeros(dim))
        self.positions = nn.Parameter(torch.zeros(1 + self.num_patches, dim))
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, place) for place in range(config.depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, spec.num_classes)
        for parameter in (self.cls, self.positions, self.head.weight):
            nn.init.trunc_normal_(parameter, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, inputs: Tensor, knobs: Knobs) -> Output:
        """Logits (B, classes) of float images (B, C, H, W).

        With `sparse`, `aux` holds `excess` (blocks,): in each block that chooses, the share of all
        patches that lie above the threshold, less what the config asks it to keep.
        """
        sparse = self.config.sparse
        if sparse is None or sparse.execution != "packed" or knobs["mask"] != "hard":
            return self.run(inputs, knobs)
        # How many patches are left is known on the device alone, so a step that learns masks them.
        return self.run(inputs, knobs) if self.training else self._run_packed(inputs, sparse)

    def run(
        self, inputs: Tensor, knobs: Knobs, watch: Callable[[Seen], None] | None = None
    ) -> Output:
        """As `forward`, with every patch that a block computes in its place: `execution: packed` as
        `mask`. `watch` is told what each block does."""
        tokens = self._embedded(inputs)
        number = torch.arange(self.num_patches, device=inputs.device).expand(inputs.shape[0], -1)
        sparse = self.config.sparse
        gathers = sparse is not None and sparse.execution == "topk" and knobs["mask"] == "hard"
        alive, weights = None, None
        heads: tuple[Tensor, Tensor] | None = None
        excess: list[Tensor] = []
        for place, block in enumerate(self._blocks):
            patches, chosen = number, None
            of_tokens = block.importance(tokens)
            importance = None if of_tokens is None else of_tokens[:, 1:]
            scores = None if self.config.ranked_by_cls else importance
            if self.config.ranked_by_cls and heads is not None:
                scores = cls_share(*heads, weights)
            weights = None
            if sparse is not None and scores is not None:
                above = hard_of(scores, sparse, knobs["temperature"])
                left = above if alive is None else alive * above
                excess.append(left.sum(1).mean() / self.num_patches - sparse.keep[place])
                count = kept(sparse.keep[place], self.num_patches)
                if gathers and count < scores.shape[1]:
                    chosen = self._best(scores, count, sparse)
                    tokens, number = _gathered(tokens, chosen), number.gather(1, chosen)
                    importance = None if importance is None else importance.gather(1, chosen)
                elif not gathers:
                    is_ranked = sparse.execution == "topk"
                    alive = _ranked(scores, above, alive, count) if is_ranked else left
                    stands = (knobs["mask"], knobs["temperature"], knobs["hardness"])
                    weights = with_cls(mask_of(scores, alive, sparse, *stands))
            qkv = block.qkv(tokens)
            queries, keys, _ = block.attention.heads(qkv)
            heads = (queries, keys)
            if watch is not None:
                is_kept = _is_kept(patches, chosen, weights)
                watch(Seen(patches, scores, is_kept, queries, keys, weights))
            mixed = block.attention.mixed(qkv, weights)
            share = None if importance is None else with_cls(importance)
            tokens = block.write(tokens, mixed, share)
        return self._output(self.norm(tokens)[:, 0], excess)

    def _run_packed(self, inputs: Tensor, sparse: SparseConfig) -> Output:
        """With hard masks: nothing is computed for a patch from the block on that leaves it out."""
        packed = Packed.of(self._embedded(inputs))
        heads: tuple[Tensor, Tensor, Tensor] | None = None
        excess: list[Tensor] = []
        padding = Padding(packed)
        for place, block in enumerate(self._blocks):
            importance = block.importance(packed.patches)
            scores = None if self.config.ranked_by_cls else importance
            if self.config.ranked_by_cls and heads is not None:
                queries, keys, there = heads
                of_patches = torch.nn.functional.pad(cls_share(queries, keys, there), (1, 0))
                scores = padding.packed(of_patches)[packed.images :]
            if scores is not None:
                above = scores > sparse.threshold
                places = above.nonzero().squeeze(1)
                packed = packed.only(places)
                padding = Padding(packed)
                importance = None if importance is None else importance[places]
                excess.append(above.sum() / (packed.images * self.num_patches) - sparse.keep[place])
            mixed, heads = attended_packed(block.attention, block.qkv(packed.tokens), padding)
            if importance is not None:
                ones = importance.new_ones(packed.images)
                importance = torch.cat([ones, importance])
            packed = packed.with_tokens(block.write(packed.tokens, mixed, importance))
        return self._output(self.norm(packed.tokens)[: packed.images], excess)

    @property
    def _blocks(self) -> Sequence[Block]:
        return cast("Sequence[Block]", self.blocks)

    def _embedded(self, inputs: Tensor) -> Tensor:
        patches = self.patches(inputs)
        cls = self.cls.expand(patches.shape[0], 1, -1)
        embedded: Tensor = self.dropout(torch.cat([cls, patches], 1) + self.positions)
        return embedded

    def _output(self, cls: Tensor, excess: Sequence[Tensor]) -> Output:
        return Output(self.head(cls), {"excess": torch.stack(list(excess))} if excess else {})

    def _best(self, scores: Tensor, count: int, sparse: SparseConfig) -> Tensor:
        """int64 (B, count), ascending: the patches of the highest scores (B, n); in training
        `explore` of the places go to others by lot."""
        scores = scores.detach()
        lots = round(sparse.explore * count) if self.training else 0
        best = _places(scores, count - lots)
        if lots:
            lot = torch.rand_like(scores).masked_fill(best, 1.0)
            best = _places(lot, count)
        return _numbers(best, count)


def _ranked(scores: Tensor, above: Tensor, alive: Tensor | None, count: int) -> Tensor:
    """(B, n): 1 for the patches that hard masks would have gathered, else 0, so that nothing leaps
    when masks harden.

    Args:
        scores: (B, n).
        above: (B, n), which lends its slope.
        alive: (B, n), 1 for those that the blocks before left, at least `count` of each image.
    """
    there = scores.detach()
    if alive is not None:
        there = there.masked_fill(alive < 0.5, -torch.inf)
    best = _places(there, count).to(above.dtype) + (above - above.detach())
    return best if alive is None else alive * best


def _places(scores: Tensor, count: int) -> Tensor:
    """bool (B, n): where the highest of scores (B, n) are; of equal ones the first.

    Who has fewer than `count` ahead is among them. Of some dozens of patches all pairs are compared
    in less time than a GPU takes to sort them.
    """
    number = torch.arange(scores.shape[1], device=scores.device)
    own, other = scores[:, :, None], scores[:, None, :]
    before = number < number[:, None]
    ahead = (other > own) | ((other == own) & before)
    return ahead.sum(2) < count


def _numbers(chosen: Tensor, count: int) -> Tensor:
    """int64 (B, count), ascending: the numbers of those that are chosen, (B, n), `count` of each
    image."""
    number = torch.arange(chosen.shape[1], device=chosen.device)
    place = chosen.cumsum(1) - 1
    there = chosen[:, None] & (place[:, None] == torch.arange(count, device=chosen.device)[:, None])
    return (there * number).sum(2)


def _gathered(tokens: Tensor, index: Tensor) -> Tensor:
    """CLS and those of the patches among (B, 1 + n, D) tokens: (B, 1 + count, D)."""
    place = torch.cat([torch.zeros_like(index[:, :1]), index + 1], 1)
    return tokens.gather(1, place[..., None].expand(-1, -1, tokens.shape[-1]))


def _is_kept(patches: Tensor, chosen: Tensor | None, weights: Tensor | None) -> Tensor:
    """bool (B, n): which of the patches a block attends to, by index or by the weights (B, 1 + n)
    of its tokens."""
    if chosen is not None:
        return torch.zeros_like(patches, dtype=torch.bool).scatter(1, chosen, True)
    if weights is None:
        return torch.ones_like(patches, dtype=torch.bool)
    return weights[:, 1:] > 0.5
