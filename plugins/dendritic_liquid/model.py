"""The model: patches, CLS and positions, blocks that may attend to few tokens, a head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from labctl.api import DataSpec, Knobs, Output

from .block import Block
from .config import DendriticLiquidConfig
from .cost import kept
from .sparsity import cls_share, mask_of


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
        self.patches = nn.Conv2d(channels, dim, size, stride=size)
        self.cls = nn.Parameter(torch.zeros(1, 1, dim))
        self.positions = nn.Parameter(torch.zeros(1, 1 + self.num_patches, dim))
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, place) for place in range(config.depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, spec.num_classes)
        for parameter in (self.cls, self.positions, self.head.weight):
            nn.init.trunc_normal_(parameter, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, inputs: Tensor, knobs: Knobs) -> Output:
        """Logits (B, classes) of float images (B, C, H, W).

        With `sparse`, `aux` holds `kept`, the share (blocks,) of all patches that lie above the
        threshold in each block that chooses, and `keep`, what the config asks of these.
        """
        tokens = self.patches(inputs).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls.expand(len(tokens), -1, -1), tokens], 1)
        tokens = self.dropout(tokens + self.positions)
        attended: tuple[Tensor, Tensor] | None = None
        shares: list[Tensor] = []
        asked: list[float] = []
        for place, block in enumerate(cast("Sequence[Block]", self.blocks)):
            importance, weights = block.importance(tokens), None
            scores = importance
            if self.config.sparse is not None and scores is None and attended is not None:
                scores = cls_share(*attended)
            if self.config.sparse is not None and scores is not None:
                share = self.config.sparse.keep[place]
                shares.append(self._share(scores, knobs))
                asked.append(share)
                if self._gathers(knobs):
                    index = self._best(scores, kept(share, self.num_patches))
                    tokens = _gathered(tokens, index)
                    importance = None if importance is None else importance.gather(1, index)
                else:
                    weights = self._mask(scores, knobs)
            tokens, attended = block(tokens, importance, weights)
        logits = self.head(self.norm(tokens)[:, 0])
        if not shares:
            return Output(logits)
        keep = torch.tensor(asked, device=logits.device)
        return Output(logits, {"kept": torch.stack(shares), "keep": keep})

    def _gathers(self, knobs: Knobs) -> bool:
        sparse = self.config.sparse
        return sparse is not None and sparse.execution == "topk" and knobs["mask"] == "hard"

    def _mask(self, scores: Tensor, knobs: Knobs) -> Tensor:
        assert self.config.sparse is not None
        mask, temperature = knobs["mask"], knobs["temperature"]
        return mask_of(scores, self.config.sparse, mask, temperature, knobs["hardness"])

    def _share(self, scores: Tensor, knobs: Knobs) -> Tensor:
        """0-d: the share of all patches that lie above the threshold, by a mask that is hard forth
        and soft back."""
        assert self.config.sparse is not None
        temperature, hardness = knobs["temperature"], knobs["hardness"]
        mask = mask_of(scores, self.config.sparse, "hard", temperature, hardness)
        return mask.sum(1).mean() / self.num_patches

    def _best(self, scores: Tensor, count: int) -> Tensor:
        """int64 (B, count), ascending: the patches of the highest scores (B, n), or all of them."""
        count = min(count, scores.shape[1])
        index = scores.detach().topk(count, dim=1).indices
        return index.sort(1).values


def _gathered(tokens: Tensor, index: Tensor) -> Tensor:
    """CLS and those of the patches among (B, 1 + n, D) tokens: (B, 1 + count, D)."""
    place = torch.cat([torch.zeros_like(index[:, :1]), index + 1], 1)
    return tokens.gather(1, place[..., None].expand(-1, -1, tokens.shape[-1]))
