"""What a recipe may say about augmentation; carried out in `labctl.data.augment`."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

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


class Mix(Config):
    """Images of a batch mixed in pairs, and their targets with them; after all other augmentation.

    mixup (Zhang et al. 2018) blends them, CutMix (Yun et al. 2019) puts a rectangle of one into the
    other.
    """

    mixup: float = Field(default=0.0, ge=0)
    """alpha of the Beta distribution that shares are drawn from; 0 for no mixup."""
    cutmix: float = Field(default=0.0, ge=0)
    """The same of CutMix."""
    probability: float = Field(default=1.0, gt=0, le=1)
    """That a sample is mixed at all."""
    switch: float = Field(default=0.5, ge=0, le=1)
    """Where both are given, the share of samples that CutMix has."""

    @model_validator(mode="after")
    def _check_kinds(self) -> Self:
        if not self.mixup and not self.cutmix:
            raise ValueError("mixup and cutmix are both 0; give one, such as mixup: 0.2")
        if "switch" in self.model_fields_set and not (self.mixup and self.cutmix):
            raise ValueError("switch is for mixup and cutmix together")
        return self

    @model_serializer(mode="wrap")
    def _without_what_says_nothing(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = dump(self)
        if not (self.mixup and self.cutmix):
            del values["switch"]
        return values

    @property
    def share_of_cutmix(self) -> float:
        """Of the samples that are mixed."""
        if self.mixup and self.cutmix:
            return self.switch
        return 1.0 if self.cutmix else 0.0


_RANDAUGMENT = {"operations", "magnitude"}


class Augment(Config):
    """Per-sample augmentation of training images: crop, flip, policy, scaling, erase, mix."""

    crop: int = Field(default=0, ge=0)
    """Pixels of zero padding on each side before a random crop to the original size."""
    flip: bool = False
    """Left-right flips with probability 1/2."""
    policy: Literal["none", "autoaugment_cifar10", "randaugment", "trivialaugment_wide"] = "none"
    """`autoaugment_cifar10` (Cubuk et al. 2018): one of 25 pairs of operations. `randaugment`
    (Cubuk et al. 2019): some operations at one level. `trivialaugment_wide` (Mueller & Hutter
    2021): one operation at any level. As torchvision's, nearest neighbour."""
    operations: int = Field(default=2, ge=1, le=14)
    """Of randaugment: how many a sample gets."""
    magnitude: int = Field(default=9, ge=0, le=30)
    """Of randaugment: their level."""
    erase: Erase | None = None
    """Random erasing; none if not given."""
    mix: Mix | None = Field(default=None, exclude_if=lambda mix: mix is None)
    """mixup and CutMix; none if not given."""

    @model_validator(mode="after")
    def _check_randaugment(self) -> Self:
        if self.policy != "randaugment":
            for name in sorted(_RANDAUGMENT & self.model_fields_set):
                raise ValueError(f"{name} is for policy randaugment, not {self.policy}")
        return self

    @model_serializer(mode="wrap")
    def _without_what_says_nothing(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = dump(self)
        if self.policy == "randaugment":
            return values
        return {name: value for name, value in values.items() if name not in _RANDAUGMENT}
