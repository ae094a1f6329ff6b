"""Work of the current CUDA stream, recorded once as a graph and done again in one launch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


class Recording:
    """What `function` did with `inputs`, to be done again with other numbers in them.

    The function is held with all that it refers to: a graph keeps nothing alive that it reads.
    """

    def __init__(
        self, function: Callable[[], Sequence[Tensor]], inputs: Sequence[Tensor], pool: Any
    ) -> None:
        """Record, which computes nothing.

        Args:
            inputs: tensors of its own that `function` reads.
            pool: where its memory comes from; recordings that share one are not done at once.
        """
        self.function, self.inputs = function, list(inputs)
        self.graph = torch.cuda.CUDAGraph()
        # On the stream that it will be done on: libraries keep scratch memory by stream, which two
        # recordings of one stream, done at once on others, would write to together.
        here = torch.cuda.current_stream()
        stream = None if here == torch.cuda.default_stream() else here
        with torch.cuda.graph(self.graph, pool=pool, stream=stream):
            self.outputs = list(function())

    def __call__(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Outputs for these inputs; overwritten when it is done again."""
        torch._foreach_copy_(self.inputs, list(tensors))
        self.graph.replay()
        return self.outputs
