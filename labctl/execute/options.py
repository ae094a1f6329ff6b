"""How the user wants plans carried out."""

from __future__ import annotations

from dataclasses import dataclass

from .job import Together


@dataclass(frozen=True, slots=True)
class Options:
    """What changes no result."""

    jobs: int | None = None
    """Workers at once; by default one per GPU, or one per core."""
    fail_fast: bool = False
    yes: bool = False
    """Begin work of many hours on a CPU without asking."""
    track: bool = True
    """Feed MLflow."""
    together: Together = "auto"
    """Runs that a worker trains in turns; `auto` measures on a GPU how many are fastest."""
    threads: int = 0
    """CPU threads of each worker; 0 shares the cores among them."""
