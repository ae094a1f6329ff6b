"""The conformance suite: what every plugin must keep to, as tests for pytest."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import pytest

from labctl.errors import Problem
from labctl.project import Project

from . import cards, data, model, training
from .bench import Bench, project_around


def _hold(problems: Iterable[Problem]) -> None:
    """Fail with every problem, each saying what to mend."""
    if found := list(problems):
        pytest.fail("\n".join(map(str, found)), pytrace=False)


class PluginSuite:
    """Derive from it, name a plugin and a recipe that uses it, and run pytest.

        class TestMyVit(PluginSuite):
            plugin = "my_vit"

    The recipe should be small: some steps of it are trained a dozen times. Cards of the plugin that
    the recipe does not name are only read; a class per recipe reaches them all.
    """

    plugin: ClassVar[str]
    """Name of the plugin."""
    recipe: ClassVar[str] = ""
    """A recipe by name or path; of the plugin's name if not given."""
    preset: ClassVar[str | None] = "smoke"
    overrides: ClassVar[tuple[str, ...]] = ()
    """`field=value` as on the command line."""
    project: ClassVar[Path | None] = None
    """Its folder; if not given, the nearest above the test that has `plugins/` or `recipes/`."""
    steps: ClassVar[int] = 3
    """Steps of each leg when runs are stopped, repeated and interleaved."""
    overfit_steps: ClassVar[int] = 30
    """Steps in which a few examples must be learnt a little."""
    unmoved: ClassVar[tuple[str, ...]] = ()
    """Patterns of parameters that training leaves where they are, as `anchor.*`."""
    uncounted: ClassVar[tuple[str, ...]] = ()
    """Operators that do real work and whose FLOPs nobody can count."""

    @pytest.fixture(scope="class")
    @classmethod
    def bench(cls, tmp_path_factory: pytest.TempPathFactory) -> Bench:
        """The plugin in its recipe."""
        project = (
            Project.at(cls.project) if cls.project else project_around(Path(inspect.getfile(cls)))
        )
        folder = tmp_path_factory.mktemp(cls.plugin)
        return Bench(
            cls.plugin, project, folder, cls.recipe or cls.plugin, cls.preset, cls.overrides
        )

    def test_cards_load_without_torch(self, bench: Bench) -> None:
        _hold(cards.heavy_imports(bench))

    def test_only_labctl_api_is_imported(self, bench: Bench) -> None:
        _hold(cards.foreign_imports(bench))

    def test_names_are_legal(self, bench: Bench) -> None:
        _hold(cards.names(bench))

    def test_configs_are_closed_values(self, bench: Bench) -> None:
        _hold(cards.configs(bench))

    def test_knobs_are_sound(self, bench: Bench) -> None:
        _hold(cards.knobs(bench))

    def test_realised_is_finite(self, bench: Bench) -> None:
        _hold(cards.realised(bench))

    def test_schedules_stay_in_bounds(self, bench: Bench) -> None:
        _hold(cards.schedules(bench))

    def test_data_spec_is_sound(self, bench: Bench) -> None:
        _hold(data.spec(bench))

    def test_data_are_as_the_spec_says(self, bench: Bench) -> None:
        _hold(data.splits(bench))

    def test_seed_decides_the_weights(self, bench: Bench) -> None:
        _hold(model.initialisation(bench))

    def test_logits_have_their_shape(self, bench: Bench) -> None:
        _hold(model.logits(bench))

    def test_model_runs_over_the_range_of_its_knobs(self, bench: Bench) -> None:
        _hold(model.knob_range(bench))

    def test_evaluation_treats_each_example_alone(self, bench: Bench) -> None:
        _hold(model.evaluation(bench))

    def test_state_dict_is_all_of_the_model(self, bench: Bench) -> None:
        _hold(model.storage(bench))

    def test_losses_are_means(self, bench: Bench) -> None:
        _hold(model.losses(bench))

    def test_learner_keeps_its_contract(self, bench: Bench) -> None:
        _hold(training.learner(bench))

    def test_training_moves_every_parameter(self, bench: Bench) -> None:
        _hold(training.reach(bench, self.unmoved))

    def test_a_few_examples_can_be_learnt(self, bench: Bench) -> None:
        _hold(training.overfitting(bench, self.overfit_steps))

    def test_a_step_waits_for_nothing(self, bench: Bench) -> None:
        _hold(training.waiting(bench))

    def test_the_process_is_left_alone(self, bench: Bench) -> None:
        _hold(training.manners(bench))

    def test_the_same_seed_gives_the_same_run(self, bench: Bench) -> None:
        _hold(training.repetition(bench, self.steps))

    def test_interleaved_runs_are_the_same_runs(self, bench: Bench) -> None:
        _hold(training.interleaving(bench, self.steps))

    def test_a_stopped_run_goes_on_exactly(self, bench: Bench) -> None:
        _hold(training.resumption(bench, self.steps))

    def test_flops_are_counted(self, bench: Bench) -> None:
        _hold(training.cost(bench, self.uncounted))

    def test_measurements_are_finite(self, bench: Bench) -> None:
        _hold(training.measurements(bench))
