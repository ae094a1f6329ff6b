"""Gradients of the loss at equilibrium by other means than contrast: back-propagation through the
relaxation, and the implicit function theorem.

Both are modules that turn inputs into logits, so that any objective can be differentiated through
them: x_{t+1} = x_t + a (T(x_t, u) - x_t) unrolled over a number of steps (`Unrolled`), or the fixed
point x* = T(x*, u) with the adjoint l = (I - J^T)^{-1} dC/dx, J = dT/dx at x*, put in the place of
the gradient of the state (`Implicit`; Bai, Kolter and Koltun, Deep Equilibrium Models, 2019).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import ceil, sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .equilibrium import Equilibrium, Masked
from .krylov import gmres
from .relaxation import holds

CHECK_EVERY = 5
"""Steps between two looks at a residual, each of which waits for the device."""


@dataclass(frozen=True, slots=True)
class Solution:
    """Where an iteration ended."""

    value: Tensor
    """(B, ...)."""
    residual: Tensor
    """0-d: length of the last undamped step over that of the value, of the worst example."""
    steps: int
    """Applications of the iterated map."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A gradient of the mean cross entropy, and how well its fixed points were solved."""

    gradients: dict[str, Tensor]
    """By parameter name, shaped as the parameter; zero where the loss does not depend on it."""
    loss: Tensor
    """0-d, mean over the batch."""
    logits: Tensor
    """(B, classes)."""
    residual: Tensor
    """0-d: |T(x) - x| / |T(x)| of the state that was read out, of the worst example."""
    adjoint_residual: Tensor | None
    """0-d: the same of the adjoint; None for back-propagation through the steps."""


class Unrolled(nn.Module):
    """Logits after a number of steps, through which autograd sees.

    With `segment`, only the state at the start of every so many steps is kept; the steps between
    are computed again on the way back.
    """

    def __init__(
        self,
        model: nn.Module,
        steps: int,
        *,
        step_size: float = 1.0,
        segment: int | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.steps, self.step_size, self.segment = steps, step_size, segment
        self.residual: Tensor | None = None
        """0-d, of the last forward pass: how far its state was from a fixed point."""

    def forward(self, inputs: Tensor, knobs: Mapping[str, Any] | None = None) -> Tensor:
        model: Equilibrium = _opened(self.model)
        given = _given(model, inputs)
        state = model.start(given[0])
        segment = self.segment or max(self.steps, 1)
        for first in range(0, self.steps, segment):
            steps = min(segment, self.steps - first)
            if self.segment is None:
                state = self._advanced(steps, state, *given)
            else:
                again: Tensor = checkpoint(
                    self._advanced, steps, state, *given,
                    use_reentrant=False, preserve_rng_state=False,
                )  # fmt: skip
                state = again
        with torch.no_grad():
            self.residual = _worst(model.field(state, *given), state)
        return model.readout(state)

    def _advanced(self, steps: int, state: Tensor, *given: Tensor) -> Tensor:
        model: Equilibrium = _opened(self.model)
        for _ in range(steps):
            state = torch.lerp(state, model.field(state, *given), self.step_size)
        return state


class Implicit(nn.Module):
    """Logits at the fixed point, and the gradient of the fixed point when they are differentiated.

    The adjoint is iterated, l <- dC/dx + J^T l, and if that does not reach `tol` in `max_steps`,
    solved by GMRES, unless `gmres` is false. What is kept for the way back is one application of
    the field.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        tol: float,
        max_steps: int,
        step_size: float = 1.0,
        gmres: bool = True,
    ) -> None:
        super().__init__()
        self.model = model
        self.tol, self.max_steps, self.step_size = tol, max_steps, step_size
        self.gmres = gmres
        self.residual: Tensor | None = None
        """0-d, of the last forward pass: how far its state was from a fixed point."""
        self.adjoint_residual: Tensor | None = None
        """0-d, of the last backward pass."""
        self.steps = 0
        """Applications of the field in the last forward pass."""

    def forward(self, inputs: Tensor, knobs: Mapping[str, Any] | None = None) -> Tensor:
        model: Equilibrium = _opened(self.model)
        given = _given(model, inputs)
        still = tuple(tensor.detach() for tensor in given)
        with torch.no_grad():
            found = iterated(
                lambda state: model.field(state, *still),
                model.start(still[0]),
                tol=self.tol,
                max_steps=self.max_steps,
                step_size=self.step_size,
            )
        self.residual, self.steps = found.residual, found.steps
        state = model.field(found.value, *given)
        if state.requires_grad:
            state.register_hook(partial(self._adjoint, found.value, still))
        return model.readout(state)

    def _adjoint(self, point: Tensor, given: tuple[Tensor, ...], upstream: Tensor) -> Tensor:
        model: Equilibrium = _opened(self.model)
        with torch.enable_grad():
            leaf = point.detach().requires_grad_()
            image = model.field(leaf, *given)

        def pulled(vector: Tensor) -> Tensor:
            return torch.autograd.grad(image, leaf, vector, retain_graph=True)[0]

        solve = adjoint if self.gmres else iterated_adjoint
        found = solve(
            pulled, upstream.detach(),
            tol=self.tol, max_steps=self.max_steps, step_size=self.step_size,
        )  # fmt: skip
        self.adjoint_residual = found.residual
        return found.value


def iterated(
    step: Callable[[Tensor], Tensor],
    state: Tensor,
    *,
    tol: float,
    max_steps: int,
    step_size: float = 1.0,
) -> Solution:
    """Repeat x <- x + a (step(x) - x) until |step(x) - x| <= tol |step(x)| for every example.

    Gives up after `max_steps`.
    """
    image = step(state)
    taken = 1
    while taken < max_steps:
        for _ in range(min(CHECK_EVERY, max_steps - taken)):
            state = state + step_size * (image - state)
            image = step(state)
            taken += 1
        if holds(_worst(image, state) <= tol):
            break
    return Solution(state, _worst(image, state), taken)


def iterated_adjoint(
    pulled: Callable[[Tensor], Tensor],
    upstream: Tensor,
    *,
    tol: float,
    max_steps: int,
    step_size: float = 1.0,
) -> Solution:
    """Solve l = upstream + J^T l, with `pulled(l)` = J^T l, as far as iteration gets."""
    return iterated(
        lambda vector: upstream + pulled(vector),
        upstream,
        tol=tol,
        max_steps=max_steps,
        step_size=step_size,
    )


def adjoint(
    pulled: Callable[[Tensor], Tensor],
    upstream: Tensor,
    *,
    tol: float,
    max_steps: int,
    step_size: float = 1.0,
) -> Solution:
    """Solve l = upstream + J^T l, with `pulled(l)` = J^T l, by iteration, else by GMRES."""
    found = iterated_adjoint(pulled, upstream, tol=tol, max_steps=max_steps, step_size=step_size)
    if not holds(~(found.residual <= tol)):  # what is no number has not converged
        return found
    guess = found.value if holds(found.residual < 1) else torch.zeros_like(upstream)
    value, _ = gmres(lambda vector: vector - pulled(vector), upstream, guess, tol=tol)
    residual = _worst(upstream + pulled(value), value)
    return found if holds(found.residual < residual) else Solution(value, residual, found.steps)


def bptt(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    steps: int,
    step_size: float = 1.0,
    checkpointed: bool = False,
) -> Reference:
    """The gradient by back-propagation through `steps` steps.

    Args:
        model: an `Equilibrium`.
        inputs: as the model takes them, (B, ...).
        targets: int64 (B,).
        steps: T.
        step_size: a of the relaxation.
        checkpointed: keep the state at the start of every `segment_length(steps)` steps only.
    """
    segment = segment_length(steps) if checkpointed else None
    solver = Unrolled(model, steps, step_size=step_size, segment=segment)
    gradients, loss, logits = _differentiated(solver, model, inputs, targets)
    assert solver.residual is not None
    return Reference(gradients, loss, logits, solver.residual, None)


def implicit(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    tol: float = 1e-12,
    max_steps: int = 2000,
    step_size: float = 1.0,
) -> Reference:
    """The gradient at the fixed point, of state and adjoint solved to `tol` (see `Implicit`).

    Args:
        model: an `Equilibrium`.
        inputs: as the model takes them, (B, ...).
        targets: int64 (B,).
        tol: relative residual, per example; single precision reaches about 1e-6.
        max_steps: cap of either iteration.
        step_size: a of the relaxation.
    """
    solver = Implicit(model, tol=tol, max_steps=max_steps, step_size=step_size)
    gradients, loss, logits = _differentiated(solver, model, inputs, targets)
    assert solver.residual is not None and solver.adjoint_residual is not None
    return Reference(gradients, loss, logits, solver.residual, solver.adjoint_residual)


def segment_length(steps: int) -> int:
    """Steps between two kept states, about the root of all (Chen et al., 2016)."""
    return max(ceil(sqrt(steps)), 1)


def _differentiated(
    solver: nn.Module, model: nn.Module, inputs: Tensor, targets: Tensor
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    with torch.enable_grad():
        logits = solver(inputs)
        loss = nn.functional.cross_entropy(logits, targets)
    found = torch.autograd.grad(loss, list(named.values()), materialize_grads=True)
    return dict(zip(named, found, strict=True)), loss.detach(), logits.detach()


def _worst(image: Tensor, state: Tensor) -> Tensor:
    """0-d: |image - state| / |image| of the example where it is largest."""
    move = torch.linalg.vector_norm((image - state).flatten(1), dim=1)
    length = torch.linalg.vector_norm(image.flatten(1), dim=1)
    worst: Tensor = (move / length.clamp_min(torch.finfo(image.dtype).tiny)).max()
    return worst


def _given(model: Equilibrium, inputs: Tensor) -> tuple[Tensor, ...]:
    """What the field is given beside the state: the drive, and the mask of a model that has one."""
    mask: Tensor | None = model.masks(inputs) if isinstance(model, Masked) else None
    drive = model.drive(inputs)
    return (drive,) if mask is None else (drive, mask)


def _opened(model: nn.Module) -> Any:
    """The model, with the methods of `Equilibrium` that `nn.Module` does not declare."""
    return model
