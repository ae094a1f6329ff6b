"""What plugins say of their learners: recipes that do not fit are refused before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from labctl.errors import RecipeError
from labctl.project import Project
from labctl.recipe.recipe import Recipe, load
from labctl.registry.digest import code_digest
from labctl.registry.registry import Registry

ROOT = Path(__file__).parents[2]

PLUGIN = """
from labctl.api import LearnerCard

cards = (LearnerCard(name="narrow", build=lambda *_: None),)
"""
RECIPE = """\
data: {name: digits}
model: {architecture: ctd_vit}
learner: {kind: narrow}
numerics: {precision: fp64}
batch_size: 32
budget: 1ep
optimizer: {kind: sgd}
loss: {cross_entropy: {}}
schedules: {lr: 0.1}
"""

Narrow = Callable[[str], Recipe]


@pytest.fixture
def narrow(project: Project) -> Narrow:
    """The recipe, of a learner that can train what a text says."""
    folder = project.root / "plugins" / "narrow"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(PLUGIN)
    (project.root / "recipes").mkdir()
    (project.root / "recipes" / "narrow.yaml").write_text(RECIPE)

    def loaded(text: str) -> Recipe:
        (folder / "learners.yaml").write_text(text)
        return load(project, Registry(project.plugins), "narrow")

    return loaded


@pytest.mark.parametrize(
    "text",
    [
        "narrow: {architectures: [other, ctd_vit], losses: [cross_entropy], precisions: [fp64]}",
        "narrow: {}",
    ],
)
def test_what_fits_is_accepted(narrow: Narrow, text: str) -> None:
    assert narrow(text).learner.card.name == "narrow"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "narrow: {architectures: [other, another]}",
            ":3:11: learner narrow cannot train ctd_vit\n"
            "  it is for other, another; name one of them, or another learner",
        ),
        (
            "narrow: {precisions: [fp32, tf32]}",
            ":4:12: learner narrow cannot train in fp64\n  it takes fp32, tf32",
        ),
        (
            "narrow: {losses: [other]}",
            ":8:8: learner narrow cannot descend loss.cross_entropy\n"
            "  it takes other; remove cross_entropy, or name another learner",
        ),
        (
            "arrow: {precisions: [fp32]}",
            "learners.yaml:1:1: plugin narrow brings no learner 'arrow'\n"
            "  did you mean 'narrow'?  there are: narrow",
        ),
        ("narrow: {precision: [fp32]}", "learners.yaml:1:10: unknown field 'narrow.precision'"),
        ("narrow: {precisions: [fp32", "not YAML: while parsing a flow sequence"),
    ],
)
def test_what_does_not_is_refused_with_its_place(narrow: Narrow, text: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        narrow(text)
    assert said in str(caught.value)


def test_a_file_of_it_is_no_part_of_a_key(narrow: Narrow, project: Project) -> None:
    folder = project.plugins / "narrow"
    before = code_digest(folder)
    narrow("narrow: {}")
    assert code_digest(folder) == before


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("learner.kind=aep",), "learner aep cannot train energy_transformer"),
        (("learner.kind=eqprop_seed",), "learner eqprop_seed cannot train energy_transformer"),
        (("learner.kind=saliency_gradient",), "cannot train energy_transformer"),
        (("numerics.precision=bf16",), "learner eqprop cannot train in bf16"),
    ],
)
def test_bundled_learners_say_what_they_can_train(overrides: tuple[str, ...], said: str) -> None:
    project = Project(ROOT)
    with pytest.raises(RecipeError) as caught:
        load(project, Registry(project.plugins), "eqprop_mnist", None, overrides)
    assert said in str(caught.value)
