"""What a recipe may say about augmentation; carried out in `labctl.data.augment`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from labctl.registry.config import Config


class Erase(Config):
    """Random erasing (Zhong et al. 2017): a rectangle set to zero, the mean, after scaling."""

    probability: float = Field(default=0.25, gt=0, le=1)
    area: tuple[float, float] = (0.02, 0.33)
    """Smallest and largest share of the image."""
    aspect: tuple[float, float] = (0.3, 3.3)
    """Smallest and largest height over width, drawn in log space."""

    @model_validator(mode="after")
    def _check_ranges(self) -> Self:
        for name, (low, high), most in (("area", self.area, 1.0), ("aspect", self.aspect, 1e3)):
            if not 0 < low <= high <= most:
                raise ValueError(
                    f"{name} [{low:g}, {high:g}] should be a smallest and a largest, "
                    f"above 0 and at most {most:g}"
                )
        return self


class Augment(Config):
    """Per-sample augmentation of training images: crop, flip, policy, scaling, erase."""

    crop: int = Field(default=0, ge=0)
    """Pixels of zero padding on each side before a random crop to the original size."""
    flip: bool = False
    """Left-right flips with probability 1/2."""
    policy: Literal["none", "autoaugment_cifar10"] = "none"
    """AutoAugment's CIFAR-10 policy (Cubuk et al. 2018): 25 pairs of operations, nearest
    neighbour."""
    erase: Erase | None = None
    """Random erasing; none if not given."""
