"""All of labctl that a plugin may import.

The card side (`Architecture`, `Knob`, `Config`, ...) imports no torch. The names that a model,
learner or data set needs while it runs are loaded when they are first touched.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from labctl.errors import EnvironmentProblem, LabctlError
from labctl.recipe.schedule import Schedule
from labctl.recipe.times import Time
from labctl.registry.card import (
    Architecture,
    CostCard,
    Dataset,
    DataSpec,
    Empty,
    Knob,
    KnobValue,
    LearnerCard,
    LossTerm,
    MeasurementCard,
    OptimizerCard,
    Places,
    ScheduleCard,
)
from labctl.registry.config import Config

if TYPE_CHECKING:
    from labctl.data.batches import Batches
    from labctl.data.examples import Batch, Examples, Images, Windows
    from labctl.measure.flops import count
    from labctl.measure.formula import register_formula
    from labctl.measure.measurement import MeasureContext
    from labctl.train.learner import (
        Backprop,
        Knobs,
        Learner,
        LearnerParts,
        Looking,
        Metrics,
        Objective,
        Output,
        forward,
    )

_LAZY = {
    "Backprop": "labctl.train.learner",
    "Batch": "labctl.data.examples",
    "Batches": "labctl.data.batches",
    "Examples": "labctl.data.examples",
    "Images": "labctl.data.examples",
    "Windows": "labctl.data.examples",
    "MeasureContext": "labctl.measure.measurement",
    "Knobs": "labctl.train.learner",
    "Learner": "labctl.train.learner",
    "LearnerParts": "labctl.train.learner",
    "Looking": "labctl.train.learner",
    "Metrics": "labctl.train.learner",
    "Objective": "labctl.train.learner",
    "Output": "labctl.train.learner",
    "count": "labctl.measure.flops",
    "forward": "labctl.train.learner",
    "register_formula": "labctl.measure.formula",
}

__all__ = [
    "Architecture",
    "Backprop",
    "Batch",
    "Batches",
    "Config",
    "CostCard",
    "DataSpec",
    "Dataset",
    "Empty",
    "EnvironmentProblem",
    "Examples",
    "Images",
    "Knob",
    "KnobValue",
    "Knobs",
    "LabctlError",
    "Learner",
    "LearnerCard",
    "LearnerParts",
    "Looking",
    "LossTerm",
    "MeasureContext",
    "MeasurementCard",
    "Metrics",
    "Objective",
    "OptimizerCard",
    "Output",
    "Places",
    "Schedule",
    "ScheduleCard",
    "Time",
    "Windows",
    "count",
    "forward",
    "register_formula",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'labctl.api' has no attribute {name!r}")
