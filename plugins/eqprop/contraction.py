"""Keeps the relaxation a contraction: limits of weights, and the measured spectral radius.

The field's Jacobian is H M, with M = dg/dx of norm at most gain / sqrt(eps) and H = -d2E_int/dg2 of
norm at most s_m^2 max Phi'' + 2 s_a^2 (1 + b R^2 s_a^2), R^2 = gain^2 d, where s_m and s_a are the
spectral norms of the patterns and of queries and keys. A repulsive memory's share of H M has no
eigenvalue above 0: what it asks of relaxation is a step_size below 2 / (1 + s_m^2 max Phi'' |M|).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .config import ContractionConfig
from .model import EnergyTransformer
from .relaxation import Field, holds

FIRST_POWERS = 50
"""Power iterations for the norms of weights before the first step."""
POWERS = 4
"""Power iterations after each step, from where the last ones ended."""
CALMING_ROUNDS = 50
"""Measurements of the radius, at most, until it is within its limit."""
LEAST_SCALE = 0.8
"""No more is taken from the weights at once."""
MOST_CALMING = 0.99
"""No less is taken between two measurements of the radius."""
LEAST_GAIN = 1e-2
"""The normalisation's gain stays above this: at 0 it passes nothing on, and below no minimum is
one."""


class Contraction:
    """Scales weights back that outgrew their limits; remembers in which direction they are largest.

    Norms come from power iteration, which is at most a little below the true norm.
    """

    def __init__(self, model: EnergyTransformer, config: ContractionConfig) -> None:
        self.model, self.config = model, config
        self.limited: list[tuple[nn.Parameter, float | None]] = [
            (model.patterns, config.memory_norm)
        ]
        if model.config.attention:
            self.limited.append((model.query_key, config.attention_norm))
        self.directions = [_direction(_stack(weights)) for weights, _ in self.limited]
        self._powers = FIRST_POWERS

    @torch.no_grad()
    def apply(self) -> None:
        """Scale down what is beyond its limit."""
        if self.config.max_gain is not None:
            self.model.gain.clamp_(LEAST_GAIN, self.config.max_gain)
        for place, (weights, limit) in enumerate(self.limited):
            if limit is None:
                continue
            stack = _stack(weights)
            norms, direction = largest_singular(stack, self.directions[place], self._powers)
            self.directions[place].copy_(direction)
            stack.mul_((limit / norms).clamp(max=1).view(-1, 1, 1))
        self._powers = POWERS

    @torch.no_grad()
    def decay(self, is_due: Tensor, lr: Tensor) -> None:
        """Let patterns, queries and keys decay where the 0-d bool is true."""
        self._scale((1 - self.config.decay * lr * is_due).clamp(min=LEAST_SCALE))

    @torch.no_grad()
    def calm(self, radius: Callable[[], Tensor]) -> Tensor:
        """Scale patterns, queries and keys until `radius()` is within `max_radius`; by how much,
        0-d. What is no number is left as it is.
        """
        found, total = radius(), torch.ones(())
        for _ in range(CALMING_ROUNDS):
            if not holds(found > self.config.max_radius):
                break
            # The radius is of second order in them, or higher.
            part = (self.config.max_radius / found).sqrt().clamp(LEAST_SCALE, MOST_CALMING)
            self._scale(part)
            found, total = radius(), total.to(part) * part
        return total

    def _scale(self, factor: Tensor) -> None:
        for weights, _ in self.limited:
            weights.mul_(factor)

    def state_dict(self) -> dict[str, list[Tensor] | int]:
        return {"directions": list(self.directions), "powers": self._powers}

    def load_state_dict(self, state: dict[str, list[Tensor] | int]) -> None:
        directions, powers = state["directions"], state["powers"]
        assert isinstance(directions, list) and isinstance(powers, int)
        for saved, own in zip(directions, self.directions, strict=True):
            own.copy_(saved)
        self._powers = powers


def largest_singular(weights: Tensor, direction: Tensor, powers: int) -> tuple[Tensor, Tensor]:
    """Largest singular values (k,) of matrices (k, a, b) and their right vectors (k, b), from a
    first guess at these."""
    v = direction.unsqueeze(-1)
    for _ in range(powers):
        v = weights.mT @ (weights @ v)
        v = v / torch.linalg.vector_norm(v, dim=1, keepdim=True).clamp(min=1e-30)
    return torch.linalg.vector_norm(weights @ v, dim=(1, 2)), v.squeeze(-1)


def spectral_radius(
    field: Field, x: Tensor, given: tuple[Tensor, ...], steps: int, step_size: float = 1.0
) -> Tensor:
    """Of the Jacobian of x + step_size (T(x) - x) at states x (B, ...), for each sample, (B,); T is
    `field(x, *given)`.

    By power iteration with one vector-Jacobian product a step: a matrix and its transpose have the
    same spectrum. For an energy's field that is real, and this converges.
    """
    draws = torch.Generator().manual_seed(0)
    v = torch.randn(x.shape, generator=draws, dtype=torch.float64).to(x)
    radius = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        image = field(leaf, *given)
    for _ in range(steps):
        length = torch.linalg.vector_norm(v.flatten(1), dim=1).clamp(min=1e-30)
        v = v / length.view(-1, *[1] * (x.ndim - 1))
        (pulled,) = torch.autograd.grad(image, leaf, v, retain_graph=True)
        v = torch.lerp(v, pulled, step_size)
        radius = torch.linalg.vector_norm(v.flatten(1), dim=1)
    return radius


def _stack(weights: Tensor) -> Tensor:
    """One matrix or several as (k, a, b)."""
    return weights if weights.ndim == 3 else weights.unsqueeze(0)


def _direction(stack: Tensor) -> Tensor:
    """A first guess at right singular vectors, the same on every device."""
    draws = torch.Generator().manual_seed(0)
    shape = (stack.shape[0], stack.shape[2])
    return torch.randn(shape, generator=draws, dtype=torch.float64).to(stack)
