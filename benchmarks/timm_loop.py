"""The training of a recipe with the parts that timm's train script puts together.

timm's loader with its workers, transforms, AutoAugment and prefetcher with random erasing; its
optimizer factory, label smoothing, clipping and meters; autocast. timm crops by its random resized
crop where the recipe pads, and has AutoAugment's policy for ImageNet alone. Images of one channel
go through the loader as RGB.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import torch
from subject import Subject, arguments, logits_of, report, timed
from torch import Tensor

from labctl.data.examples import Images
from labctl.errors import EnvironmentProblem, LabctlError

LOG_EVERY = 50
"""Steps between two looks at the loss, which wait for the device; timm's default."""
POLICIES = {
    "none": None,
    "autoaugment_cifar10": "original",
    "trivialaugment_wide": "rand-m9-n1-mstd101",
}


def timm() -> ModuleType:
    """The library, with the parts that are used here.

    Raises:
        EnvironmentProblem: it is not installed.
    """
    try:
        import timm
        import timm.data
        import timm.loss
        import timm.optim
        import timm.utils
    except ModuleNotFoundError as error:
        raise EnvironmentProblem(
            f"this loop is made of timm's parts: {error}", hint="pip install timm"
        ) from None
    library: ModuleType = timm
    return library


class Pictures(torch.utils.data.Dataset[tuple[Any, int]]):
    """Arrays of images as timm's transforms take them: PIL images, RGB."""

    def __init__(self, images: Images) -> None:
        pixels = images.pixels.permute(0, 2, 3, 1)
        self.pixels = pixels.expand(*pixels.shape[:3], 3).contiguous().numpy()
        self.labels = images.labels.tolist()
        self.transform: Callable[[Any], Any] | None = None
        """Set by timm's loader."""

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        from PIL import Image

        picture = Image.fromarray(self.pixels[index])
        return (self.transform(picture) if self.transform else picture), self.labels[index]


def policy_of(subject: Subject) -> str | None:
    """What timm calls the recipe's augmentation, or the nearest that it has."""
    augment = subject.plan.work.data.augment
    if augment.policy == "randaugment":
        return f"rand-m{min(augment.magnitude, 10)}-n{augment.operations}"
    return POLICIES[augment.policy]


def batches(subject: Subject, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs and targets on the device, epoch after epoch."""
    augment, spec = subject.plan.work.data.augment, subject.assembly.spec
    channels, height, width = spec.shape
    loader = timm().data.create_loader(
        Pictures(subject.train_images(torch.device("cpu"))),
        input_size=(3, height, width),
        batch_size=subject.plan.work.batch_size,
        is_training=True,
        re_prob=augment.erase.probability if augment.erase is not None else 0.0,
        scale=(0.8, 1.0) if augment.crop else (1.0, 1.0),
        hflip=0.5 if augment.flip else 0.0,
        color_jitter=None,
        auto_augment=policy_of(subject),
        mean=spec.mean * (3 // channels),
        std=spec.std * (3 // channels),
        num_workers=workers,
        pin_memory=subject.device.type == "cuda",
        device=subject.device,
        persistent_workers=workers > 0,
    )
    while True:
        for inputs, targets in loader:
            yield inputs[:, :channels], targets


def step_of(subject: Subject, workers: int) -> Callable[[], None]:
    """One step of training, batch included."""
    library, optimization = timm(), subject.plan.work.optimizer
    model = subject.model()
    optimizer = library.optim.create_optimizer_v2(
        model, opt="adamw", lr=subject.lr, weight_decay=optimization.weight_decay
    )
    smoothing = subject.smoothing
    loss_of = (
        library.loss.LabelSmoothingCrossEntropy(smoothing=smoothing)
        if smoothing
        else torch.nn.CrossEntropyLoss()
    )
    losses, source = library.utils.AverageMeter(), batches(subject, workers)
    done = 0

    def step() -> None:
        nonlocal done
        inputs, targets = next(source)
        with subject.arithmetic.autocast():
            loss = loss_of(
                logits_of(model(inputs.to(subject.arithmetic.dtype), subject.knobs)), targets
            )
        loss.backward()
        if optimization.clip_norm is not None:
            library.utils.dispatch_clip_grad(
                model.parameters(), value=optimization.clip_norm, mode="norm"
            )
        optimizer.step()
        optimizer.zero_grad()
        done += 1
        if done % LOG_EVERY == 0:
            losses.update(loss.item(), len(targets))

    return step


def main() -> int:
    """Time the loop and print what was found."""
    asked = arguments(__doc__.splitlines()[0]).parse_args()
    try:
        version = timm().__version__
        subject = Subject.of(asked)
        with subject.arithmetic.active():
            step = step_of(subject, asked.workers)
            found = timed(step, asked.steps, subject.plan.work.batch_size, subject.device)
    except LabctlError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    report("timm", subject, found, timm=version, workers=asked.workers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
