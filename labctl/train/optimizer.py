"""Parameter groups, and the optimizers that labctl brings."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from labctl.errors import PluginError, RunError, did_you_mean
from labctl.plans.plan import OptimizerPart


def parameter_groups(
    model: nn.Module, part: OptimizerPart, device: torch.device
) -> list[dict[str, Any]]:
    """Parameters by learning-rate scale and weight decay; each group has a 0-d `lr` tensor of its
    own.

    A parameter belongs to the first group of the recipe that matches its name. Weight decay spares
    parameters of fewer than two dimensions (biases, norms) unless a group sets it for them.

    Raises:
        RunError: a pattern that matches no parameter.
    """
    names = [name for name, _ in model.named_parameters()]
    for group in part.groups:
        for pattern in group.match:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise RunError(
                    f"optimizer.groups: pattern {pattern!r} matches no parameter",
                    hint=did_you_mean(pattern, {name.rsplit(".", 1)[0] + ".*" for name in names}),
                )
    sorted_out: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            own = next((g for g in part.groups if any(fnmatchcase(name, p) for p in g.match)), None)
            decay = part.weight_decay if parameter.ndim >= 2 else 0.0
            if own is not None and own.weight_decay is not None:
                decay = own.weight_decay
            sorted_out.setdefault((own.lr_scale if own else 1.0, decay), []).append(parameter)
    return [
        {
            "params": params,
            "lr": torch.zeros((), device=device),
            "lr_scale": scale,
            "weight_decay": decay,
        }
        for (scale, decay), params in sorted_out.items()
    ]


class LearningRate:
    """Puts a learning rate into every group, times the group's scale, without waiting for the
    device."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        """Raises:
        PluginError: the optimizer has made other groups of those that it was given.
        """
        for group in optimizer.param_groups:
            if "lr_scale" not in group or not isinstance(group["lr"], Tensor):
                raise PluginError(
                    f"{type(optimizer).__name__} keeps groups of its own, into which no learning "
                    "rate can be written",
                    hint="give the groups to torch.optim.Optimizer as they are: lr is a tensor",
                )
        self.optimizer = optimizer

    def __call__(self, lr: Tensor) -> None:
        for group in self.optimizer.param_groups:
            group["lr"].copy_(lr * group["lr_scale"])


def _can_fuse(groups: list[dict[str, Any]]) -> bool:
    """Fused kernels exist for every device but the one that only counts."""
    return all(parameter.device.type != "meta" for group in groups for parameter in group["params"])


def adamw(config: Any, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019), one fused kernel that a CUDA graph can hold."""
    is_cuda = all(parameter.is_cuda for group in groups for parameter in group["params"])
    return torch.optim.AdamW(
        groups, betas=config.betas, eps=config.eps, fused=_can_fuse(groups), capturable=is_cuda
    )


def sgd(config: Any, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """SGD with momentum, one fused kernel. Its weight decay is not decoupled."""
    optimizer = torch.optim.SGD(
        groups, momentum=config.momentum, nesterov=config.nesterov, fused=_can_fuse(groups)
    )
    if config.momentum:
        optimizer.register_step_pre_hook(_begin_late_momenta)
    return optimizer


def _begin_late_momenta(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    """Zero momenta for parameters whose first gradient comes after that of others: a structural
    knob may leave a part of the model out. The fused kernel has all momenta at hand, or none."""
    for group in optimizer.param_groups:
        moved = [parameter for parameter in group["params"] if parameter.grad is not None]
        late = [p for p in moved if optimizer.state[p].get("momentum_buffer") is None]
        for parameter in late if len(late) < len(moved) else ():
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
