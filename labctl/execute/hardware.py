"""What a worker's arithmetic runs on."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch


def device_facts(device: torch.device) -> dict[str, Any]:
    """What the arithmetic ran on."""
    facts: dict[str, Any] = {
        "device": device.type,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= {
            "device_name": properties.name,
            "device_uuid": str(properties.uuid),
            "cuda": torch.version.cuda,
        }
    else:
        facts["device_name"] = _cpu_name()
    return facts


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
