"""What a learner can train, as its plugin says beside its code.

A file of its own, for the key of a run holds a digest of the plugin's code: to say that a learner
does not fit a model shall not make anything be trained again.
"""

from __future__ import annotations

from pathlib import Path

from labctl.errors import PluginError, RecipeError, did_you_mean
from labctl.registry.card import LearnerCard
from labctl.registry.config import Config
from labctl.registry.registry import Loaded

from .check import Check
from .document import Precision
from .source import read

FILE = "learners.yaml"


class Reach(Config):
    """What a learner can train; what a field leaves empty is not limited."""

    architectures: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()
    """Terms that the objective may have."""
    precisions: tuple[Precision, ...] = ()


def reach_of(plugin: Loaded, learner: str) -> Reach:
    """What a learner of `plugin` can train: everything, if the plugin does not say.

    Raises:
        PluginError: what it says cannot be read, or is about a learner that it does not bring.
    """
    path = plugin.plugin.folder / FILE
    return _reaches(plugin, path).get(learner, Reach()) if path.is_file() else Reach()


def _reaches(plugin: Loaded, path: Path) -> dict[str, Reach]:
    try:
        check = Check(read(path, str(path)), FILE)
    except RecipeError as error:
        raise PluginError(str(error)) from None
    brought = [card.name for card in plugin.cards if isinstance(card, LearnerCard)]
    found = {}
    for name, said in check.tree.children.items():
        if name not in brought:
            message = f"plugin {plugin.plugin.name} brings no learner {name!r}"
            check.report((name,), message, did_you_mean(name, brought))
        elif reach := check.model(Reach, said.plain(), (name,)):
            found[name] = reach
    if check.problems:
        raise PluginError("\n".join(map(str, check.in_order)))
    return found
