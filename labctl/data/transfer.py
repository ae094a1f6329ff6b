"""Values decided on the host, handed to a device that need not be waited for."""

from __future__ import annotations

import torch
from torch import Tensor


def sent(values: Tensor, device: torch.device) -> Tensor:
    """A copy of host values on `device`."""
    # A copy from pageable memory may first wait for the device's stream; one from pinned does not.
    if device.type == "cuda":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)
