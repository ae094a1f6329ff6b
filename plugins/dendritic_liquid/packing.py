"""Tokens of a whole batch in one row, each image with as many as it has left."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .attention import Attention


@dataclass(frozen=True, slots=True)
class Packed:
    """CLS of every image, then the patches that are left, image after image."""

    tokens: Tensor
    """(B + S, D)."""
    image: Tensor
    """int64 (S,), ascending: whose patch it is."""
    patch: Tensor
    """int64 (S,): its number in the image's grid, ascending within an image."""
    images: int
    """B."""

    @classmethod
    def of(cls, tokens: Tensor) -> Packed:
        """All of (B, 1 + n, D)."""
        images, patches = tokens.shape[0], tokens.shape[1] - 1
        number = torch.arange(images * patches, device=tokens.device)
        row = torch.cat([tokens[:, 0], tokens[:, 1:].flatten(0, 1)])
        return cls(row, number // patches, number % patches, images)

    @property
    def cls(self) -> Tensor:
        """(B, D)."""
        return self.tokens[: self.images]

    @property
    def patches(self) -> Tensor:
        """(S, D)."""
        return self.tokens[self.images :]

    def only(self, places: Tensor) -> Packed:
        """Of the patches those at int64 places (S',), ascending, of the row of all S."""
        row = torch.cat([self.cls, self.patches[places]])
        return replace(self, tokens=row, image=self.image[places], patch=self.patch[places])

    def with_tokens(self, tokens: Tensor) -> Packed:
        """The same places, other tokens (B + S, D)."""
        return replace(self, tokens=tokens)


class Padding:
    """Where tokens that are packed stand when each image has a row as long as the longest. Making
    one waits for the device."""

    def __init__(self, packed: Packed) -> None:
        device = packed.tokens.device
        left = torch.bincount(packed.image, minlength=packed.images)
        number = torch.arange(len(packed.image), device=device)
        column = number - (left.cumsum(0) - left)[packed.image] + 1
        self.columns = 1 + (int(left.max()) if packed.images else 0)
        self.images = packed.images
        every = torch.arange(packed.images, device=device)
        self.row = torch.cat([every, packed.image])
        self.column = torch.cat([torch.zeros_like(every), column])

    def padded(self, tokens: Tensor) -> Tensor:
        """(B, 1 + m, D) of (B + S, D), 0 where there is none."""
        grid = tokens.new_zeros(self.images, self.columns, tokens.shape[-1])
        grid[self.row, self.column] = tokens
        return grid

    def packed(self, grid: Tensor) -> Tensor:
        """(B + S, ...) of (B, 1 + m, ...)."""
        return grid[self.row, self.column]

    def is_there(self) -> Tensor:
        """bool (B, 1 + m)."""
        there = torch.zeros(self.images, self.columns, dtype=torch.bool, device=self.row.device)
        there[self.row, self.column] = True
        return there


def attended_packed(
    attention: Attention, qkv: Tensor, padding: Padding
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """What tokens attend to in their own images, (B + S, D) of (B + S, 3D).

    Everything else of a block is computed of packed tokens alone. Attention pads every image to the
    longest: N^2 D is 4 % of a block of 65 tokens 256 wide.

    Returns:
        Also the padded queries and keys (B, H, 1 + m, d), and which of these are there (B, 1 + m).
    """
    queries, keys, values = attention.heads(padding.padded(qkv))
    there = padding.is_there()
    mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=there[:, None, None])
    return padding.packed(mixed.transpose(1, 2).flatten(2)), (queries, keys, there)
