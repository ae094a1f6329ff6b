"""Where two nested states differ, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor


def differences(one: Any, other: Any, path: str = "") -> Iterator[str]:
    """Paths such as `model.head.weight`, each with what differs there. NaN equals NaN."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        if one.shape != other.shape or one.dtype != other.dtype:
            yield f"{path} ({one.dtype} {tuple(one.shape)} and {other.dtype} {tuple(other.shape)})"
        elif count := int(((one != other) & ~(one.isnan() & other.isnan())).sum()):
            yield f"{path} ({count} of {one.numel()} values)"
    elif isinstance(one, dict) and isinstance(other, dict):
        for key in [*one, *(key for key in other if key not in one)]:
            where = f"{path}.{key}" if path else str(key)
            if key in one and key in other:
                yield from differences(one[key], other[key], where)
            else:
                yield f"{where} (only one has it)"
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            yield f"{path} (lengths {len(one)} and {len(other)})"
        else:
            for place, (a, b) in enumerate(zip(one, other, strict=True)):
                yield from differences(a, b, f"{path}[{place}]")
    elif one != other and not (one != one and other != other):
        yield f"{path} ({one!r} and {other!r})"
