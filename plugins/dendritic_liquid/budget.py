"""A loss term that asks each block for a share of tokens."""

from __future__ import annotations

from torch import Tensor

from labctl.api import Batch, Knobs, LabctlError, Output

from .config import TokenBudgetConfig


class TokenBudget:
    """weight sum_l (kept_l - keep_l)^2, after DynamicViT (Rao et al. 2021, arXiv:2106.02034), which
    has the mean over the blocks that choose."""

    def __init__(self, config: TokenBudgetConfig) -> None:
        self.config = config

    def __call__(self, output: Output, batch: Batch, knobs: Knobs) -> Tensor:
        """Raises:
        LabctlError: the model chooses no tokens.
        """
        if "excess" not in output.aux:
            raise LabctlError(
                "loss.token_budget prices tokens that a model keeps, and this one chooses none",
                hint="model: {sparse: {}}, or loss: {token_budget: null}",
            )
        return self.config.weight * output.aux["excess"].square().sum()
