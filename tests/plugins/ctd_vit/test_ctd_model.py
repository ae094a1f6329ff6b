"""The model against counts, against the same mathematics written out, and against its own laws."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import sqrt
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from labctl.api import DataSpec, LabctlError

Make = Callable[..., Any]
Modules = Callable[[str], ModuleType]

RANDOM = {"saliency": "random"}
MODES: list[dict[str, Any]] = [
    {"where": "once"},
    {"where": "once", "drop_at": 0, "saliency": "entropy"},
    {"where": "once", "saliency": "value_norm"},
    {"where": "once", "saliency": "gradient"},
    {"where": "compound"},
    {"where": "compound", "saliency": "stem_norm"},
    {"where": "input"} | RANDOM,
    {"where": "input", "saliency": "stem_norm"},
    {"where": "spread"},
    {"where": "stages"},
    {"where": "ltd"} | RANDOM,
]


FORWARD = [fields for fields in MODES if fields.get("saliency") != "gradient"]
"""Modes that need no loss to rank."""


def name_of(fields: dict[str, Any]) -> str:
    return "-".join(str(value) for value in fields.values())


def pictures(count: int = 5) -> Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("stem", ["pool", "stride", "late_pool"])
def test_model_of_the_paper_has_14_779_300_parameters(
    ctd: Modules, ctd_config: Make, cifar100: DataSpec, stem: str
) -> None:
    with torch.device("meta"):
        model = ctd("model").CtdVit(ctd_config(stem=stem), cifar100)
    counts = {
        name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()
    }
    assert counts == {
        "stem": 518_976, "dropout": 0, "blocks": 8 * 1_774_464, "norm": 768, "head": 38_500,
    }  # fmt: skip
    assert model.cls.numel() == 384 and model.positions.numel() == 24_960
    assert sum(p.numel() for p in model.parameters()) == 14_779_300


@pytest.mark.slow
@pytest.mark.parametrize("drop", [0.0, 0.35])
@pytest.mark.parametrize(
    "fields", [*FORWARD, {"readout": "mean"}, {"stem": "late_pool"}], ids=name_of
)
def test_macs_are_those_that_torch_counts(
    ctd: Modules, ctd_config: Make, cifar100: DataSpec, fields: dict[str, Any], drop: float
) -> None:
    config = ctd_config(**fields)
    with torch.device("meta"):
        model = ctd("model").CtdVit(config, cifar100).eval()
        images = torch.empty(2, 3, 32, 32)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(images, {"token_drop": drop})
    macs = ctd("cost").forward_macs(config, cifar100, drop)
    assert counter.get_total_flops() == 2 * 2 * macs


def by_hand(model: Any, images: Tensor, drop: float) -> tuple[Tensor, list[list[int]]]:
    """The paper's forward pass written out: whole attention maps, and one image after another.

    Returns logits, and for the first image the patches alive after each block.
    """
    config, alive_of_first, logits = model.config, [], []
    heads = config.num_heads
    for number, image in enumerate(images):
        x = model.stem(image[None])[0]
        x = torch.cat([model.cls[None], x]) + model.positions
        alive = list(range(model.num_patches))
        for place, block in enumerate(model.blocks):
            qkv = block.attention.qkv(block.norm1(x)).view(len(x), 3, heads, -1)
            q, k, v = qkv.permute(1, 2, 0, 3)
            attention = torch.softmax(q @ k.mT / sqrt(q.shape[-1]), dim=-1)  # (H, N, N)
            mixed = (attention @ v).transpose(0, 1).reshape(len(x), -1)
            x = x + block.attention.proj(mixed)
            if config.where == "compound" or place == config.drop_at:
                keep = max(1, int(len(alive) * (1 - drop) + 1e-9))
                saliency = attention.mean(0)[0, 1:].tolist()
                best = sorted(sorted(range(len(alive)), key=lambda i: -saliency[i])[:keep])
                x = x[[0] + [1 + i for i in best]]
                alive = [alive[i] for i in best]
            x = x + block.mlp(block.norm2(x))
            if number == 0:
                alive_of_first.append(alive)
        read = model.norm(x)
        logits.append(model.head(read[0] if config.readout == "cls" else read[1:].mean(0)))
    return torch.stack(logits), alive_of_first


@pytest.mark.parametrize("drop", [0.0, 0.2, 0.35, 0.8])
@pytest.mark.parametrize(
    "fields",
    [
        {"where": "once"},
        {"where": "once", "drop_at": 0},
        {"where": "compound"},
        {"readout": "mean"},
    ],
    ids=name_of,
)
def test_forward_is_the_paper_s_written_out(
    tiny_model: Make, fields: dict[str, Any], drop: float
) -> None:
    model = tiny_model(**fields).eval()
    with torch.no_grad():
        expected, alive = by_hand(model, pictures(), drop)
        logits, chosen = model.run(pictures(), drop)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    for place in chosen:
        assert place.kept[0].tolist() == alive[place.block]
    if drop:
        assert len(chosen) >= 1


@pytest.mark.parametrize("fields", FORWARD, ids=name_of)
def test_without_a_drop_every_mode_is_the_plain_transformer_bit_for_bit(
    tiny_model: Make, fields: dict[str, Any]
) -> None:
    def trained(model: Any, logits_of: Callable[[], Tensor]) -> list[Tensor]:
        torch.manual_seed(7)
        logits = logits_of()
        F.cross_entropy(logits, torch.arange(5)).backward()
        return [logits.detach(), *(p.grad.clone() for p in model.parameters())]

    model, plain = tiny_model(**fields).train(), tiny_model().train()
    plain.load_state_dict(model.state_dict())

    def plain_logits() -> Tensor:
        patches = plain.stem(pictures())
        x = plain.dropout(torch.cat([plain.cls.expand(5, 1, -1), patches], 1) + plain.positions)
        for block in plain.blocks:
            x = block(x)
        logits: Tensor = plain.head(plain.norm(x[:, 0]))
        return logits

    got = trained(model, lambda: model(pictures(), {"token_drop": 0.0}))
    expected = trained(plain, plain_logits)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize("drop", [0.1, 0.35, 0.9])
@pytest.mark.parametrize("fields", MODES, ids=name_of)
def test_blocks_see_the_tokens_that_the_chain_says(
    ctd: Modules, tiny_model: Make, fields: dict[str, Any], drop: float
) -> None:
    model = tiny_model(**fields).eval()
    seen: list[int] = []
    for block in model.blocks:
        block.mlp.register_forward_hook(lambda _, inputs, out: seen.append(inputs[0].shape[1] - 1))
    model(pictures(), {"token_drop": drop})
    chain = list(ctd("tokens").token_chain(model.config, 64, drop))
    if model.config.saliency == "gradient":  # the pass that finds it drops nothing
        chain[2:2] = [64] * 6
    assert seen == chain


@pytest.mark.parametrize("select", ["top", "bottom"])
@pytest.mark.parametrize("fields", MODES, ids=name_of)
def test_patches_kept_are_the_best_or_the_worst_in_their_order(
    tiny_model: Make, fields: dict[str, Any], select: str
) -> None:
    model = tiny_model(select=select, **fields).eval()
    chosen = model.run(pictures(), 0.35)[1]
    assert chosen
    for place in chosen:
        sign = -1 if select == "top" else 1
        for image in range(5):
            scores = place.scores[image].tolist()
            order = sorted(range(len(scores)), key=lambda i: (sign * scores[i], i))
            index = place.index[image].tolist()
            assert index == sorted(order[: len(index)])
            candidates = place.candidates[image].tolist()
            assert place.kept[image].tolist() == [candidates[i] for i in index]
        assert not place.scores.requires_grad


def test_sites_hand_on_the_patches_that_they_kept(tiny_model: Make) -> None:
    chosen = tiny_model(where="compound").eval().run(pictures(), 0.35)[1]
    assert [place.block for place in chosen] == [0, 1, 2, 3, 4, 5, 6]
    for before, after in pairwise(chosen):
        assert torch.equal(before.kept, after.candidates)


def test_a_patch_keeps_its_score_of_the_stem(ctd: Modules, tiny_model: Make) -> None:
    model = tiny_model(where="compound", saliency="stem_norm").eval()
    norms = model.stem(pictures()).norm(dim=-1)
    for place in model.run(pictures(), 0.35)[1]:
        torch.testing.assert_close(place.scores, norms.gather(1, place.candidates))


@pytest.mark.parametrize("fields", [{"where": "input"}, {"where": "once", "drop_at": 0}])
def test_patches_carry_their_positions(tiny_model: Make, fields: dict[str, Any]) -> None:
    """With a blank stem, what reaches the blocks is CLS and the positions of the patches kept."""
    model = tiny_model(**fields, **RANDOM).eval()
    seen: list[Tensor] = []
    with torch.no_grad():
        for parameter in model.stem.parameters():
            parameter.zero_()
        for block in model.blocks:
            block.attention.proj.weight.zero_()
            block.attention.proj.bias.zero_()
        model.blocks[0].norm2.register_forward_hook(lambda _, inputs, out: seen.append(inputs[0]))
        (place,) = model.run(pictures(), 0.35)[1]
    expected = torch.stack([model.positions[[0, *(1 + kept)]] for kept in place.kept])
    expected[:, 0] += model.cls
    torch.testing.assert_close(seen[0], expected, rtol=0, atol=0)
    assert len({tuple(kept.tolist()) for kept in place.kept}) > 1


def test_bypassed_patches_stay_as_they_were(tiny_model: Make) -> None:
    model = tiny_model(where="ltd", **RANDOM).eval()
    entering: list[Tensor] = []
    model.blocks[7].norm1.register_forward_pre_hook(lambda _, inputs: entering.append(inputs[0]))
    with torch.no_grad():
        first = model.blocks[0](model._embedded(model.stem(pictures())))
        chosen = model.run(pictures(), 0.9)[1]
    assert [place.block for place in chosen] == [1, 2, 3, 4, 5, 6]
    touched = torch.zeros(5, 64, dtype=torch.bool)
    for place in chosen:
        touched.scatter_(1, place.kept, True)
    assert 0 < touched.sum() < touched.numel()
    last = entering[0]
    assert torch.equal(last[:, 1:][~touched], first[:, 1:][~touched]), "never chosen, never changed"
    changed = (last[:, 1:] != first[:, 1:]).any(-1)
    assert torch.equal(changed, touched), "put back in their own places"
    assert (last[:, 0] != first[:, 0]).any(-1).all(), "CLS takes part in every block"
    subsets = {tuple(place.kept[0].tolist()) for place in chosen}
    assert len(subsets) == 6, "each block draws its own"


def test_random_saliency_follows_the_global_generator(tiny_model: Make) -> None:
    model = tiny_model(**RANDOM).eval()

    def kept(seed: int) -> Tensor:
        torch.manual_seed(seed)
        kept: Tensor = model.run(pictures(), 0.35)[1][0].kept
        return kept

    assert torch.equal(kept(1), kept(1))
    assert not torch.equal(kept(1), kept(2))


@pytest.mark.parametrize("fields", FORWARD, ids=name_of)
def test_training_is_deterministic(ctd: Modules, tiny_model: Make, fields: dict[str, Any]) -> None:
    def gradients() -> list[Tensor]:
        model = tiny_model(**fields).train()
        torch.manual_seed(5)
        F.cross_entropy(model(pictures(), {"token_drop": 0.35}), torch.arange(5)).backward()
        return [p.grad for p in model.parameters()]

    torch.use_deterministic_algorithms(True)
    try:
        first, second = gradients(), gradients()
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(gradient.isfinite().all() for gradient in first)


@pytest.mark.parametrize("fields", MODES, ids=name_of)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_half_precision_and_no_gradients_run(
    tiny_model: Make, fields: dict[str, Any], mode: Any
) -> None:
    model = tiny_model(**fields).eval()
    with mode():
        exact = model(pictures(), {"token_drop": 0.0})
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = model(pictures(), {"token_drop": 0.0})
            logits, chosen = model.run(pictures(), 0.35)
    torch.testing.assert_close(half.float(), exact, rtol=0.1, atol=0.1)
    assert logits.isfinite().all()
    assert all(place.scores.dtype == torch.float32 for place in chosen)


def test_gradient_saliency_refuses_a_learner_without_the_loss(tiny_model: Make) -> None:
    model = tiny_model(saliency="gradient").train()
    with pytest.raises(LabctlError, match="saliency_gradient"):
        model(pictures(), {"token_drop": 0.0})


def test_drop_path_rises_linearly_and_skips_whole_images(ctd: Modules, tiny_model: Make) -> None:
    model = tiny_model(drop_path=0.7)
    rates = [block.drop_path.rate for block in model.blocks]
    assert rates == pytest.approx([0.1 * place for place in range(8)])
    branch = torch.ones(4000, 3, 2)
    torch.manual_seed(0)
    dropped = ctd("block").DropPath(0.25).train()(branch)
    per_image = dropped.flatten(1)
    assert (per_image == per_image[:, :1]).all()
    assert per_image.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert (per_image[:, 0] == 0).float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert torch.equal(ctd("block").DropPath(0.25).eval()(branch), branch)


def test_weights_begin_as_documented(ctd: Modules, ctd_config: Make, cifar100: DataSpec) -> None:
    torch.manual_seed(0)
    model = ctd("model").CtdVit(ctd_config(), cifar100)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.03)
            assert not module.bias.any()
    assert model.positions.std().item() == pytest.approx(0.02, rel=0.03)
    assert model.cls.std().item() == pytest.approx(0.02, rel=0.15)


@pytest.mark.parametrize(
    ("stem", "side"), [("pool", 28), ("stride", 30), ("late_pool", 32), ("plain", 8)]
)
def test_stem_makes_as_many_patches_as_the_arithmetic(
    ctd: Modules, tiny_config: Make, stem: str, side: int
) -> None:
    spec = DataSpec("any", "1", "image", (1, side, side + 5), 10, {"train": 1})
    model = ctd("model").CtdVit(tiny_config(stem=stem), spec)
    assert model.stem(torch.zeros(2, 1, side, side + 5)).shape == (2, model.num_patches, 24)
    assert model(torch.zeros(2, 1, side, side + 5), {"token_drop": 0.35}).shape == (2, 10)


def test_patches_are_numbered_in_rows(tiny_model: Make) -> None:
    model = tiny_model().eval()
    with torch.no_grad():
        blank, one = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
        one[0, 0, 1, 5] = 1.0
        changed = (model.stem(blank) != model.stem(one)).any(-1)[0].view(8, 8)
    assert changed[1, 5]
    rows, columns = torch.nonzero(changed, as_tuple=True)
    assert rows.max() <= 1 + 3, "three convolutions reach three pixels far"
    assert columns.min() >= 5 - 3 and columns.max() <= 5 + 3
