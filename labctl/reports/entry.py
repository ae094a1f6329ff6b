"""An entry of a bundle: found by its name, and read as the run that it was."""

from __future__ import annotations

import json

from pydantic import ValidationError

from labctl.errors import RunError, UsageError, did_you_mean
from labctl.execute.trace import Trace, traced
from labctl.execute.verification import Recorded
from labctl.plans.plan import Plan, settings_of
from labctl.store.address import Address, called, known

from .bundle import Bundle
from .result import Result


def entries(bundle: Bundle, text: str) -> list[Result]:
    """The results that `text` means, see `labctl.store.address.called`.

    Raises:
        UsageError: there is none.
    """
    addresses = {place: _address(result) for place, result in enumerate(bundle.results)}
    found = [bundle.results[place] for place in called(text, addresses)]
    if found:
        return found
    hint = did_you_mean(text, known(addresses))
    raise UsageError(f"no run {text!r}", where=bundle.name, hint=hint)


def name_of(result: Result) -> str:
    """What people call the run, see `labctl.plans.plan.Plan.name`."""
    return " ".join([result.label, *settings_of(result.point), f"seed={result.seed}"])


def _address(result: Result) -> Address:
    return Address(
        result.recipe, result.label, result.seed, name_of(result), result.key, result.group
    )


def trace_of(result: Result) -> Trace:
    """The numbers of a run that its result keeps."""
    curves = {**result.training, **result.evaluations}
    points = {
        name: dict(zip(curve.steps, curve.values, strict=True)) for name, curve in curves.items()
    }
    return traced(result.first_losses, points)


def recorded_of(result: Result, where: str) -> Recorded:
    """What a bundle has to verify a run by; `where` is the bundle.

    Raises:
        RunError: its plan is of another labctl.
    """
    try:
        plan = Plan.model_validate_json(json.dumps(result.plan))
    except ValidationError as error:
        version = result.provenance.labctl
        raise RunError(
            f"the plan of {name_of(result)} cannot be read ({error.error_count()} problems): it is "
            "of another labctl",
            where=where,
            hint=f"install labctl {version}" if version else "use the labctl that published it",
        ) from None
    conditions = result.conditions[0].model_dump() if result.conditions else {}
    versions = {**result.provenance.packages, "labctl": result.provenance.labctl}
    return Recorded(plan, trace_of(result), conditions, versions, None, result.provenance.commit)
