"""Saliency of the patches of every training image, kept from epoch to epoch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .saliency import no_autocast

LOT = 1e-6
"""The most that chance adds to a score; an image's scores sum to about 1."""
TINY = 1e-30


class SaliencyMemory:
    """A moving average of scores for each image, in the frame of the image as it is stored.

    Augmentation moves patches. A patch of the augmented image is where its middle was taken from;
    what comes from outside the image has no saliency. Of patches never scored, lots decide.
    """

    def __init__(
        self, images: int, grid: tuple[int, int], momentum: float, device: torch.device
    ) -> None:
        """Args:
        grid: rows and columns of patches.
        momentum: share of the old score in the new one, in [0, 1).
        """
        self.grid, self.momentum = grid, momentum
        rows, columns = grid
        uniform = 1 / (rows * columns)
        self.scores = torch.full((images, *grid), uniform, device=device)

    @torch.no_grad()
    def write(self, index: Tensor, geometry: Tensor | None, scores: Tensor) -> None:
        """Take in what was found.

        Args:
            index: int64 (B,), the images, each once.
            geometry: (B, 2, 3), where each position of the augmented image was taken from, in
                [-1, 1]; None if nothing moved.
            scores: (B, rows * columns) of the augmented images, at least 0; only their ratios
                within an image count.
        """
        found = scores.float().view(-1, *self.grid)
        inside, covered = torch.ones_like(found), torch.ones_like(found)
        if geometry is not None:
            inside = _moved(inside, geometry.float())
        # Of what is seen of the image the mean is that of patches never scored.
        mean = (found * inside).sum((1, 2), keepdim=True) / inside.sum((1, 2), keepdim=True)
        fresh = found * inside / (mean * found[0].numel()).clamp_min(TINY)
        if geometry is not None:
            back = _inverse(geometry.float())
            covered = _moved(inside, back)
            fresh = _moved(fresh, back) / covered.clamp_min(TINY)
        old = self.scores[index]
        self.scores.index_copy_(0, index, old + (1 - self.momentum) * covered * (fresh - old))

    @torch.no_grad()
    def read(self, index: Tensor, geometry: Tensor | None) -> Tensor:
        """float32 (B, rows * columns): the scores of augmented images; arguments as of `write`."""
        found = self.scores[index]
        lots = LOT * torch.rand_like(found)
        if geometry is not None:
            found = _moved(found, geometry.float())
        return (found + lots).flatten(1)


def _moved(fields: Tensor, matrix: Tensor) -> Tensor:
    """Fields (B, rows, columns) through normalised maps (B, 2, 3): between cells, 0 outside."""
    with no_autocast(fields.device):
        places = F.affine_grid(matrix, [len(fields), 1, *fields.shape[1:]], align_corners=False)
        sampled = F.grid_sample(fields[:, None], places, mode="bilinear", align_corners=False)
    return sampled[:, 0]


def _inverse(matrix: Tensor) -> Tensor:
    """The maps (B, 2, 3) that undo those given."""
    (a, b, x), (c, d, y) = (row.unbind(1) for row in matrix.unbind(1))
    size = a * d - b * c
    upper = torch.stack([d, -b, b * y - d * x], 1)
    lower = torch.stack([-c, a, c * x - a * y], 1)
    return torch.stack([upper, lower], 1) / size[:, None, None]
