"""What a stored plan says of a schedule, made into one again. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping

from labctl.recipe.schedule import Schedule
from labctl.registry.card import ScheduleCard
from labctl.registry.registry import Registry


def schedule_of(registry: Registry, block: Mapping[str, object]) -> Schedule:
    """The schedule of a block of `Work.schedules`, all its times in steps.

    Raises:
        PluginError: nobody has a schedule of its kind.
        ValidationError: the kind takes other fields.
    """
    options = {key: value for key, value in block.items() if key != "kind"}
    card, _ = registry.find(ScheduleCard, str(block["kind"]))
    schedule = card.config.model_validate_json(json.dumps(options))
    assert isinstance(schedule, Schedule)
    return schedule
