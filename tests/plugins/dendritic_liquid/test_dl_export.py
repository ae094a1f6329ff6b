"""Models as graphs for any number of images."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from labctl.api import DataSpec

SPARSE = {"sparse": {"keep": (0.8, 0.5, 0.5)}}
ROWS: dict[str, dict[str, Any]] = {
    "plain": {},
    "stem": {"stem": {"widths": (4, 6)}},
    "sparse": SPARSE,
    "full": {**SPARSE, "dendrites": {"hidden": 4}, "liquid": {"hidden": 5}},
}


class Logits(nn.Module):
    """Of a model, its knobs where they end."""

    def __init__(self, model: nn.Module, knobs: Any) -> None:
        super().__init__()
        self.model, self.knobs = model, knobs

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.model(inputs, self.knobs).logits
        return logits


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
def test_a_graph_takes_any_number_of_images(
    dl_card: Any, small: Any, stands: Any, small_images: DataSpec, row: str
) -> None:
    torch.manual_seed(0)
    model = dl_card("dendritic_liquid_vit").build(small(**ROWS[row]), small_images)
    work = Logits(model.eval(), stands())
    shapes = {"inputs": {0: torch.export.Dim("images")}}
    given = (torch.randn(2, 1, 8, 8),)
    graph = torch.export.export(work, given, dynamic_shapes=shapes, strict=False).module()
    for size in (1, 2, 7):
        images = torch.randn(size, 1, 8, 8)
        torch.testing.assert_close(graph(images), work(images))


def test_no_images_have_no_logits(
    dl_card: Any, small: Any, stands: Any, small_images: DataSpec
) -> None:
    for execution in ("topk", "packed", "mask"):
        config = small(dendrites={"hidden": 4}, sparse={"keep": (0.8,) * 3, "execution": execution})
        model = dl_card("dendritic_liquid_vit").build(config, small_images).eval()
        assert model(torch.randn(0, 1, 8, 8), stands()).logits.shape == (0, 5)
