"""What the command line says of a sweep: values, seeds, overrides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from labctl.errors import UsageError
from labctl.recipe.recipe import Recipe
from labctl.recipe.seeds import MOST_SEEDS

from .axis import Axis, values_of
from .field import field_of, takes_integers
from .sweep import Sweep


def with_values(sweep: Sweep, recipe: Recipe, given: Sequence[str], is_zip: bool) -> Sweep:
    """The sweep with the values of the command line: `0.2:0.25` for its only field, or
    `FIELD=VALUES`, of its own fields or of others.

    Raises:
        UsageError: values that cannot be read, or whose field is not clear, or given twice.
    """
    combine: Literal["grid", "zip"] = "zip" if is_zip else sweep.config.combine
    config = sweep.config.model_copy(update={"combine": combine})
    axes = {axis.field: axis for axis in sweep.axes}
    texts: dict[str, str] = {}
    for text in given:
        name, equals, values = text.rpartition("=")
        if not equals and len(sweep.axes) != 1:
            names = ", ".join(sweep.fields) or "none"
            raise UsageError(
                f"--values {text}: of which field? The sweep has {names}",
                hint=f"--values {(sweep.fields or ('FIELD',))[0]}={text}",
            )
        path = field_of(recipe, name) if equals else sweep.fields[0]
        if path in texts:
            whole = ",".join(one.rpartition("=")[2] for one in (texts[path], text))
            raise UsageError(
                f"--values {texts[path]} and --values {text} are of one field, {path}",
                hint=f"write them as one list: --values {path}={whole}",
            )
        texts[path] = text
        is_integer = takes_integers(recipe, path)
        try:
            parsed = values_of(values, config, is_integer)
        except ValueError as error:
            raise UsageError(f"--values {error}") from None
        axes[path] = Axis(path, parsed, is_integer)
    if not axes:
        raise UsageError(f"sweep {sweep.name} has no axes", hint="--search, or --values FIELD=1,2")
    empty = [axis.field for axis in axes.values() if not axis.values]
    if empty:
        raise UsageError(
            f"which values of {empty[0]}?", hint="--values 0.1:0.5:0.1, or --values 1,2,4"
        )
    refuse_replaced(sweep.fixed, [*axes])
    return replace(sweep, axes=tuple(axes.values()), config=config)


def refuse_replaced(overrides: Sequence[str], varied: Sequence[str]) -> None:
    """Refuse overrides of a field that every point sets itself, and of the seeds.

    Raises:
        UsageError: one of them would count at no point.
    """
    for text in overrides:
        path = text.partition("=")[0].strip()
        if path == "seeds":
            raise UsageError(
                f"{text}: a sweep has its seeds by an option",
                hint="--seeds 5 for 0 to 4; --seeds 3,4",
            )
        for swept in varied:
            if f"{path}.".startswith(f"{swept}."):
                raise UsageError(
                    f"{text} would count at no point: {swept} is what varies",
                    hint="leave it out, or vary another field",
                )


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds of the command line: `5` for 0 to 4, or a list `3,4`.

    Raises:
        UsageError: they cannot be read.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    is_count = len(parts) == 1 and "," not in text and parts[0].isdecimal()
    if is_count and 0 < int(parts[0]) <= MOST_SEEDS:
        return tuple(range(int(parts[0])))
    are_seeds = bool(parts) and all(part.isdecimal() for part in parts)
    if is_count or not are_seeds or len({*parts}) < len(parts):
        raise UsageError(
            f"--seeds {text!r} is no list of seeds", hint="--seeds 5 for 0 to 4; --seeds 3,4"
        )
    return tuple(map(int, parts))
