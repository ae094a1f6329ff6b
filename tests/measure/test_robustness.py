"""What `robustness` measures, on whose images, and what it says when it cannot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from labctl.builtin import OfficialRobustnessConfig, RobustnessConfig
from labctl.data.batches import Batches
from labctl.data.corruptions.catalogue import CORRUPTIONS
from labctl.data.corruptions.suite import checksum, generated
from labctl.data.examples import Images
from labctl.errors import EnvironmentProblem, LabctlError, RunError
from labctl.measure.corrupted import Corrupted, read_corrupted
from labctl.measure.measurement import MeasureContext
from labctl.measure.robustness import official_robustness, robustness
from labctl.registry.card import DataSpec, Places

COUNT = 20
SPEC = DataSpec(
    "cifar10", "1", "image", (3, 32, 32), 2, {"train": 1, "test": COUNT}, (0.5,) * 3, (0.25,) * 3
)


class Bright(nn.Module):
    """Says 1 of an image whose mean is above the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, inputs: Tensor, knobs: dict[str, Any]) -> Tensor:
        mean = inputs.mean((1, 2, 3)) * self.weight
        return torch.stack([-mean, mean], 1)


@pytest.fixture
def images() -> Images:
    """Dark and bright in turn, some of them barely."""
    draws = torch.Generator().manual_seed(0)
    means = torch.linspace(40, 120, COUNT // 2)
    means = torch.stack([means, 255 - means], 1).flatten()
    noise = torch.randn(COUNT, 3, 32, 32, generator=draws) * 30
    pixels = (means[:, None, None, None] + noise).clamp(0, 255).to(torch.uint8)
    return Images(pixels, torch.arange(COUNT) % 2)


@pytest.fixture
def context(images: Images, tmp_path: Path) -> MeasureContext:
    cpu = torch.device("cpu")
    (tmp_path / "found").mkdir()
    splits = {"test": Batches(images, SPEC, cpu)}
    places = Places((tmp_path / "data",))
    return MeasureContext(
        Bright(), None, SPEC, splits, {}, cpu, tmp_path / "found", seed=7, places=places
    )


def right(pixels: Tensor, labels: Tensor) -> float:
    """Accuracy of `Bright`, by hand."""
    means = ((pixels.double() / 255 - 0.5) / 0.25).mean((1, 2, 3))
    return float(((means > 0).long() == labels).double().mean())


@pytest.mark.slow
def test_every_cell_is_the_accuracy_on_its_images(context: MeasureContext, images: Images) -> None:
    numbers = robustness(RobustnessConfig(), context)
    found = read_corrupted(context.folder)
    of = generated(images.pixels)
    cells = []
    for corruption in CORRUPTIONS:
        for severity in range(1, 6):
            pixels = of(corruption, severity)
            cells.append(right(pixels, images.labels))
            name = f"generated/{corruption.name}/s{severity}/acc"
            assert numbers[name] == pytest.approx(cells[-1])
            assert found.checksums[corruption.name][severity - 1] == checksum(pixels)
    assert len(cells) == 75 and len(set(cells)) > 3
    assert numbers["generated/acc"] == pytest.approx(np.mean(cells))
    assert numbers["generated/clean/acc"] == pytest.approx(right(images.pixels, images.labels))
    assert numbers["generated/s5/acc"] == pytest.approx(np.mean(cells[4::5]))
    assert numbers["generated/snow/acc"] == pytest.approx(np.mean(cells[35:40]))
    assert numbers["generated/drop"] == pytest.approx(
        numbers["generated/clean/acc"] - np.mean(cells)
    )
    assert found.suite == "CIFAR-10-C-labctl v2" and found.seed == 0, "not the run's"
    assert numbers["generated/mce"] == pytest.approx(1 - np.mean(cells))
    assert numbers["generated/worst/acc"] == pytest.approx(np.mean(sorted(cells)[:5]))
    assert (context.folder / "robustness.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_runs_share_what_was_generated(
    context: MeasureContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labctl.data.corruptions.kept.LEAST", 1)
    numbers = robustness(RobustnessConfig(images=4), context)
    found = read_corrupted(context.folder)
    monkeypatch.setattr("labctl.measure.robustness.generated", lambda pixels, seed: None)
    assert robustness(RobustnessConfig(images=4), context) == numbers
    assert read_corrupted(context.folder) == found
    with pytest.raises(TypeError):
        robustness(RobustnessConfig(images=4, seed=1), context)


@pytest.mark.slow
def test_the_model_computes_as_it_was_tested(context: MeasureContext) -> None:
    """The weight times the mean is a product of matrices, and so in bf16 where that is asked."""

    class Seeing(Bright):
        dtypes: set[torch.dtype] = set()

        def forward(self, inputs: Tensor, knobs: dict[str, Any]) -> Tensor:
            mean = inputs.flatten(1) @ torch.ones(3072, 1)
            self.dtypes.add(mean.dtype)
            return torch.cat([-mean, mean], 1)

    def bf16() -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16)

    rounding = replace(context, model=Seeing(), autocast=bf16)
    robustness(RobustnessConfig(images=2), rounding)
    assert Seeing.dtypes == {torch.bfloat16}


def write_files(folder: Path, of: Callable[..., Tensor], labels: Tensor) -> None:
    folder.mkdir(parents=True)
    for corruption in CORRUPTIONS:
        blocks = [of(corruption, severity).permute(0, 2, 3, 1) for severity in range(1, 6)]
        np.save(folder / f"{corruption.name}.npy", torch.cat(blocks).numpy())
    np.save(folder / "labels.npy", labels.repeat(5).numpy().astype(np.uint8))


@pytest.mark.slow
def test_published_files_are_read_block_by_block_and_are_another_suite(
    context: MeasureContext, images: Images
) -> None:
    of = generated(images.pixels, seed=5)
    folder = context.places.roots[0] / "CIFAR-10-C"
    write_files(folder, of, images.labels)
    numbers = official_robustness(OfficialRobustnessConfig(images=12), context)
    found = read_corrupted(context.folder)
    assert found.suite == "CIFAR-10-C" and found.version is None and found.images == 12
    for corruption in CORRUPTIONS:
        pixels = of(corruption, 4)[:12]
        expected = right(pixels, images.labels[:12])
        assert numbers[f"{corruption.name}/s4/acc"] == pytest.approx(expected)
        assert found.checksums[corruption.name][3] == checksum(pixels)
    robustness(RobustnessConfig(), context)
    with pytest.raises(RunError, match="CIFAR-10-C-labctl v2 were measured on different images"):
        found.relative_error(read_corrupted(context.folder))


def test_files_that_are_not_there_or_are_others_are_said(
    context: MeasureContext, images: Images
) -> None:
    asked = OfficialRobustnessConfig()
    with pytest.raises(EnvironmentProblem, match="CIFAR-10-C is not there: looked for") as caught:
        official_robustness(asked, context)
    assert "zenodo.org/records/2535967" in str(caught.value)
    folder = context.places.roots[0] / "CIFAR-10-C"
    write_files(folder, generated(images.pixels), images.labels)
    blocks = images.labels.repeat(5)
    blocks[-1] = 1 - blocks[-1]
    np.save(folder / "labels.npy", blocks.numpy().astype(np.uint8))
    with pytest.raises(EnvironmentProblem, match="other labels than the test set of cifar10"):
        official_robustness(asked, context)
    np.save(folder / "labels.npy", images.labels.repeat(5).numpy())
    with pytest.raises(EnvironmentProblem, match=r"labels.npy holds int64 \(100,\), not uint8"):
        official_robustness(asked, context)
    np.save(folder / "labels.npy", images.labels.repeat(5).numpy().astype(np.uint8))
    (folder / "gaussian_noise.npy").write_bytes(b"no array")
    with pytest.raises(EnvironmentProblem, match=r"gaussian_noise.npy cannot be read"):
        official_robustness(asked, context)


def test_data_that_cannot_be_corrupted_are_said(context: MeasureContext) -> None:
    tokens = replace(context, spec=replace(SPEC, inputs="tokens", shape=(8,)))
    with pytest.raises(LabctlError, match="corrupts images, and cifar10 holds tokens"):
        robustness(RobustnessConfig(), tokens)
    oblong = replace(context, spec=replace(SPEC, shape=(3, 32, 16)))
    with pytest.raises(LabctlError, match="has 3 of 32x16 pixels"):
        robustness(RobustnessConfig(), oblong)
    strange = replace(context, spec=replace(SPEC, name="mnist"))
    with pytest.raises(EnvironmentProblem, match="nobody has published corrupted files of mnist"):
        official_robustness(OfficialRobustnessConfig(), strange)


def test_errors_are_means_and_relative_ones_ratios_of_drops() -> None:
    def of(clean: float, *rows: tuple[float, ...]) -> Corrupted:
        accuracy = {f"c{place}": row for place, row in enumerate(rows)}
        checksums = {name: ("0",) * 5 for name in accuracy}
        return Corrupted(
            data="cifar10", source="generated", version=1, seed=0, images=9, clean=clean,
            accuracy=accuracy, checksums=checksums,
        )  # fmt: skip

    good = of(0.9, (0.9, 0.8, 0.7, 0.6, 0.5), (0.9, 0.9, 0.9, 0.9, 0.8))
    bad = of(0.8, (0.8, 0.7, 0.6, 0.5, 0.4), (0.5, 0.4, 0.3, 0.2, 0.1))
    assert good.mean_accuracy == pytest.approx(0.79) and good.mean_error == pytest.approx(0.21)
    # By the definition: a sum over cells of error less clean error, over the other's.
    ours = sum((1 - value) - (1 - 0.9) for row in good.accuracy.values() for value in row)
    theirs = sum((1 - value) - (1 - 0.8) for row in bad.accuracy.values() for value in row)
    assert good.relative_error(bad) == pytest.approx(ours / theirs)
    assert good.worst(2) == [("c0", 5, 0.5), ("c0", 4, 0.6)]


def test_what_cannot_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be read"):
        read_corrupted(tmp_path)
    (tmp_path / "robustness.json").write_text("{}", encoding="utf-8")
    with pytest.raises(RunError, match="cannot be read"):
        read_corrupted(tmp_path)
