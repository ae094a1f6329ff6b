"""The identity of a piece of work."""

from __future__ import annotations

import hashlib
import json
from typing import Any

NUMERICS = 1
"""Raised whenever labctl itself trains differently; every key changes with it."""


def digest_of(values: Any) -> str:
    """16 hex digits of the canonical JSON of `values`."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
