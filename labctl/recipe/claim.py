"""What an author expects of results: the kinds of claims, and how a recipe writes them.

What a claim names can be asked of it (`metrics`, `recipes`), so that one place checks that there is
such a thing; `labctl.reports` weighs claims against results.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from labctl.registry.config import Config

from .derived import DERIVED, is_accuracy
from .source import Steps


class Sourced(Config):
    """What every claim has."""

    data: str | None = None
    """Data set that the claim is about; the recipe's own if not given."""
    source: str = ""
    """Who claims it, and where."""
    known: Literal["refuted"] | None = None
    """`refuted`: the claim is known to be false."""

    @property
    def metrics(self) -> Mapping[Steps, str]:
        """Every metric that the claim names, by its place in the claim."""
        return {}

    @property
    def recipes(self) -> Mapping[Steps, str]:
        """Every recipe that the claim names, by its place in the claim."""
        return {}


class ReferenceClaim(Sourced):
    """A published value: shown beside ours with the difference, not judged."""

    reference: str
    """Metric, such as `test/acc`."""
    value: float
    """In the metric's unit; accuracies in percent."""

    @model_validator(mode="after")
    def _check_unit(self) -> Self:
        _check_percent(self.reference, self.value)
        return self

    @property
    def metrics(self) -> Mapping[Steps, str]:
        return {("reference",): self.reference}


class BoundedClaim(Sourced):
    """A claim that something keeps a bound."""

    at_least: float | None = None
    """In the metric's unit; accuracies in percent, their differences in points."""
    at_most: float | None = None

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        low, high = self.at_least, self.at_most
        if low is None and high is None:
            raise ValueError("claims nothing; give it at_least, at_most or both")
        if low is not None and high is not None and low > high:
            raise ValueError(f"nothing is at least {low:g} and at most {high:g}")
        return self


class DifferenceClaim(BoundedClaim):
    """A bound on a metric minus the same metric of another recipe, paired by seed."""

    difference: str
    """Metric, such as `test/acc`."""
    to: str
    """The other recipe."""

    @model_validator(mode="after")
    def _check_points(self) -> Self:
        for bound in (self.at_least, self.at_most):
            _check_points(self.difference, bound or 0.0)
        return self

    @property
    def metrics(self) -> Mapping[Steps, str]:
        return {("difference",): self.difference}

    @property
    def recipes(self) -> Mapping[Steps, str]:
        return {("to",): self.to}


class RatioClaim(BoundedClaim):
    """A bound on another recipe's metric over this one's: a speed-up, for a time."""

    ratio: str
    """Metric, such as `time`."""
    to: str
    """The other recipe."""

    @property
    def metrics(self) -> Mapping[Steps, str]:
        return {("ratio",): self.ratio}

    @property
    def recipes(self) -> Mapping[Steps, str]:
        return {("to",): self.to}


class ValueClaim(BoundedClaim):
    """A bound on the mean of a metric over seeds."""

    value: str
    """Metric, such as `test/acc`."""

    @model_validator(mode="after")
    def _check_unit(self) -> Self:
        if self.at_least is not None:
            _check_percent(self.value, self.at_least)
        if self.at_most is not None:  # an accuracy may well be claimed to be next to nothing
            _check_most(self.value, self.at_most)
        return self

    @property
    def metrics(self) -> Mapping[Steps, str]:
        return {("value",): self.value}


class MarginClaim(Sourced):
    """A claim that something lies within a margin, to either side."""

    within: float = Field(gt=0)
    """The margin, in the metric's unit; accuracies in points."""

    @model_validator(mode="before")
    @classmethod
    def _check_kind(cls, given: Any) -> Any:
        if bounds := {"at_least", "at_most"} & set(given if isinstance(given, dict) else ()):
            margin = "near and within" if "near" in given else "within"
            raise ValueError(
                f"{margin} and {' and '.join(sorted(bounds))} exclude one another: "
                "a margin to both sides, or bounds"
            )
        return given


class EquivalenceClaim(MarginClaim):
    """A metric and the same metric of another recipe are equal, but for a margin."""

    difference: str
    """Metric, such as `test/acc`."""
    to: str
    """The other recipe."""

    @model_validator(mode="after")
    def _check_points(self) -> Self:
        _check_points(self.difference, self.within)
        return self

    @property
    def metrics(self) -> Mapping[Steps, str]:
        return {("difference",): self.difference}

    @property
    def recipes(self) -> Mapping[Steps, str]:
        return {("to",): self.to}


class NearClaim(MarginClaim):
    """The mean of a metric over seeds is some value, but for a margin."""

    value: str
    """Metric, such as `test/acc`."""
    near: float
    """In the metric's unit; accuracies in percent."""

    @model_validator(mode="after")
    def _check_unit(self) -> Self:
        _check_percent(self.value, self.near)
        _check_points(self.value, self.within)
        return self

    @property
    def metrics(self) -> Mapping[Steps, str]:
        return {("value",): self.value}


class OrderingClaim(Sourced):
    """Recipes from the best to the worst: each better than the next, paired by seed."""

    ordering: str
    """Metric, such as `test/acc`."""
    of: tuple[str, ...] = Field(min_length=2)
    """Recipes, the best first."""
    better: Literal["higher", "lower"] | None = None
    """Which value is better, where the metric's name does not tell."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if twice := sorted({name for name in self.of if self.of.count(name) > 1}):
            raise ValueError(f"{twice[0]} cannot be better than itself; name each recipe once")
        if self.better is None and better(self.ordering) is None:
            raise ValueError(
                f"is a higher {self.ordering} better, or a lower one? add `better: higher` or "
                "`better: lower`"
            )
        return self

    @property
    def is_higher_better(self) -> bool:
        return (self.better or better(self.ordering)) == "higher"

    @property
    def metrics(self) -> Mapping[Steps, str]:
        return {("ordering",): self.ordering}

    @property
    def recipes(self) -> Mapping[Steps, str]:
        return {("of", place): name for place, name in enumerate(self.of)}


def better(metric: str) -> str | None:
    """`higher` or `lower`: which values of a metric are the better ones; None if it is not said."""
    if is_accuracy(metric):
        return "higher"
    return "lower" if metric in DERIVED or metric.endswith("loss") else None


def _check_percent(metric: str, value: float) -> None:
    """Journals and stop rules have accuracies as fractions; a claim of 0.97 would mean 0.97 %.

    Raises:
        ValueError: an accuracy looks like a fraction.
    """
    if is_accuracy(metric) and 0 < value < 1:
        raise ValueError(f"claims have accuracies in percent; {value:g} is less than one percent")
    _check_most(metric, value)


def _check_points(metric: str, value: float) -> None:
    """Two accuracies are a hundred points apart at most.

    Raises:
        ValueError: a bound that nothing can reach, or miss.
    """
    if is_accuracy(metric) and abs(value) > 100:
        raise ValueError(f"accuracies differ by 100 points at most: {value:g}")


def _check_most(metric: str, value: float) -> None:
    if is_accuracy(metric) and value > 100:
        raise ValueError(f"claims have accuracies in percent; none is {value:g} %")


class MonotoneClaim(Sourced):
    """Metrics of one recipe that rise, or fall, from each to the next."""

    monotone: tuple[str, ...] = Field(min_length=2)
    """Metrics in order, such as `[relaxation_depth/t0/acc, relaxation_depth/t1/acc]`."""
    direction: Literal["rising", "falling"]

    @model_validator(mode="after")
    def _check_metrics(self) -> Self:
        if twice := sorted({name for name in self.monotone if self.monotone.count(name) > 1}):
            raise ValueError(f"{twice[0]} cannot lie above itself; name each metric once")
        if len({is_accuracy(name) for name in self.monotone}) > 1:
            raise ValueError("accuracies do not rise to what is none; name metrics of one unit")
        return self

    @property
    def metrics(self) -> Mapping[Steps, str]:
        return {("monotone", place): name for place, name in enumerate(self.monotone)}


class BandsClaim(Sourced):
    """Each of several metrics lies in a band of its own."""

    bands: dict[str, tuple[float, float]] = Field(min_length=1)
    """Lowest and highest mean by metric, in its unit; accuracies in percent."""

    @model_validator(mode="after")
    def _check_bands(self) -> Self:
        for metric, (low, high) in self.bands.items():
            if low > high:
                raise ValueError(f"no {metric} lies in [{low:g}, {high:g}]; the lower end is first")
            _check_percent(metric, high)
        return self

    @property
    def metrics(self) -> Mapping[Steps, str]:
        return {("bands", name): name for name in self.bands}


AnyClaim = (
    ReferenceClaim
    | DifferenceClaim
    | EquivalenceClaim
    | RatioClaim
    | ValueClaim
    | NearClaim
    | OrderingClaim
    | MonotoneClaim
    | BandsClaim
)
KINDS = ("reference", "difference", "ratio", "value", "ordering", "monotone", "bands")
"""Fields by which a claim says what it is; the first of these that it has."""


# In brackets, so that no tag of a union is taken for the field of that name in an error's place.
def _kind_of(claim: Any) -> str | None:
    if not isinstance(claim, dict):
        return f"<{type(claim).__name__.removesuffix('Claim').lower()}>"
    kind = next((kind for kind in KINDS if kind in claim), None)
    if kind == "difference" and "within" in claim:
        kind = "equivalence"
    if kind == "value" and ("near" in claim or "within" in claim):
        kind = "near"
    return kind and f"<{kind}>"


Claim = Annotated[
    Annotated[ReferenceClaim, Tag("<reference>")]
    | Annotated[DifferenceClaim, Tag("<difference>")]
    | Annotated[EquivalenceClaim, Tag("<equivalence>")]
    | Annotated[RatioClaim, Tag("<ratio>")]
    | Annotated[ValueClaim, Tag("<value>")]
    | Annotated[NearClaim, Tag("<near>")]
    | Annotated[OrderingClaim, Tag("<ordering>")]
    | Annotated[MonotoneClaim, Tag("<monotone>")]
    | Annotated[BandsClaim, Tag("<bands>")],
    Discriminator(
        _kind_of,
        custom_error_type="claim_kind",
        custom_error_message=f"a claim has one of the fields {', '.join(KINDS)}",
    ),
]
