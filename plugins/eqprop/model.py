"""The energy transformer: patches drive tokens that relax to a minimum of an energy."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labctl.api import DataSpec, Knobs

from .config import EnergyTransformerConfig, FailureConfig, RelaxConfig, num_tokens
from .energy import (
    POTENTIALS,
    attention_energy,
    attention_mix,
    lagrangian,
    memory_energy,
    memory_slope,
    soft_norm,
)
from .relaxation import Relaxed, relax, unroll

POSITION_INIT = 0.5
"""Deviation of a token's position before training, at a drive_scale of 1."""
MEMORY_INIT = 0.9
"""Every singular value of the patterns before training."""
ATTENTION_INIT = 0.5
"""Every singular value of the queries' and the keys' weights before training."""


class EnergyTransformer(nn.Module):
    """Tokens x at a minimum of E(x; u) = sum_n x_n . g_n - L(x_n) - u_n . g_n + E_int(g).

    g is the normalised x, L the Lagrangian whose gradient it is, u the drive by the image, and
    E_int = E_att + E_mem the energy of attention and memory. Its gradient is M (x - T(x)) with M =
    dg/dx positive semi-definite and T(x) = u + f(g), f the force -dE_int/dg: stepping towards T(x)
    descends the energy, and is a weight-tied pre-norm transformer with its input injected.

    `mask` (B, 1, M) of `masks` is dropout frozen for a sample; None leaves nothing out.
    """

    def __init__(self, config: EnergyTransformerConfig, spec: DataSpec) -> None:
        super().__init__()
        self.config = config
        self.num_tokens = num_tokens(config, spec)
        self.num_classes = spec.num_classes
        self.phi = POTENTIALS[config.activation]
        self.sign = {"attractive": 1, "repulsive": -1}[config.memory]
        width, pixels = config.embed_dim, spec.shape[0] * config.patch_size**2
        self.embed = nn.Linear(pixels, width)
        self.positions = nn.Parameter(torch.zeros(self.num_tokens, width))
        self.gain = nn.Parameter(torch.ones(()))
        self.shift = nn.Parameter(torch.zeros(width))
        self.patterns = nn.Parameter(torch.empty(config.hidden, width))
        self.thresholds = nn.Parameter(torch.zeros(config.hidden))
        if config.attention:
            self.query_key = nn.Parameter(torch.empty(2, width, width))
        self.num_read = {
            "cls": config.extra_tokens, "mean": 1, "flatten": self.num_tokens
        }[config.readout]  # fmt: skip
        self.head = nn.Linear(width * self.num_read, spec.num_classes)
        self._initialise()

    def _initialise(self) -> None:
        """Weights of the energy are isometries, scaled so that relaxation contracts: what an image
        does to one token then reaches the others as strongly as it can."""
        scale = self.config.drive_scale
        nn.init.normal_(self.embed.weight, std=scale * self.embed.in_features**-0.5)
        nn.init.zeros_(self.embed.bias)
        nn.init.normal_(self.positions, std=scale * POSITION_INIT)
        nn.init.orthogonal_(self.patterns, MEMORY_INIT)
        if self.config.attention:
            for weights in self.query_key:
                nn.init.orthogonal_(weights, ATTENTION_INIT)
        nn.init.normal_(self.head.weight, std=self.head.in_features**-0.5)
        nn.init.zeros_(self.head.bias)

    def patches(self, inputs: Tensor) -> Tensor:
        """(B, patches, C p p) of images (B, C, H, W)."""
        size = self.config.patch_size
        tiles = inputs.unflatten(3, (-1, size)).unflatten(2, (-1, size))
        patches: Tensor = tiles.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        return patches

    def drive(self, inputs: Tensor) -> Tensor:
        """What images push tokens towards: u (B, N, d)."""
        return self.drive_of(self.patches(inputs))

    def drive_of(self, patches: Tensor) -> Tensor:
        """u (B, N, d) of (B, patches, C p p). Extra tokens come first; their positions alone drive
        them."""
        tokens = self.embed(patches)
        extra = tokens.new_zeros(len(tokens), self.config.extra_tokens, tokens.shape[2])
        driven: Tensor = torch.cat([extra, tokens], dim=1) + self.positions
        return driven

    def masks(self, inputs: Tensor) -> Tensor | None:
        """Dropout of a training step, (B, 1, M): 0 or 1 / (1 - p); None outside of training."""
        if not self.training or not self.config.dropout:
            return None
        kept = 1 - self.config.dropout
        return inputs.new_ones(len(inputs), 1, self.config.hidden).bernoulli_(kept).div_(kept)

    def norm(self, x: Tensor) -> Tensor:
        """g (B, N, d), the gradient of the Lagrangian."""
        return soft_norm(x, self.gain, self.shift, self.config.norm_eps)

    def interaction(self, g: Tensor, mask: Tensor | None = None) -> Tensor:
        """E_int (B,) of normalised tokens (B, N, d)."""
        energy = self.sign * memory_energy(g, self.patterns, self.thresholds, self.phi, mask)
        if self.config.attention:
            config = self.config
            heads, b = config.num_heads, config.beta_attention
            energy = energy + attention_energy(g, self.query_key, heads, b)
        return energy

    def mix(self, g: Tensor) -> Tensor:
        """What attention mixes, before its weights: (B, N, 2 d), see `energy.attention_mix`."""
        config = self.config
        return attention_mix(g, self.query_key, config.num_heads, config.beta_attention)

    def hidden(self, g: Tensor, mask: Tensor | None = None) -> Tensor:
        """The memory's hidden units (B, N, M), negative where it is repulsive."""
        return self.sign * memory_slope(g, self.patterns, self.thresholds, self.phi, mask)

    def force(self, g: Tensor, mask: Tensor | None = None) -> Tensor:
        """f = -dE_int/dg (B, N, d), in closed form."""
        return self.driven(torch.zeros_like(g), g, mask)

    def driven(self, u: Tensor, g: Tensor, mask: Tensor | None = None) -> Tensor:
        """u + f(g), (B, N, d)."""
        slope = memory_slope(g, self.patterns, self.thresholds, self.phi, mask)
        total = u.flatten(0, 1).addmm(slope.flatten(0, 1), self.patterns, alpha=self.sign)
        if self.config.attention:
            total = total.addmm(self.mix(g).flatten(0, 1), self.query_key.flatten(0, 1))
        return total.view_as(u)

    def energy(self, x: Tensor, u: Tensor, mask: Tensor | None = None) -> Tensor:
        """E (B,) of states and drives (B, N, d)."""
        g = self.norm(x)
        leak = ((x - u) * g).sum((1, 2))
        bound = lagrangian(x, self.gain, self.shift, self.config.norm_eps)
        return leak - bound + self.interaction(g, mask)

    def field(self, x: Tensor, u: Tensor, mask: Tensor | None = None) -> Tensor:
        """T(x) = u + f(g(x)); its fixed point is where the energy is stationary."""
        return self.driven(u, self.norm(x), mask)

    def start(self, u: Tensor) -> Tensor:
        """Where relaxation begins: at the drive."""
        return u

    def pool(self, g: Tensor) -> Tensor:
        """What the head reads of normalised tokens (B, N, d): (B, d) of their mean, or as many
        tokens side by side as it reads."""
        return g.mean(1) if self.config.readout == "mean" else g[:, : self.num_read].flatten(1)

    def readout(self, x: Tensor) -> Tensor:
        """Logits (B, classes) of states (B, N, d)."""
        logits: Tensor = self.head(self.pool(self.norm(x)))
        return logits

    def pull(self, errors: Tensor) -> Tensor:
        """dC/dg (B, N, d) of errors dC/dlogits (B, classes): the readout, transposed."""
        back = (errors @ self.head.weight).view(len(errors), self.num_read, -1)
        if self.config.readout == "mean":
            return (back / self.num_tokens).expand(-1, self.num_tokens, -1)
        unread = self.num_tokens - self.num_read
        return F.pad(back, (0, 0, 0, unread)) if unread else back

    def settle(
        self,
        u: Tensor,
        mask: Tensor | None = None,
        config: RelaxConfig | None = None,
        failure: FailureConfig | None = None,
        watched: bool = True,
    ) -> Relaxed:
        """The free relaxation of drives (B, N, d), without gradients.

        `config` replaces the model's own, as for a given number of steps: max_steps=t, tol=0. With
        `failure` samples that do not come to rest are told; `watched` as `relax` has it.
        """
        given = (u,) if mask is None else (u, mask)
        return relax(
            self.field, self.start(u), given, config or self.config.relax, failure,
            energy=self.energy, watched=watched,
        )  # fmt: skip

    def forward(self, inputs: Tensor, knobs: Knobs) -> Tensor:
        """Logits (B, classes) of float images (B, C, H, W) at the free equilibrium.

        With gradients every sample takes all steps, and all of them are in the graph.
        """
        u, mask = self.drive(inputs), self.masks(inputs)
        if not torch.is_grad_enabled():
            return self.readout(self.settle(u, mask).x)
        given = (u,) if mask is None else (u, mask)
        return self.readout(unroll(self.field, self.start(u), given, self.config.relax))
