"""What is shown of a plan, and whose fault it is if that cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from labctl.errors import PluginError, RecipeError
from labctl.plans.derive import plans
from labctl.plans.sketch import realised, sketches

PLUGIN = """
from labctl.api import Architecture, Knob, Schedule, ScheduleCard


class Wave(Schedule):
    height: float = 1.0

    def at(self, step):
        return {at}


cards = (
    Architecture(
        name="sea", build=lambda c, s: None, knobs=lambda c, s: {knobs},
        realised=lambda c, s, standing: {realised},
    ),
    ScheduleCard(name="wave", config=Wave),
)
"""
KNOBS = "(Knob('heat', 1.0), Knob('drop', 0.0, kind='structural', low=0.0, high=0.9))"


def sea(toys: Any, *overrides: str, **parts: str) -> Any:
    """The recipe `toy` with an architecture and a schedule, `parts` of which are as given."""
    folder = toys.root / "plugins" / "sea"
    folder.mkdir(exist_ok=True)
    text = PLUGIN
    for name, code in ({"at": "2.0", "knobs": KNOBS, "realised": "{'alive': 1.0}"} | parts).items():
        text = text.replace("{" + name + "}", code)
    (folder / "__init__.py").write_text(text)
    return toys.load("toy", "model={architecture: sea}", *overrides)


def test_knobs_over_training(toys: Any) -> None:
    recipe = sea(
        toys,
        "schedules.heat={kind: wave}",
        "schedules.drop={kind: step, values: {0%: 0, 50%: 0.5}}",
    )
    plan = plans(recipe)[0]
    shown = {knob.name: knob for knob in sketches(recipe, plan)}
    assert {value for _, value in shown["heat"].values} == {2.0}
    assert shown["drop"].values == ((0, 0), (50, 0.5))
    assert realised(recipe, plan) == [(0, 50, {"alive": 1.0}), (50, 100, {"alive": 1.0})]


@pytest.mark.parametrize(
    ("at", "said"),
    [
        ("1 / 0", "at() of schedules.heat failed: ZeroDivisionError"),
        ("None", "at() of schedules.heat gave None at step"),
    ],
)
def test_a_schedule_of_a_plugin_that_cannot_tell(toys: Any, at: str, said: str) -> None:
    """At a step at which nobody asked when the recipe was read."""
    at = f"{at} if step == 50 else 1.0"
    recipe = sea(toys, "schedules.heat={kind: wave}", at=at)
    with pytest.raises(PluginError) as caught:
        sketches(recipe, plans(recipe)[0])
    assert said in str(caught.value)


def test_an_architecture_that_does_not_give_what_it_should(toys: Any) -> None:
    recipe = sea(toys, realised="5")
    with pytest.raises(PluginError, match=r"realised\(\) of architecture 'sea' gave 5"):
        realised(recipe, plans(recipe)[0])


def test_knobs_that_are_none(toys: Any) -> None:
    with pytest.raises(RecipeError, match=r"knobs\(\) of architecture 'sea' gave None"):
        sea(toys, knobs="None")
