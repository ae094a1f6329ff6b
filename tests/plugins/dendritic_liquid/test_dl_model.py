"""The document's sizes, what each part does to the whole, and what it costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from labctl.api import DataSpec, LabctlError, Output
from labctl.measure.compatibility import fvcore_macs
from labctl.measure.flops import count

FULL: dict[str, Any] = {"dendrites": {}, "liquid": {}, "sparse": {}}
SMALL = {"dendrites": {"hidden": 4}, "liquid": {"hidden": 5}, "sparse": {"keep": (0.8, 0.5, 0.5)}}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def built(dl_card: Callable[[str], Any], config: Any, spec: DataSpec) -> Any:
    return dl_card("dendritic_liquid_vit").build(config, spec).eval()


@pytest.mark.parametrize(
    ("parts", "count"),
    [
        ((), 4_766_474),
        (("dendrites",), 4_964_642),
        (("liquid",), 5_081_594),  # of these, 1,536 scale what the gates add
        (("sparse",), 4_766_474),
        (("dendrites", "liquid", "sparse"), 5_279_762),
    ],
)
def test_sizes_are_the_documents(
    dl_card: Any, dl_config: Any, cifar10: DataSpec, parts: tuple[str, ...], count: int
) -> None:
    config = dl_config(**{part: {} for part in parts})
    assert parameters(built(dl_card, config, cifar10)) == count


def test_the_documents_flops_are_multiply_accumulates_and_norms(
    dl_card: Any, dl_config: Any, cifar10: DataSpec
) -> None:
    model, image = built(dl_card, dl_config(), cifar10), torch.randn(1, 3, 32, 32)
    assert fvcore_macs(model, image, {}).total == 321_558_272
    counted = count(lambda: model(image, {}))
    assert counted.flops == 640_953_344 and counted.uncounted == {}


@pytest.mark.parametrize("mask", ["soft", "transition", "hard"])
@pytest.mark.parametrize(
    "parts", [(), ("dendrites",), ("liquid",), ("sparse",), ("dendrites", "liquid", "sparse")]
)
def test_the_formula_of_cost_is_what_runs(
    dl_card: Any, dl: Any, small: Any, stands: Any, small_images: DataSpec,
    parts: tuple[str, ...], mask: str,
) -> None:  # fmt: skip
    """Products of tensors; a branch's sum is in neither."""
    config, images = small(**{part: SMALL[part] for part in parts}), torch.randn(1, 1, 8, 8)
    model = built(dl_card, config, small_images)
    counted = count(lambda: model(images, stands(mask))).flops
    assert counted == 2 * dl("cost").forward_macs(config, small_images, {"mask": mask})


def test_with_full_importance_and_a_closed_gate_it_is_the_plain_transformer(
    dl_card: Any, small: Any, stands: Any, small_images: DataSpec
) -> None:
    """To the last bit."""
    plain = built(dl_card, small(), small_images)
    parts = {"dendrites": {"hidden": 4, "bias": 100.0}, "liquid": {"hidden": 5, "scale": 0.0}}
    model, images = built(dl_card, small(**parts), small_images), torch.randn(3, 1, 8, 8)
    shared = plain.state_dict()
    assert set(shared) < set(model.state_dict())
    model.load_state_dict({**model.state_dict(), **shared})
    assert torch.equal(model(images, stands()).logits, plain(images, stands()).logits)


def test_a_patch_without_importance_stays_what_it_was(
    dl: Any, small: Any, small_images: DataSpec
) -> None:
    config = small(dendrites={"hidden": 4}, liquid={"hidden": 5, "scale": 0.0})
    block, tokens, mixed = dl("block").Block(config, 0), *torch.randn(2, 2, 9, 16)
    written = block.write(tokens, mixed, dl("block").with_cls(torch.zeros(2, 8)))
    assert torch.equal(written[:, 1:], tokens[:, 1:])
    assert not torch.equal(written[:, 0], tokens[:, 0]), "CLS always counts"


def test_importance_that_holds_nothing_back_is_the_plain_transformer_forth_and_a_share_back(
    dl_card: Any, dl: Any, small: Any, stands: Any, small_images: DataSpec
) -> None:
    """To the last bit; and where both are the same, at full importance, with the same gradient."""
    plain = built(dl_card, small(), small_images)
    straight = {"hidden": 4, "blend": "straight"}
    model, images = built(dl_card, small(dendrites=straight), small_images), torch.randn(3, 1, 8, 8)
    model.load_state_dict({**model.state_dict(), **plain.state_dict()})
    assert torch.equal(model(images, stands()).logits, plain(images, stands()).logits)
    with torch.no_grad():
        assert torch.equal(model(images, stands()).logits, plain(images, stands()).logits)
    tokens, mixed = torch.randn(2, 2, 9, 16, dtype=torch.float64)
    slopes = []
    for blend in ("weighted", "straight"):
        torch.manual_seed(1)
        config = small(dendrites={"hidden": 4, "blend": blend}, liquid={"hidden": 5})
        block = dl("block").Block(config, 0).double()
        share = torch.ones(2, 9, dtype=torch.float64, requires_grad=True)
        written = block.write(tokens, mixed, share)
        slopes += torch.autograd.grad(written.square().sum(), share)
    assert torch.equal(*slopes) and slopes[0].all()


def test_images_skip_branches_by_lot_and_the_others_scale_them(dl: Any, small: Any) -> None:
    """More of them the later the block, and none in evaluation."""
    block = dl("block").Block(small(drop_path=0.5, depth=3), 1)
    tokens, mixed = torch.randn(2, 400, 9, 16, dtype=torch.float64)
    torch.nn.init.zeros_(block.double().mlp[-1].weight)
    branch = block.eval().write(tokens, mixed, None) - tokens
    found = block.train().write(tokens, mixed, None) - tokens
    skips = found.flatten(1).norm(dim=1) < 1e-9
    torch.testing.assert_close(found[~skips], branch[~skips] / 0.75)
    assert 60 < int(skips.sum()) < 140, "0.25 of 400, within five standard deviations"
    torch.nn.init.zeros_(block.attention.proj.weight)
    torch.nn.init.ones_(block.mlp[-1].bias)
    skips_mlp = (block.write(tokens, mixed, None) - tokens).flatten(1).norm(dim=1) < 1e-9
    assert 60 < int(skips_mlp.sum()) < 140
    rates = [dl("block").Block(small(drop_path=0.5, depth=3), i).drop_path.p for i in range(3)]
    assert rates == [0.0, 0.25, 0.5]
    assert dl("block").Block(small(drop_path=0.5, depth=1, sparse=None), 0).drop_path.p == 0.0


def test_cls_may_rank_where_there_are_dendrites(
    dl_card: Any, dl: Any, small: Any, stands: Any, small_images: DataSpec
) -> None:
    """The same patches are left as without dendrites that blend nothing away, and importance has
    no other say than that."""
    sparse = {"keep": (0.8, 0.5, 0.5), "score": "cls"}
    config = small(dendrites={"hidden": 4, "bias": 40.0}, sparse=sparse)
    model, bare = (
        built(dl_card, one, small_images).eval() for one in (config, small(sparse=sparse))
    )
    bare.load_state_dict({k: v for k, v in model.state_dict().items() if "dendrites" not in k})
    seen: list[Any] = []
    images = torch.randn(3, 1, 8, 8)
    with_dendrites = model.run(images, stands(), seen.append)
    without = bare.run(images, stands(), seen.append)
    for own, other in zip(seen[:3], seen[3:], strict=True):
        assert torch.equal(own.patches, other.patches) and torch.equal(own.kept, other.kept)
    torch.testing.assert_close(with_dendrites.logits, without.logits)
    found = dl("cost").patches_in_blocks(config, small_images, {"mask": "hard"})
    assert found == [16, 8, 8] == [block.kept.sum(1)[0].item() for block in seen[:3]]


def test_choosing_is_by_rank_and_the_first_of_equals(dl: Any) -> None:
    """As torch's stable sort does it."""
    scores = torch.randint(0, 6, (200, 9)).float()
    for kept in (1, 4, 9):
        found = dl("model")._places(scores, kept)
        order = scores.argsort(dim=1, descending=True, stable=True)[:, :kept]
        assert torch.equal(found, torch.zeros_like(found).scatter(1, order, True))
        assert torch.equal(dl("model")._numbers(found, kept), order.sort(1).values)


def test_each_block_keeps_what_is_asked_of_it(
    dl_card: Any, dl: Any, small: Any, stands: Any, small_images: DataSpec
) -> None:
    config = small(**SMALL)
    model, seen = built(dl_card, config, small_images), []
    for block in model.blocks:
        block.mlp.register_forward_pre_hook(
            lambda module, given: seen.append(given[0].shape[1] - 1)
        )
    model(torch.randn(2, 1, 8, 8), stands())
    assert (
        seen == dl("cost").patches_in_blocks(config, small_images, {"mask": "hard"}) == [13, 8, 8]
    )
    seen.clear()
    model(torch.randn(2, 1, 8, 8), stands("soft"))
    assert seen == [16, 16, 16]


def test_without_dendrites_the_first_block_has_nothing_to_choose_by(
    dl_card: Any, small: Any, stands: Any, small_images: DataSpec
) -> None:
    model = built(dl_card, small(sparse=SMALL["sparse"]), small_images)
    assert model(torch.randn(2, 1, 8, 8), stands()).aux["excess"].shape == (2,)


@pytest.mark.parametrize("mask", ["soft", "transition", "hard"])
def test_every_parameter_has_a_gradient_under_the_budget(
    dl_card: Any, small: Any, stands: Any, small_images: DataSpec, mask: str
) -> None:
    """The last block's importance by the budget alone, once its patches are gathered: CLS, which is
    read, has attended to them by then."""
    config = small(**{**SMALL, "sparse": {"keep": (0.8, 0.5, 0.4)}})
    model = built(dl_card, config, small_images)
    term = dl_card("token_budget").build(dl_card("token_budget").config(), small_images)
    output = model(torch.randn(4, 1, 8, 8), stands(mask, 1.0, 0.5))
    batch: Any = None
    (output.logits.square().sum() + term(output, batch, {})).backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_the_budget_is_the_squared_distance_and_pulls_towards_it(
    dl_card: Any, small: Any, stands: Any, small_images: DataSpec
) -> None:
    term = dl_card("token_budget").build(dl_card("token_budget").config(weight=3.0), small_images)
    excess = torch.tensor([0.4, -0.1], requires_grad=True)
    batch: Any = None
    output = Output(torch.zeros(1, 5), {"excess": excess})
    price = term(output, batch, {})
    assert price.item() == pytest.approx(3 * (0.4**2 + 0.1**2))
    price.backward()
    assert excess.grad is not None and excess.grad[0] > 0 > excess.grad[1]
    model = built(dl_card, small(**SMALL), small_images)
    output = model(torch.randn(8, 1, 8, 8), stands())
    assert output.aux["excess"].tolist() == pytest.approx([16 / 16 - 0.8, 13 / 16 - 0.5, 0]), (
        "all lie above the threshold as training begins"
    )
    price = term(output, batch, {})
    price.backward()
    assert (model.blocks[0].dendrites.bias.grad > 0).any(), "a step lowers importance"


def test_a_budget_without_choices_is_refused(
    dl_card: Any, small: Any, stands: Any, small_images: DataSpec
) -> None:
    term = dl_card("token_budget").build(dl_card("token_budget").config(), small_images)
    batch: Any = None
    with pytest.raises(LabctlError, match="this one chooses none"):
        term(built(dl_card, small(), small_images)(torch.randn(1, 1, 8, 8), stands()), batch, {})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_heads": 3}, "num_heads 3 does not divide embed_dim 256; embed_dim 255 would do"),
        ({"sparse": {"keep": (0.5, 0.5)}}, "2 shares, and depth is 6"),
        ({"depth": 2, "sparse": {"keep": (0.5, 0.6)}}, "rises from one block to the next"),
        ({"sparse": {"threshold": 1.0}}, "less than 1"),
    ],
)
def test_what_does_not_fit_is_said(dl_config: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        dl_config(**options)


def test_data_that_do_not_fit_are_said(dl_card: Any, dl_config: Any, cifar10: DataSpec) -> None:
    card = dl_card("dendritic_liquid_vit")
    assert card.fault(dl_config(), cifar10) is None
    said = card.fault(dl_config(patch_size=5), cifar10)
    assert said == "patch_size 5 does not divide 32x32 pixels; these do: 1, 2, 4, 8, 16, 32"
    words = DataSpec("words", "1", "tokens", (16,), 50, {"train": 9})
    assert "holds tokens" in card.fault(dl_config(), words)


def test_knobs_are_there_where_something_is_masked(
    dl_card: Any, dl_config: Any, cifar10: DataSpec
) -> None:
    knobs = dl_card("dendritic_liquid_vit").knobs
    assert knobs(dl_config(), cifar10) == ()
    names = [knob.name for knob in knobs(dl_config(**FULL), cifar10)]
    assert names == ["temperature", "mask", "hardness"]


EARLY, LATE = (0.8, 0.8, 0.5, 0.5, 0.4, 0.4), (1.0, 0.8, 0.5, 0.4, 0.3, 0.25)


@pytest.mark.parametrize(
    ("options", "macs", "of_plain"),
    [
        ({}, 320_476_672, 1),
        ({"dendrites": {}}, 333_256_192, 1.040),  # the document has 0.98
        ({"liquid": {}}, 340_444_672, 1.062),  # 0.99
        ({"sparse": {}}, 199_245_312, 0.622),  # 0.65
        (FULL, 212_615_680, 0.663),  # 0.62
        ({**FULL, "sparse": {"keep": EARLY}}, 203_482_624, 0.635),
        ({**FULL, "sparse": {"keep": LATE}}, 195_274_240, 0.609),
        ({**FULL, "sparse": {"keep": LATE, "score": "cls"}}, 195_325_184, 0.609),
    ],
)
def test_costs_are_those_of_the_readme(
    dl: Any, dl_config: Any, cifar10: DataSpec, options: Any, macs: int, of_plain: float
) -> None:
    config, hard = dl_config(**options), {"mask": "hard"}
    assert dl("cost").forward_macs(config, cifar10, hard) == macs
    assert dl("cost").realised(config, cifar10, hard)["mac_ratio"] == pytest.approx(
        of_plain, abs=5e-4
    )


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"embed_dim": 192, "num_heads": 6}, 2_690_122),
        ({"embed_dim": 384, "num_heads": 12, "depth": 8}, 14_235_274),
    ],
)
def test_the_other_sizes(
    dl_card: Any, dl_config: Any, cifar10: DataSpec, options: Any, count: int
) -> None:
    assert parameters(built(dl_card, dl_config(**options), cifar10)) == count
