"""Mixtures of images and targets: pixel by pixel, against torchvision, and through a loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2

from labctl.api import Batch, Knobs, Objective, Output
from labctl.builtin import CrossEntropyConfig
from labctl.data.draws import Draws
from labctl.data.mixture import Mixture, mixed
from labctl.errors import RecipeError
from labctl.recipe.augment import Mix
from labctl.registry.card import DataSpec
from labctl.train.learner import accuracy
from labctl.train.losses import cross_entropy

SIZE = (9, 14)
MANY = 4000


def drawn(count: int, seed: int = 0, **fields: Any) -> Mixture:
    return Mixture.drawn(Draws.alone(count, seeded(seed)), SIZE, Mix(**fields))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(count: int) -> Tensor:
    return torch.randn(count, 3, *SIZE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("fields", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}])
def test_every_pixel_and_target_is_what_was_decided(fields: dict[str, float]) -> None:
    mixture, before = drawn(40, probability=0.7, **fields), images(40)
    after = mixed(before, mixture)
    areas = []
    for i in range(40):
        other = before[(i - 1) % 40]
        top, bottom, left, right = mixture.window[i].tolist()
        expected = mixture.blend[i] * before[i] + (1 - mixture.blend[i]) * other
        expected[:, top:bottom, left:right] = other[:, top:bottom, left:right]
        torch.testing.assert_close(after[i], expected)
        areas.append((bottom - top) * (right - left) / (SIZE[0] * SIZE[1]))
        own = mixture.blend[i].item() * (1 - areas[i])
        assert mixture.share[i].item() == pytest.approx(own, abs=1e-6)
    assert any(areas) == ("cutmix" in fields)
    untouched = [i for i in range(40) if mixture.share[i] == 1]
    assert 3 < len(untouched) < 25
    assert all(torch.equal(after[i], before[i]) for i in untouched)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_shares_of_mixup_are_beta_distributed(alpha: float) -> None:
    shares = drawn(MANY, mixup=alpha).share.double().numpy()
    assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_windows_are_distributed_as_torchvisions() -> None:
    """Whose draws are of a batch at a time; of a batch it takes the sample before, too."""
    theirs = v2.CutMix(alpha=1.0, num_classes=10)
    torch.manual_seed(0)
    labels = torch.zeros(1, dtype=torch.int64)
    found = [theirs.make_params([torch.zeros(1, 3, *SIZE)]) for _ in range(MANY)]
    boxes = torch.tensor([[y1, y2, x1, x2] for x1, y1, x2, y2 in (f["box"] for f in found)])
    mixture = drawn(MANY, cutmix=1.0)
    ours = mixture.window
    for of in (lambda b: (b[:, 1] - b[:, 0]) * (b[:, 3] - b[:, 2]), lambda b: b[:, 0] + b[:, 1],
               lambda b: b[:, 2] + b[:, 3]):  # fmt: skip
        assert stats.ks_2samp(of(ours).numpy(), of(boxes).numpy()).pvalue > 1e-3
    shares = torch.tensor([f["lam_adjusted"] for f in found])
    assert mixture.share.mean().item() == pytest.approx(shares.mean().item(), abs=0.02)

    one = drawn(1, cutmix=1.0).window[0].tolist()
    top, bottom, left, right = one
    batch = images(6)
    params = {"box": (left, top, right, bottom), "lam_adjusted": 1.0, "labels": labels,
              "batch_size": 6}  # fmt: skip
    window = torch.tensor([one] * 6)
    same = Mixture((torch.arange(6) - 1) % 6, torch.ones(6), torch.ones(6), window)
    assert torch.equal(theirs.transform(batch, params), mixed(batch, same))


def test_both_kinds_take_their_shares() -> None:
    mixture = drawn(MANY, mixup=0.5, cutmix=0.5, switch=0.3, probability=0.8)
    is_cut = mixture.window.any(1)
    is_blend = mixture.blend < 1
    assert not (is_cut & is_blend).any()
    assert is_blend.float().mean().item() == pytest.approx(0.56, abs=0.03)
    # Some windows of CutMix are empty.
    assert 0.15 < is_cut.float().mean().item() < 0.26


def test_partners_of_batches_drawn_together_stay_within_theirs() -> None:
    parts = [drawn(count, seed, mixup=1.0, cutmix=1.0) for seed, count in enumerate((5, 3))]
    draws = Draws((5, 3), (seeded(0), seeded(1)))
    whole, pixels = Mixture.drawn(draws, SIZE, Mix(mixup=1.0, cutmix=1.0)), images(8)
    assert whole.partner.tolist() == [4, 0, 1, 2, 3, 7, 5, 6]
    alone = torch.cat([mixed(pixels[:5], parts[0]), mixed(pixels[5:], parts[1])])
    assert torch.equal(mixed(pixels, whole), alone)


def term(smoothing: float) -> Callable[[Output, Batch, Knobs], Tensor]:
    spec = DataSpec("five", "1", "image", (1, 4, 4), 5, {"train": 7})
    return cross_entropy(CrossEntropyConfig(smoothing=smoothing), spec)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_that_of_mixed_targets(smoothing: float) -> None:
    draws = torch.Generator().manual_seed(2)
    logits = torch.randn(7, 5, generator=draws)
    own, other = (torch.randint(5, (7,), generator=draws) for _ in range(2))
    share = torch.rand(7, generator=draws)
    batch = Batch(images(7), own, torch.arange(7), other_targets=other, share=share)
    loss = term(smoothing)(Output(logits), batch, {})
    soft = share[:, None] * F.one_hot(own, 5) + (1 - share[:, None]) * F.one_hot(other, 5)
    expected = F.cross_entropy(logits, soft, label_smoothing=smoothing)
    torch.testing.assert_close(loss, expected)
    right, count = accuracy(logits, batch)["acc"]
    found = soft[torch.arange(7), logits.argmax(1)]
    torch.testing.assert_close(right, found.sum())
    assert count == 7
    plain = replace(batch, other_targets=None, share=None)
    whole = replace(batch, share=torch.ones(7))
    one, same = (
        Objective({"x": term(smoothing)}).of(Output(logits), b, {}) for b in (plain, whole)
    )
    torch.testing.assert_close(one[0], same[0])
    assert one[1]["acc"][0] == same[1]["acc"][0]


@pytest.mark.slow
def test_a_mixture_can_be_trained_on_and_says_so_in_the_loss(lab: Any) -> None:
    """With lots of it training cannot be certain; what is evaluated is never mixed."""
    options = ("seeds=1", "budget=4ep", "schedules.token_drop=0", "schedules.lr=3e-3")
    (plain,) = lab.train_here("tiny", *options)
    (blended,) = lab.train_here("tiny", *options, "data.augment.mix={mixup: 2.0, cutmix: 1.0}")
    ours, theirs = (run.journal.curves["train/loss"] for run in (plain, blended))
    assert theirs[max(theirs)] > ours[max(ours)] + 0.3
    assert blended.journal.curves["test/acc"].keys() == plain.journal.curves["test/acc"].keys()
    assert blended.plan.key != plain.plan.key


@pytest.mark.parametrize(
    "mix",
    ["{mixup: 0.2}", "{mixup: 0.2, cutmix: 0.0}", "{cutmix: 1.0}", "{mixup: 0.8, cutmix: 1.0}"],
)
def test_a_stored_plan_is_read_as_it_was_planned(lab: Any, mix: str) -> None:
    plan = lab.jobs("tiny", f"data.augment.mix={mix}")[0].plan
    assert type(plan).model_validate_json(plan.model_dump_json()) == plan


def test_a_learner_that_reads_one_target_is_refused_it(lab: Any) -> None:
    with pytest.raises(RecipeError, match="learner eqprop does not take targets that are mixed"):
        lab.jobs("tiny", "data.augment.mix={mixup: 0.2}", "learner={kind: eqprop}")
    with pytest.raises(RecipeError, match="mixup and cutmix are both 0"):
        lab.jobs("tiny", "data.augment.mix={probability: 0.5}")
    with pytest.raises(RecipeError, match="switch is for mixup and cutmix together"):
        lab.jobs("tiny", "data.augment.mix={mixup: 0.5, switch: 0.5}")
