"""How well one gradient agrees with another."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import log10

import torch
from torch import Tensor

NEGLIGIBLE = 1e-12
"""Norm of a parameter's reference gradient below which its direction is rounding."""
MOST_NINES = 16.0


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of an estimate with a reference; 1 - cosine of what is concatenated, never averaged."""

    one_minus_cos: float
    one_minus_cos_body: float
    """Without the head, whose gradient is that of a linear classifier in any case."""
    relative_error: float
    """|a - b| / |b|, b the reference."""
    by_parameter: dict[str, float]
    """1 - cosine of each parameter whose reference is not negligible."""
    skipped: tuple[str, ...]
    """Parameters whose reference is."""

    @property
    def worst(self) -> tuple[str, float]:
        """The parameter that agrees least, and its 1 - cosine."""
        name = max(self.by_parameter, key=self.by_parameter.__getitem__)
        return name, self.by_parameter[name]


def agreement(estimate: Mapping[str, Tensor], reference: Mapping[str, Tensor]) -> Agreement:
    """Compare two gradients, by parameter name. Parameters `head.*` are the head."""
    skipped = tuple(name for name, b in reference.items() if float(b.norm()) < NEGLIGIBLE)
    names = [name for name in reference if name not in skipped]
    ours = {name: estimate[name].flatten() for name in names}
    theirs = {name: reference[name].flatten() for name in names}
    body = [name for name in names if not name.startswith("head.")]
    a, b = _joined(ours, names), _joined(theirs, names)
    return Agreement(
        one_minus_cos=one_minus_cos(a, b),
        one_minus_cos_body=one_minus_cos(_joined(ours, body), _joined(theirs, body)),
        relative_error=float((a - b).norm() / b.norm()),
        by_parameter={name: one_minus_cos(ours[name], theirs[name]) for name in names},
        skipped=skipped,
    )


def one_minus_cos(a: Tensor, b: Tensor) -> float:
    """1 - cosine of two vectors as |a/|a| - b/|b||^2 / 2, exact where the cosine rounds to 1.

    1 where `a` vanishes.
    """
    length = a.norm()
    if float(length) == 0:
        return 1.0
    return float((a / length - b / b.norm()).square().sum() / 2)


def nines(one_minus_cosine: float) -> float:
    """-log10(1 - cosine): how many nines the cosine has, at most 16."""
    return min(-log10(max(one_minus_cosine, 10**-MOST_NINES)), MOST_NINES)


def _joined(parts: Mapping[str, Tensor], names: Collection[str]) -> Tensor:
    return torch.cat([parts[name] for name in names])
