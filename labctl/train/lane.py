"""What a run has to itself on a device that several runs of one process share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Lane:
    """A stream of a CUDA device, and a state of its random generator. On other devices, nothing.

    Work that runs give to lanes of their own overlaps, and none draws what is another's.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)
            self._state = _generator(self._stream).clone_state()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Around everything that the run does on its device."""
        if self._stream is None:
            yield
            return
        generator = _generator(self._stream)
        outer = generator.graphsafe_get_state()
        generator.graphsafe_set_state(self._state)
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            # A recording that broke off leaves another state behind.
            self._state = generator.graphsafe_get_state()
            generator.graphsafe_set_state(outer)


def _generator(stream: torch.cuda.Stream) -> torch.Generator:
    generator: torch.Generator = torch.cuda.default_generators[stream.device.index]
    return generator
