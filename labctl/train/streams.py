"""Named streams of randomness: each draw of a run belongs to one, found again from seed, use and
step.

Nothing needs to be saved: a resumed run, and one of several that share a process, seeds the same
streams at the same steps.
"""

from __future__ import annotations

import hashlib

import torch


def seed_of(seed: int, use: str, *index: int) -> int:
    """An independent 63-bit seed for `use` ("init", "shuffle", "augment", "dropout") at `index`."""
    digest = hashlib.sha256(f"{seed}/{use}/{'/'.join(map(str, index))}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def stream(seed: int, use: str, *index: int) -> torch.Generator:
    """A CPU generator for one use at one index (an epoch, a step)."""
    return torch.Generator().manual_seed(seed_of(seed, use, *index))


def seed_global(seed: int, use: str, *index: int) -> None:
    """Seed torch's own generators, on every device: those that dropout and initialisation draw
    from."""
    value = seed_of(seed, use, *index)
    # As torch.manual_seed does, which where CUDA sleeps formats a stack trace at each call.
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(value)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(value)
