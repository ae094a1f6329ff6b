"""What a recipe can say about the learners that equilibrium propagation is held against."""

from __future__ import annotations

from pydantic import Field

from labctl.api import Config

from .config import ContractionConfig


class BpttConfig(Config):
    """Back-propagation through the `relax.max_steps` steps of the model."""

    checkpoint: bool = False
    """Keep about the root of the states only, and compute the steps between them again."""
    contraction: ContractionConfig = ContractionConfig()
    """Limits of the weights of energy_transformer after each step, as learner eqprop keeps them.
    Those of looped_transformer are its own `max_norm`."""


class ImplicitConfig(Config):
    """The gradient at the fixed point by the implicit function theorem (Bai et al. 2019)."""

    tol: float = Field(default=1e-5, gt=0)
    """Relative residual, of the sample that is slowest, at which state and adjoint are solved."""
    max_steps: int = Field(default=100, ge=1)
    """Cap of either iteration."""
    gmres: bool = True
    """Solve an adjoint whose iteration does not reach `tol` by GMRES."""
    contraction: ContractionConfig = ContractionConfig()
    """Limits of the weights of energy_transformer after each step, as learner eqprop keeps them.
    Those of looped_transformer are its own `max_norm`."""
