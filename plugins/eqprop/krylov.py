"""Linear systems that are known by what their matrix does to a vector, one per example."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def gmres(
    matrix: Callable[[Tensor], Tensor],
    right: Tensor,
    guess: Tensor,
    *,
    tol: float,
    restart: int = 40,
    max_restarts: int = 25,
) -> tuple[Tensor, Tensor]:
    """Solve A x = b for each example by GMRES with restarts (Saad and Schultz, 1986).

    Args:
        matrix: A, applied to all examples at once, (B, ...) -> (B, ...).
        right: b, (B, ...).
        guess: where to begin, (B, ...).
        tol: stop when |b - A x| / |b| of every example is below.
        restart: dimension of the Krylov space that is built before x is improved.
        max_restarts: spaces built at most; fewer when one no longer halves the worst residual,
            as happens at the end of the precision.

    Returns:
        x (B, ...) and |b - A x| / |b| (B,).
    """
    shape, batch = right.shape, right.shape[0]

    def apply(vector: Tensor) -> Tensor:
        return matrix(vector.view(shape)).reshape(batch, -1)

    b, x = right.reshape(batch, -1), guess.reshape(batch, -1)
    size = min(restart, b.shape[1])
    tiny = torch.finfo(b.dtype).tiny
    scale = b.norm(dim=1).clamp_min(tiny)
    left = b - apply(x)
    worst = float((left.norm(dim=1) / scale).max())
    for _ in range(max_restarts):
        if worst < tol:
            break
        before = worst
        x = x + _improvement(apply, left, size)
        left = b - apply(x)
        worst = float((left.norm(dim=1) / scale).max())
        if not worst < before / 2:
            break
    return x.view(shape), left.norm(dim=1) / scale


def _improvement(apply: Callable[[Tensor], Tensor], left: Tensor, size: int) -> Tensor:
    """The vector of the Krylov space of `left` (B, n) that reduces the residual most."""
    tiny = torch.finfo(left.dtype).tiny
    length = left.norm(dim=1)
    basis = left.new_zeros(size + 1, *left.shape)
    hessenberg = left.new_zeros(left.shape[0], size + 1, size)
    basis[0] = left / length.clamp_min(tiny)[:, None]
    for step in range(size):
        vector = apply(basis[step])
        for _ in range(2):  # once more against what rounding left
            part = torch.einsum("kbn,bn->bk", basis[: step + 1], vector)
            vector = vector - torch.einsum("kbn,bk->bn", basis[: step + 1], part)
            hessenberg[:, : step + 1, step] += part
        norm = vector.norm(dim=1)
        hessenberg[:, step + 1, step] = norm
        basis[step + 1] = vector / norm.clamp_min(tiny)[:, None]
    # The pseudo-inverse allows for examples whose Krylov space is exhausted before the others'.
    weights = torch.linalg.pinv(hessenberg)[:, :, 0] * length[:, None]
    return torch.einsum("kbn,bk->bn", basis[:-1], weights)
