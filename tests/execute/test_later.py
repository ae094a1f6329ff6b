"""Measurements of finished runs: taken without training, once, and refused where they make none."""

from __future__ import annotations

import importlib
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from labctl.errors import LabctlError, RecipeError, RunError, UsageError
from labctl.execute.inline import carry_out_inline
from labctl.execute.later import jobs, told_apart
from labctl.store.run import Run
from labctl.store.status import Status

pytestmark = pytest.mark.slow

SHORT = ("seeds=[3]", "budget=2ep", "schedules.token_drop=null")


@pytest.fixture
def trained(lab: Any) -> tuple[Any, Run]:
    (run,) = lab.train_here("tiny", *SHORT)
    return lab, run


def test_words_are_runs_or_measurements(lab: Any) -> None:
    words = [
        "tiny1.5@x/seed=3",
        "attention_maps.images=8",
        "attention_maps.shown=2",
        "saliency_maps",
    ]
    assert told_apart(lab.registry, words) == (
        ["tiny1.5@x/seed=3"],
        {"attention_maps": ["images=8", "shown=2"], "saliency_maps": []},
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["tiny", "atention_maps"], "did you mean 'attention_maps'?"),
        (["attention_maps"], "no run is named"),
        (["tiny", "atention_maps.images=8"], "did you mean 'attention_maps'?"),
    ],
)
def test_words_that_name_too_little_are_refused(lab: Any, words: list[str], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        told_apart(lab.registry, words)
    assert says in str(caught.value)


def test_a_measurement_is_taken_without_training_and_once(trained: tuple[Any, Run]) -> None:
    lab, run = trained
    before = run.journal.curves["train/loss"]
    for _ in range(2):
        work = jobs(lab.project, lab.registry, [run], {"attention_maps": ["images=8"]})
        assert work[0].plan.key == run.plan.key
        carry_out_inline(lab.project, lab.registry, work)
    again = Run(run.folder)
    assert again.status is Status.DONE and again.asked("attention_maps").config["images"] == 8
    assert "attention_entropy_block1" in again.measured("attention_maps")
    assert again.journal.curves["train/loss"] == before
    assert again.journal.attempts == 2, "what was taken is not taken again"
    (again_asked,) = jobs(lab.project, lab.registry, [again], {"saliency_maps": []})
    names = [part.name for part in again_asked.plan.measures]
    assert names == ["attention_maps", "saliency_maps"], "earlier ones stay"


@pytest.mark.parametrize(
    ("fields", "error", "says"),
    [
        (["image=8"], RecipeError, "did you mean 'images'?"),
        (["images=0"], RecipeError, "images should be greater than or equal to 1, not 0"),
        (["images"], LabctlError, "images"),
        (["split=nonsense"], UsageError, "there is no split 'nonsense'"),
        (["split=val"], UsageError, "there is no split 'val'"),
    ],
)
def test_fields_are_checked_before_anything_runs(
    trained: tuple[Any, Run], fields: list[str], error: type[Exception], says: str
) -> None:
    lab, run = trained
    with pytest.raises(error) as caught:
        jobs(lab.project, lab.registry, [run], {"attention_maps": fields})
    assert says in str(caught.value)


def test_another_architecture_is_refused(trained: tuple[Any, Run]) -> None:
    lab, run = trained
    with pytest.raises(RunError, match="was trained with has no measurement relaxation_depth"):
        jobs(lab.project, lab.registry, [run], {"relaxation_depths": []} | {"relaxation_depth": []})


def test_a_measurement_that_the_data_do_not_fit_leaves_the_run_done(
    trained: tuple[Any, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, run = trained
    monkeypatch.setattr("labctl.measure.corrupted.fault", lambda spec: f"{spec.shape} is oblong")
    with pytest.raises(UsageError, match=r"'robustness' cannot be taken .*: \(1, 8, 8\) is oblong"):
        jobs(lab.project, lab.registry, [run], {"robustness": []})
    assert run.status is Status.DONE and run.plan == Run(run.folder).plan


def test_unfinished_runs_and_those_of_others_are_refused(
    trained: tuple[Any, Run], tmp_path: Path
) -> None:
    lab, run = trained
    copy = Run(Path(shutil.copytree(run.folder, tmp_path / "copy")))
    with pytest.raises(RunError, match="lies outside of"):
        jobs(lab.project, lab.registry, [copy], {"attention_maps": []})
    run.end_path.unlink()
    with pytest.raises(RunError, match="is LOST; only a finished run"):
        jobs(lab.project, lab.registry, [run], {"attention_maps": []})


def test_damaged_weights_are_said_and_the_run_stays_done(trained: tuple[Any, Run]) -> None:
    lab, run = trained
    run.weights_path.write_bytes(run.weights_path.read_bytes()[:-100])
    (outcome,) = carry_out_inline(
        lab.project, lab.registry, jobs(lab.project, lab.registry, [run], {"attention_maps": []})
    )
    assert outcome.status is Status.FAILED
    assert "the weights cannot be read: damaged, or cut short" in outcome.message
    assert run.status is Status.DONE


def test_a_figure_that_is_no_number_is_kept_and_the_run_stays_done(
    trained: tuple[Any, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A correlation of what does not vary, say."""
    lab, run = trained
    maps = importlib.import_module("labctl_plugins.ctd_vit.maps")
    monkeypatch.setattr(maps, "attention_maps", lambda config, context: {"r": math.nan, "n": 3.0})
    carry_out_inline(
        lab.project, lab.registry, jobs(lab.project, lab.registry, [run], {"attention_maps": []})
    )
    again = Run(run.folder)
    found = again.measured("attention_maps")
    assert again.status is Status.DONE and found["n"] == 3.0 and math.isnan(found["r"])
    assert math.isnan(again.journal.last["attention_maps/r"])


def test_a_field_is_given_once(trained: tuple[Any, Run]) -> None:
    lab, run = trained
    with pytest.raises(UsageError, match="images is given twice"):
        jobs(lab.project, lab.registry, [run], {"attention_maps": ["images=8", "images=9"]})


def test_the_verb_prints_what_was_found(trained: tuple[Any, Run]) -> None:
    lab, run = trained
    code, output = lab.labctl("measure", run.plan.key, "attention_maps.images=8", "--no-track")
    assert code == 0, output
    value = Run(run.folder).measured("attention_maps")["attention_entropy_block1"]
    assert f"attention_maps/attention_entropy_block1  {value:.6g}" in output
    code, output = lab.labctl("measure", run.plan.key, "attention_maps.images=8", "--no-track")
    assert code == 0 and "1 DONE before" in output and "takes the place" not in output
    code, output = lab.labctl("measure", run.plan.key, "attention_maps.images=4", "--no-track")
    assert code == 0
    assert "attention_maps.images=4 takes the place of what was measured with 8" in output
