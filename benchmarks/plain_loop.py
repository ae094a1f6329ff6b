"""The training of a recipe as a plain PyTorch loop: eager, data on the device, no loader.

Augmentation is torchvision.transforms.v2 on the device. `batched`: one draw serves the whole batch,
which costs less than what the recipe asks for. `per-sample`: each image draws its own, as the
recipe asks, at the price of launching everything once per image.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from subject import Subject, arguments, logits_of, report, timed
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms import v2

from labctl.errors import LabctlError

Transform = Callable[[Tensor], Tensor]


def transform_of(subject: Subject) -> Transform:
    """Of uint8 (..., C, H, W), as the recipe's `data.augment` says."""
    augment, spec = subject.plan.work.data.augment, subject.assembly.spec
    policies: dict[str, Callable[[], nn.Module]] = {
        "none": v2.Identity,
        "autoaugment_cifar10": lambda: v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10),
        "randaugment": lambda: v2.RandAugment(augment.operations, augment.magnitude),
        "trivialaugment_wide": v2.TrivialAugmentWide,
    }
    parts: list[nn.Module] = []
    if augment.crop:
        parts.append(v2.RandomCrop(spec.shape[1:], padding=augment.crop))
    if augment.flip:
        parts.append(v2.RandomHorizontalFlip())
    parts += [
        policies[augment.policy](),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(spec.mean, spec.std),
    ]
    if (erase := augment.erase) is not None:
        parts.append(v2.RandomErasing(erase.probability, erase.area, erase.aspect))
    whole: Transform = v2.Compose(parts)
    return whole


def batches(subject: Subject, *, per_sample: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs and targets, epoch after epoch, each in an order of its own."""
    images = subject.train_images(subject.device)
    transform, size = transform_of(subject), subject.plan.work.batch_size
    while True:
        order = torch.randperm(len(images), device=subject.device)
        for index in order.split(size)[: len(images) // size]:
            pixels, labels = images.pixels[index], images.labels[index]
            if per_sample:
                yield torch.stack([transform(image) for image in pixels]), labels
            else:
                yield transform(pixels), labels


def step_of(subject: Subject, *, per_sample: bool) -> Callable[[], None]:
    """One step of training, batch included."""
    work, model = subject.plan.work, subject.model()
    parameters = list(model.parameters())
    config = work.optimizer.config
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim >= 2]},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(
        groups,
        lr=subject.lr,
        betas=tuple(config["betas"]),
        eps=config["eps"],
        weight_decay=work.optimizer.weight_decay,
    )
    source = batches(subject, per_sample=per_sample)

    def step() -> None:
        inputs, targets = next(source)
        with subject.arithmetic.autocast():
            logits = logits_of(model(inputs.to(subject.arithmetic.dtype), subject.knobs))
            loss = functional.cross_entropy(logits, targets, label_smoothing=subject.smoothing)
        loss.backward()
        if work.optimizer.clip_norm is not None:
            nn.utils.clip_grad_norm_(parameters, work.optimizer.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def main() -> int:
    """Time the loop and print what was found."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--augment", choices=("batched", "per-sample"), default="batched")
    asked = parser.parse_args()
    try:
        subject = Subject.of(asked)
        with subject.arithmetic.active():
            step = step_of(subject, per_sample=asked.augment == "per-sample")
            found = timed(step, asked.steps, subject.plan.work.batch_size, subject.device)
    except LabctlError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    report("plain", subject, found, augment=asked.augment)
    return 0


if __name__ == "__main__":
    sys.exit(main())
