"""A step of every row, with masks of every kind, is one graph that waits for nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.testing import CompileCounter
from torch.fx import GraphModule

from labctl.api import Batch, DataSpec, LearnerParts, Objective, Output

DENDRITES, LIQUID = {"dendrites": {"hidden": 4}}, {"liquid": {"hidden": 5}}
SPARSE = {"sparse": {"keep": (0.8, 0.5)}}
PACKED = {"sparse": {"keep": (0.8, 0.5), "execution": "packed"}}
FULL = {**DENDRITES, **LIQUID, **SPARSE}
ROWS: dict[str, dict[str, Any]] = {
    "plain": {},
    "stem": {"stem": {"widths": (4, 6)}},
    "dendritic": DENDRITES,
    "liquid": LIQUID,
    "sparse": SPARSE,
    "full": FULL,
    "exploring": {**DENDRITES, "sparse": {"keep": (0.8, 0.5), "explore": 0.3}},
    "packed": {**DENDRITES, **PACKED},
}
PLACES = [
    (row, mask)
    for row, parts in ROWS.items()
    for mask in (("soft", "transition", "hard") if row in ("sparse", "full") else ("hard",))
]
WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "is_nonzero")


@pytest.fixture(autouse=True)
def _afresh() -> Iterator[None]:
    torch.manual_seed(0)
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def _loss(output: Output, batch: Batch, knobs: Any) -> torch.Tensor:
    return nn.functional.cross_entropy(output.logits.float(), batch.targets)


def objective_of(dl_card: Callable[[str], Any], spec: DataSpec, parts: dict[str, Any]) -> Objective:
    terms: dict[str, Any] = {"cross_entropy": _loss}
    if "sparse" in parts:
        terms["token_budget"] = dl_card("token_budget").build(
            dl_card("token_budget").config(), spec
        )
    return Objective(terms)


def gradients(model: nn.Module) -> dict[str, torch.Tensor | None]:
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("row", "mask"), PLACES)
def test_a_step_is_one_graph(
    dl_card: Any, small: Any, stands: Any, small_images: DataSpec, row: str, mask: str
) -> None:
    """In bf16, forth and back: nothing in float64, nothing that needs a value on the host, nothing
    moved between devices; and, in float32 and without lots, what is computed is the same."""
    parts = ROWS[row]
    model = dl_card("dendritic_liquid_vit").build(small(**parts, depth=2), small_images).train()
    objective, graphs = objective_of(dl_card, small_images, parts), []

    def keep(graph: GraphModule, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    whole = torch.compile(objective.__call__, fullgraph=True, dynamic=False, backend=_boxed(keep))
    index = torch.arange(6)
    given = (model, Batch(torch.randn(6, 1, 8, 8), index % 5, index), stands(mask, 1.0, 0.5))
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = whole(*given)
    loss.backward()
    gradients(model)
    assert len(graphs) == 2, "one forth and one back"
    for node in (node for graph in graphs for node in graph.graph.nodes):
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor):
            assert value.dtype != torch.float64, node
            assert value.device.type == "cpu", node
        assert not any(name in str(node.target) for name in WAITING), node
    if row != "exploring":
        loss, _ = whole(*given)
        loss.backward()
        found = gradients(model)
        expected, _ = objective(*given)
        expected.backward()
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(found, gradients(model), atol=1e-5, rtol=1e-4)


def _boxed(keep: Callable[..., Any]) -> Any:
    from functorch.compile import make_boxed_func

    def compiler(graph: GraphModule, inputs: Any) -> Any:
        return make_boxed_func(keep(graph, inputs))

    return aot_autograd(fw_compiler=compiler, bw_compiler=compiler)


@pytest.mark.slow
@pytest.mark.parametrize("parts", [FULL, {**FULL, **ROWS["stem"]}], ids=["full", "stem"])
def test_looking_makes_nothing_to_compile_anew(
    dl_card: Any, small: Any, stands: Any, small_images: DataSpec, parts: dict[str, Any]
) -> None:
    """Continuous knobs may stand elsewhere; another mask is another graph."""
    model = dl_card("dendritic_liquid_vit").build(small(**parts, depth=2), small_images).train()
    objective, counter = objective_of(dl_card, small_images, parts), CompileCounter()
    whole = torch.compile(objective.__call__, fullgraph=True, dynamic=False, backend=counter)
    nothing: Any = None
    given = LearnerParts(model, objective, nothing, None, None, nullcontext, 1)
    observed = dl_card("observed_backprop").build(None, given)
    index = torch.arange(6)
    for mask, graphs in (("soft", 1), ("transition", 2), ("hard", 3)):
        for temperature in (2.0, 1.0):
            batch = Batch(torch.randn(6, 1, 8, 8), index % 5, index)
            knobs = stands(mask, temperature, 0.5)
            observed.look(batch, knobs)
            whole(model, batch, knobs)
        assert counter.frame_count == graphs


def test_blocks_that_keep_all_that_is_left_gather_nothing(
    dl_card: Any, small: Any, stands: Any, small_images: DataSpec
) -> None:
    """The second and third share ask for as many as the first two blocks have left."""
    config = small(**DENDRITES, sparse={"keep": (0.5, 0.5, 0.5)})
    model = dl_card("dendritic_liquid_vit").build(config, small_images).eval()
    chosen: list[int] = []
    best = model._best
    model._best = lambda scores, count, sparse: (chosen.append(count), best(scores, count, sparse))[
        1
    ]
    seen: list[Any] = []
    model.run(torch.randn(2, 1, 8, 8), stands(), seen.append)
    assert chosen == [8]
    assert [block.kept.sum(1).tolist() for block in seen] == [[8, 8]] * 3
