"""How to search for the best values of some fields, as the author of a sweep writes it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from labctl.errors import UsageError
from labctl.plans.key import digest_of
from labctl.recipe.looks import is_evaluated
from labctl.recipe.metrics import is_validated, never_found
from labctl.recipe.recipe import Recipe
from labctl.registry.config import Config

from .field import field_of, one_field, takes_integers
from .objective import FLOPS, Goal, Objective, requires_validation
from .pruning import Pruner, as_pruner
from .space import Choices, Part, Range


class SearchConfig(Config):
    """The block `search:` of a sweep."""

    sampler: Literal["tpe", "gp", "random", "cmaes"] = "tpe"
    """Who proposes points: a tree-structured Parzen estimator (Bergstra et al. 2011), a Gaussian
    process, chance, or the CMA evolution strategy (Hansen 2016)."""
    trials: int = Field(gt=0)
    """How many there shall be in all, those of earlier searches included."""
    sampler_seed: int = Field(default=0, ge=0)
    """Of the proposals; the seeds of the runs are the recipe's."""
    objectives: tuple[Objective, ...] = Field(min_length=1)
    """One, or several that are weighed against one another."""
    space: dict[str, Part] = Field(min_length=1)
    """What may be proposed, by field: `{low: 1e-4, high: 1e-2, log: true}` or `{choices: [..]}`."""
    pruner: Annotated[Pruner | None, BeforeValidator(as_pruner)] = None
    """Whether trials that fall behind are given up: `none`, `median`, `hyperband`. With several
    seeds the first decides, and the others begin when it is done."""
    allow_test_selection: bool = False
    """Choose by `test/*` all the same."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        metrics = [one.metric for one in self.objectives]
        if len(set(metrics)) < len(metrics):
            raise ValueError("an objective is there twice")
        looked_at = [*metrics, *([self.curve[0]] if self.pruner else [])]
        for metric in looked_at:
            if not self.allow_test_selection and (error := requires_validation(metric)):
                raise error
        if len(metrics) > 1 and self.sampler == "cmaes":
            raise ValueError("cmaes takes one objective; for several use sampler: tpe, gp, random")
        if len(metrics) > 1 and self.pruner is not None:
            raise ValueError(
                "with several objectives no trial can be called hopeless early; "
                "write pruner: none, or keep one objective"
            )
        if self.pruner and self.curve[0] == FLOPS:
            raise ValueError(f"{FLOPS} is no curve; give the pruner a metric, such as val/acc")
        if self.sampler == "cmaes":
            if any(isinstance(part, Choices) for part in self.space.values()):
                raise ValueError("cmaes turns numbers only; for choices use sampler: tpe")
            if len(self.space) < 2:
                raise ValueError("cmaes needs two fields or more; for one use sampler: tpe")
        return self

    @property
    def curve(self) -> tuple[str, Goal]:
        """The metric that the pruner looks at, and its goal."""
        first = self.objectives[0]
        pruner = self.pruner
        if pruner is None:
            return first.metric, first.goal
        return pruner.metric or first.metric, pruner.goal or first.goal

    def fitted(self, recipe: Recipe) -> SearchConfig:
        """The search with whole names of fields: `schedules.beta` for `beta`.

        Raises:
            UsageError: a field that the recipe does not have or that is there twice, a validation
                part that it does not carve, or a metric that no evaluation finds.
        """
        metrics = {*(one.metric for one in self.objectives), self.curve[0]}
        has_val = is_validated(recipe.document, recipe.spec)
        wanting = sorted(metric for metric in metrics if metric.startswith("val/"))
        if wanting and not has_val:
            raise UsageError(
                f"{recipe.label} carves no validation part, so no run records {wanting[0]}",
                hint="set data.val in the recipe, for example data.val=5000",
            )
        for metric in sorted(filter(is_evaluated, metrics)):
            if fault := never_found(recipe.document, metric):
                raise UsageError(f"search: {fault.message}", hint=fault.hint)
        names: dict[str, str] = {}
        for name in self.space:
            path = field_of(recipe, name)
            if path in names:
                raise one_field(names[path], name, path)
            names[path] = name
        space = {path: _whole(recipe, path, self.space[name]) for path, name in names.items()}
        return self.model_copy(update={"space": space})

    @property
    def about(self) -> str:
        """Digest of what is asked; who proposes, and how many, may change within one study."""
        return digest_of(self.model_dump(mode="json", include={"objectives", "space"}))


def _whole(recipe: Recipe, path: str, part: Part) -> Part:
    """A range over whole numbers, if the field takes no others.

    Raises:
        UsageError: the range does not begin, step or end at whole numbers.
    """
    if not isinstance(part, Range) or part.integer or not takes_integers(recipe, path):
        return part
    named = {"low": part.low, "high": part.high, "step": part.step or 1.0}
    if odd := next((f"{name} {value:g}" for name, value in named.items() if value % 1), None):
        raise UsageError(f"{path} takes whole numbers, not {odd}", hint="write whole numbers")
    return part.model_copy(update={"integer": True})
