"""What the three measurements write and return."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from labctl.api import Batches, DataSpec, Images, LabctlError, MeasureContext
from labctl.measure.compatibility import fvcore_macs

PARTS: dict[str, Any] = {"dendrites": {"hidden": 4}, "liquid": {"hidden": 5}}
KEEP = (0.8, 0.5, 0.4)


@pytest.fixture
def context(
    dl_card: Callable[[str], Any], small: Any, stands: Any, small_images: DataSpec, tmp_path: Path
) -> Callable[..., MeasureContext]:
    """A model whose weights are large enough for patches to differ, and forty images."""
    spec = replace(small_images, mean=(0.5,), std=(0.25,))

    def make(mask: str = "hard", **parts: Any) -> MeasureContext:
        torch.manual_seed(0)
        model = dl_card("dendritic_liquid_vit").build(small(**parts), spec).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
                if name.endswith("dendrites.bias"):
                    parameter.fill_(-0.1)
        draws = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (40, 1, 8, 8), generator=draws, dtype=torch.uint8)
        cpu = torch.device("cpu")
        splits = {"test": Batches(Images(pixels, torch.arange(40) % 5), spec, cpu)}
        knobs = stands(mask)
        return MeasureContext(model, model.config, spec, splits, knobs, cpu, tmp_path, seed=0)

    return make


def measured(dl_card: Any, name: str, context: MeasureContext, **fields: Any) -> dict[str, float]:
    card = dl_card(name)
    assert card.only_for == ("dendritic_liquid_vit",)
    numbers: dict[str, float] = card.run(card.config(**fields), context)
    return numbers


def opened(context: MeasureContext) -> Any:
    return context.model


def inputs_of(context: MeasureContext, count: int) -> torch.Tensor:
    return context.splits["test"].at(torch.arange(count)).inputs


@pytest.mark.slow
@pytest.mark.parametrize("execution", ["topk", "mask"])
def test_flow_counts_the_patches_that_blocks_attend_to(
    dl_card: Any, context: Callable[..., MeasureContext], execution: str
) -> None:
    given = context(**PARTS, sparse={"keep": KEEP, "execution": execution})
    seen: list[Any] = []
    with torch.no_grad():
        opened(given).run(inputs_of(given, 30), given.knobs, seen.append)
    numbers = measured(dl_card, "token_flow", given, images=30)
    shares = [float(block.kept.sum()) / (30 * 16) for block in seen]
    assert [numbers[f"pruned_block{place}"] for place in (1, 2, 3)] == pytest.approx(
        [100 * (1 - share) for share in shares]
    )
    if execution == "topk":
        assert shares == pytest.approx([13 / 16, 8 / 16, 7 / 16])
    assert numbers["pruned_early"] == numbers["pruned_block1"]
    assert numbers["pruned_late"] == numbers["pruned_block3"]
    assert (given.folder / "token_flow.png").read_bytes().startswith(b"\x89PNG")
    with np.load(given.folder / "token_flow.npz") as arrays:
        assert set(arrays) == {"pruned", "gate", "spread", "wins"}
        assert arrays["wins"].sum(1) == pytest.approx([1, 1, 1])


def test_flow_tells_open_gates_and_dead_branches(
    dl_card: Any, context: Callable[..., MeasureContext]
) -> None:
    given = context(**PARTS)
    with torch.no_grad():
        for place, block in enumerate(opened(given).blocks):
            block.liquid.heads.weight.zero_()
            block.liquid.heads.bias[:16] = (-20.0, 0.0, 20.0)[place]  # f: gamma = sigmoid(-f t)
            block.liquid.tau.fill_(5.0)
            block.dendrites.weight.zero_()
            block.dendrites.bias.copy_(torch.tensor([0.0, 1.0, 0.5, 0.0]))
    numbers = measured(dl_card, "token_flow", given)
    gates = [numbers[f"gate_block{place}"] for place in (1, 2, 3)]
    assert gates == pytest.approx([0, 0.5, 1], abs=1e-6)
    spreads = [numbers[f"gate_spread_block{place}"] for place in (1, 2, 3)]
    assert spreads == pytest.approx([0.5, 0, 0.5], abs=1e-6)
    assert numbers["branch_block2"] == 1 and numbers["dead_branches"] == 9
    assert numbers["pruned_block1"] == 0
    plain = measured(dl_card, "token_flow", context())
    assert set(plain) == {
        f"pruned_{name}" for name in ("block1", "block2", "block3", "early", "middle", "late")
    }


def test_a_gate_whose_heads_change_places_is_as_decided_and_open_the_other_way(
    dl_card: Any, context: Callable[..., MeasureContext]
) -> None:
    """f, g, h and -f, h, g are one model: what the mean of a gate says is a matter of names."""
    given = context(**PARTS)
    model, images = opened(given), inputs_of(given, 4)
    with torch.no_grad():
        for block in model.blocks:
            torch.nn.init.normal_(block.liquid.heads.bias)
        before = model.run(images, given.knobs).logits
    first = measured(dl_card, "token_flow", given)
    with torch.no_grad():
        for block in model.blocks:
            for part in block.liquid.heads.parameters():
                flow, one, other = part.clone().chunk(3)
                part.copy_(torch.cat([-flow, other, one]))
        torch.testing.assert_close(model.run(images, given.knobs).logits, before)
    second = measured(dl_card, "token_flow", given)
    for place in (1, 2, 3):
        gate, spread = f"gate_block{place}", f"gate_spread_block{place}"
        assert second[gate] == pytest.approx(1 - first[gate], abs=1e-5)
        assert second[spread] == pytest.approx(first[spread], abs=1e-5)
        assert abs(first[gate] - 0.5) > 1e-3 and first[spread] > 1e-2


def test_gates_are_of_the_tokens_that_are_left(
    dl_card: Any, context: Callable[..., MeasureContext]
) -> None:
    """Gathered or masked, where the first block keeps the same patches."""
    found = []
    for execution in ("packed", "topk"):
        given = context(**PARTS, sparse={"keep": KEEP, "execution": execution})
        seen: list[Any] = []
        if execution == "packed":
            with torch.no_grad():
                opened(given).run(inputs_of(given, 1), given.knobs, seen.append)
            share = int(seen[0].kept.sum()) / 16
            kept = (share, min(share, 0.1), 0.1)
        else:
            given = context(**PARTS, sparse={"keep": kept, "execution": execution})
        found.append(measured(dl_card, "token_flow", given, images=1)["gate_block1"])
    assert found[0] == pytest.approx(found[1], rel=1e-5) and share < 1


@pytest.mark.slow
@pytest.mark.parametrize("execution", ["topk", "mask"])
def test_maps_hold_importance_and_attention(
    dl_card: Any, context: Callable[..., MeasureContext], execution: str
) -> None:
    given = context(**PARTS, sparse={"keep": KEEP, "execution": execution})
    seen: list[Any] = []
    with torch.no_grad():
        opened(given).run(inputs_of(given, 6), given.knobs, seen.append)
    numbers = measured(dl_card, "importance_maps", given, images=6, shown=2)
    with np.load(given.folder / "importance_maps.npz") as arrays:
        assert arrays["index"].tolist() == list(range(6))
        first = arrays["importance_block1"].reshape(6, 16)
        np.testing.assert_allclose(first, seen[0].scores.numpy(), rtol=1e-6)
        assert numbers["importance_spread_block1"] == pytest.approx(first.std(1).mean(), rel=1e-5)
        kept = arrays["kept_block2"].reshape(6, 16)
        attention = arrays["attention_block2"].reshape(6, 16)
        assert (attention[~kept] == 0).all() and (attention[kept] > 0).all()
        assert (attention.sum(1) < 1).all()
        if execution == "topk":
            gone = ~arrays["kept_block1"].reshape(6, 16)
            assert np.isnan(arrays["importance_block2"].reshape(6, 16)[gone]).all()
        for image in range(6):  # by the keys that CLS has, one image and head after the other
            heads = []
            for head in range(2):
                queries, keys = (part[image, head] for part in (seen[1].queries, seen[1].keys))
                there = torch.ones(len(keys), dtype=torch.bool)
                if execution == "mask":
                    there = torch.cat([there[:1], seen[1].kept[image]])
                heads.append((keys[there] @ queries[0] / 8**0.5).softmax(0)[1:])
            expected = torch.stack(heads).mean(0).numpy()
            np.testing.assert_allclose(attention[image, kept[image]], expected, rtol=1e-4)
    assert (given.folder / "importance_maps.png").read_bytes().startswith(b"\x89PNG")


def test_cost_counts_what_is_executed_and_its_ratios_agree(
    dl: Any, dl_card: Any, context: Callable[..., MeasureContext]
) -> None:
    given = context(**PARTS, sparse={"keep": KEEP})
    model, cost = opened(given), dl("cost")
    numbers = measured(dl_card, "inference_cost", given, images=10, batches=(1, 8), seconds=0.01)
    macs = cost.forward_macs(model.config, given.spec, {"mask": "hard"})
    plain = cost.forward_macs(context().model_config, given.spec, {})
    assert numbers["macs"] == macs and numbers["mac_ratio"] == pytest.approx(macs / plain)
    assert numbers["flops"] == 2 * macs
    for size in (1, 8):
        own, other = numbers[f"b{size}/per_second"], numbers[f"b{size}/plain_per_second"]
        assert numbers[f"b{size}/speedup"] == pytest.approx(own / other)
        eta = (1 - other / own) / (1 - macs / plain)
        assert numbers[f"b{size}/eta"] == pytest.approx(eta)
    slower = numbers["latency_ms"] / numbers["plain_latency_ms"]
    assert 0.2 < slower * numbers["b1/speedup"] < 5, "on a CPU, the host is the device"


def test_throughput_is_of_calls_that_follow_one_another(
    dl: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that takes 1 ms for a call and a device 2 ms for one model, 3 for the other: one after
    another, calls take what the device does; one whose answer is waited for takes both."""
    inference = dl("measurements.inference")
    host = device = 0.0

    def work(seconds: float) -> None:
        nonlocal host, device
        host += 1e-3
        device = max(device, host) + seconds

    def wait() -> None:
        nonlocal host
        host = max(host, device)

    monkeypatch.setattr(inference, "_wait", wait)
    monkeypatch.setattr(inference.time, "perf_counter", lambda: host)
    works = (lambda: work(2e-3), lambda: work(3e-3))
    own, other = inference._seconds(works, 0.5, 0.4)
    assert own == pytest.approx(2e-3, rel=0.01) and other == pytest.approx(3e-3, rel=0.01)
    assert inference._seconds(works, 0.1) == pytest.approx((3e-3, 4e-3))


def test_cost_of_the_plain_transformer_is_fvcores(
    dl_card: Any, context: Callable[..., MeasureContext]
) -> None:
    given = context()
    numbers = measured(dl_card, "inference_cost", given, images=2, batches=(4,), seconds=0.01)
    assert numbers["fvcore"] == fvcore_macs(opened(given), inputs_of(given, 1), {}).total
    assert numbers["mac_ratio"] == numbers["fvcore_ratio"] == 1
    assert "b4/eta" not in numbers and "latency_ms" not in numbers


def test_packed_costs_what_its_images_have_left(
    dl_card: Any, context: Callable[..., MeasureContext]
) -> None:
    given = context(dendrites={"hidden": 4}, sparse={"keep": KEEP, "execution": "packed"})
    hard = measured(dl_card, "inference_cost", given, images=20, batches=(4,), seconds=0.01)
    soft = context("soft", dendrites={"hidden": 4}, sparse={"keep": KEEP, "execution": "packed"})
    all_there = measured(dl_card, "inference_cost", soft, images=20, batches=(4,), seconds=0.01)
    assert hard["mac_ratio"] < 1 < all_there["mac_ratio"]


def test_cost_in_another_precision_says_how_often_the_answer_is_the_same(
    dl_card: Any, context: Callable[..., MeasureContext]
) -> None:
    given = context(**PARTS, sparse={"keep": KEEP})
    options = {"images": 40, "batches": (4,), "seconds": 0.01}
    as_trained = measured(dl_card, "inference_cost", given, **options)
    rounded = measured(dl_card, "inference_cost", given, **options, precision="bf16")
    model = opened(given)
    with torch.no_grad():
        answers = model(inputs_of(given, 40), given.knobs).logits.argmax(-1)
        coarse = model.bfloat16()(inputs_of(given, 40).bfloat16(), given.knobs).logits.argmax(-1)
    assert rounded["agreement"] == pytest.approx((answers == coarse).float().mean().item())
    assert "agreement" not in as_trained and rounded["macs"] == as_trained["macs"]


@pytest.mark.parametrize("execution", ["topk", "packed"])
def test_what_is_timed_can_be_compiled(
    dl_card: Any, context: Callable[..., MeasureContext], monkeypatch: pytest.MonkeyPatch,
    execution: str,
) -> None:  # fmt: skip
    """Both models, their logits alone, and recorded on a GPU; but packed ones wait for the device
    within."""
    given = context(**PARTS, sparse={"keep": KEEP, "execution": execution})
    compiled: list[tuple[Any, dict[str, Any]]] = []

    def note(run: Any, **options: Any) -> Any:
        compiled.append((inspect.getclosurevars(run).nonlocals["model"].config, options))

        def noted(images: torch.Tensor, knobs: Any) -> torch.Tensor:
            logits: torch.Tensor = run(images, knobs)
            assert logits.shape == (len(images), given.spec.num_classes)
            return logits

        return noted

    monkeypatch.setattr(torch, "compile", note)
    limit = torch._dynamo.config.recompile_limit
    options = {"images": 8, "batches": (2, 4), "seconds": 0.01}
    measured(dl_card, "inference_cost", given, **options, compiled=True)
    whole = {"fullgraph": True, "dynamic": False, "mode": "reduce-overhead"}
    parts = {"dendrites": None, "liquid": None, "sparse": None}
    plain = given.model_config.model_copy(update=parts)
    own = [(given.model_config, whole)] if execution == "topk" else []
    assert compiled == [*own, (plain, whole)]
    assert torch._dynamo.config.recompile_limit == limit


def test_a_split_that_is_not_there_is_said(
    dl_card: Any, context: Callable[..., MeasureContext]
) -> None:
    for name in ("token_flow", "importance_maps", "inference_cost"):
        with pytest.raises(LabctlError, match="there is no split 'val'"):
            measured(dl_card, name, context(), split="val")
