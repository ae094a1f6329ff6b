"""The arithmetic that a recipe asks for, and no other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from labctl.errors import EnvironmentProblem
from labctl.recipe.document import Numerics


def device_of(name: str) -> torch.device:
    """The device that `auto`, `cpu`, `cuda` or `mps` means on this machine.

    Raises:
        EnvironmentProblem: it is not there.
    """
    has = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if has[kind]))
    if not has[name]:
        raise EnvironmentProblem(
            f"the recipe asks for {name}, and this machine has none",
            hint="labctl run ... runtime.device=auto",
        )
    return torch.device(name)


class Arithmetic:
    """Precision on a device: the dtype of the weights, and the contexts around a step."""

    def __init__(self, numerics: Numerics, device: torch.device) -> None:
        if numerics.precision == "tf32" and device.type != "cuda":
            raise EnvironmentProblem(
                f"tf32 needs CUDA; this is {device.type}",
                hint="set numerics.precision=fp32, a key of its own",
            )
        if numerics.precision == "fp64" and device.type == "mps":
            raise EnvironmentProblem("mps has no fp64", hint="set runtime.device=cpu")
        self.precision = numerics.precision
        self.device = device
        self.dtype = torch.float64 if numerics.precision == "fp64" else torch.float32

    def autocast(self) -> AbstractContextManager[object]:
        """Around a forward pass."""
        if self.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    @contextmanager
    def active(self) -> Iterator[None]:
        """Around everything that computes: TF32 only where the recipe says so."""
        matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        allowed = self.precision == "tf32"
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
        try:
            yield
        finally:
            torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, cudnn
