"""What a table says of figures that stand side by side but were not made alike; and imports."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from labctl.plans.plan import MeasurementPart

TABLE = """
rows: [{recipe: base}, {recipe: ctd}]
columns: [{kind: metric, metric: test/acc}, {kind: flops}, {kind: parameters}, {kind: tokens}]
"""


@pytest.fixture
def two(lab: Any) -> Any:
    lab.recipe("base", seeds="[0]")
    lab.recipe("ctd", seeds="[0]", batch_size="32")
    lab.table(TABLE)
    return lab


def mixtures(lab: Any) -> list[str]:
    return [text for text in lab.report().remarks if text.startswith(("mixed", "trained from"))]


def provenance(**changed: Any) -> dict[str, Any]:
    git = {"commit": "aaaaaaaaaaaabbb", "is_dirty": False}
    return {"git": git, "labctl": "0.1.0", "packages": {}, **changed}


def test_rows_made_alike_need_no_remark(two: Any) -> None:
    two.run("base", 0)
    two.run("ctd", 0)
    assert mixtures(two) == []


def test_hardware_and_torch_are_compared(two: Any) -> None:
    cpu = {"device": "cpu", "device_name": "Xeon", "threads": 2, "torch": "2.12.0"}
    two.run("base", 0)
    two.run("ctd", 0, facts=cpu)
    assert mixtures(two) == [
        "mixed hardware: NVIDIA H200, 8 CPU threads (base); Xeon, 2 threads (ctd)",
        "mixed torch versions: 2.11.0 (base); 2.12.0 (ctd)",
    ]


def test_labctl_versions_and_commits_are_compared(two: Any) -> None:
    two.run("base", 0, provenance=provenance())
    other = provenance(git={"commit": "cccccccccccc", "is_dirty": True}, labctl="0.2.0")
    two.run("ctd", 0, provenance=other)
    assert mixtures(two) == [
        "mixed labctl versions: 0.1.0 (base); 0.2.0 (ctd)",
        "mixed commits: aaaaaaaaaa (base); cccccccccc (ctd)",
        "trained from code with uncommitted changes: ctd",
    ]


def test_seeds_and_lengths_of_training_are_compared(two: Any) -> None:
    two.recipe("base", seeds="[0, 1]")
    two.recipe("ctd", seeds="[0]", budget="6ep")
    two.run("base", 0)
    two.run("base", 1)
    two.run("ctd", 0)
    assert mixtures(two) == ["mixed seeds: 0, 1 (base); 0 (ctd)", "mixed epochs: 4 (base); 6 (ctd)"]


def test_flops_that_no_column_tells_are_compared(two: Any) -> None:
    two.run("base", 0, flops=2e9)
    two.run("ctd", 0, flops=1e9)
    assert mixtures(two) == [], "there is a column of them"
    two.table(TABLE.replace("{kind: flops}, ", ""))
    assert mixtures(two) == ["mixed training FLOPs: 2 GFLOP (base); 1 GFLOP (ctd)"]


def test_validation_parts_are_compared(two: Any) -> None:
    two.recipe("ctd", seeds="[0]", data="{name: digits, val: 100}")
    two.run("base", 0)
    two.run("ctd", 0)
    assert mixtures(two) == ["mixed validation parts of digits: 0 (base); 100 (ctd)"]


def test_settings_of_measurements_are_compared(two: Any) -> None:
    """Seeds that were measured on other numbers of images, or by other code, have no common
    mean."""
    two.recipe("base", seeds="[0, 1]")
    for seed, images, code in ((0, 8, "aa"), (1, 16, "bb")):
        run = two.run("base", seed)
        part = MeasurementPart(name="maps", plugin="toy", config={"images": images}, code=code)
        run.create(run.plan.model_copy(update={"measures": (part,)}), {})
    two.run("ctd", 0)
    assert "mixed settings of maps: images=8 (base); images=16 (base)" in mixtures(two)
    assert "mixed code of maps, its code: aa (base); bb (base)" in mixtures(two)


def test_a_measurement_with_other_settings_than_the_recipe_has_is_noted(two: Any) -> None:
    """`labctl measure RUN robustness.images=20` takes the place of what the recipe asks for."""
    two.recipe("base", "measure: {robustness: {images: 50}}", seeds="[0, 1]")
    run = two.run("base", 0)
    (part,) = run.plan.measures
    other = part.model_copy(update={"config": {**part.config, "images": 20}})
    run.create(run.plan.model_copy(update={"measures": (other,)}), {})
    two.run("base", 1)
    notes = [note for note in two.report().rows[0].cells[0].notes if "robustness" in note]
    assert notes == ["measured with robustness.images=20, not 50 as in the recipe: seed 0"]


def test_a_measurement_by_other_code_than_todays_is_noted(two: Any) -> None:
    two.recipe("base", "measure: {robustness: {images: 50}}", seeds="[0, 1]")
    run = two.run("base", 0)
    other = run.plan.measures[0].model_copy(update={"code": "0123456789ab"})
    run.create(run.plan.model_copy(update={"measures": (other,)}), {})
    two.run("base", 1)
    notes = [note for note in two.report().rows[0].cells[0].notes if "robustness" in note]
    again = "again: labctl run base"
    assert notes == [f"robustness was measured by other code than today's: seed 0; {again}"]


def test_seeds_of_a_row_that_executed_other_flops_are_noted(two: Any) -> None:
    two.recipe("base", seeds="[0, 1]")
    two.run("base", 0, flops=1e9)
    two.run("base", 1, flops=2e9)
    notes = two.report().rows[0].cells[0].notes
    assert "seeds executed different numbers of FLOPs: 1e+09, 2e+09" in notes


def test_published_seeds_that_the_recipe_does_not_name_are_noted(two: Any) -> None:
    from labctl.reports.bundle import write_bundle

    run = two.run("base", 7)
    write_bundle([run], two.project.root / "docs" / "results" / "base.json")
    run.discard()
    two.run("base", 0)
    assert "more than the recipe names: seed 7" in two.report().rows[0].cells[0].notes


def test_code_of_a_plugin_is_compared(two: Any) -> None:
    from labctl.reports.bundle import write_bundle

    path = two.project.root / "docs" / "results" / "base.json"
    run = two.run("base", 0)
    write_bundle([run], path)
    run.discard()
    init = two.project.plugins / "toy" / "__init__.py"
    init.write_text(init.read_text(encoding="utf-8") + "\nVALUE = 3\n", encoding="utf-8")
    two.run("ctd", 0)
    (remark,) = mixtures(two)
    assert remark.startswith("mixed code of toy: ")
    assert remark.count("(base)") == remark.count("(ctd)") == 1


def test_counts_have_their_units(two: Any) -> None:
    two.run("base", 0, flops=59.7e15, tokens=[(0, 10, 52.826)])
    two.run("ctd", 0, flops=50.2e15)
    grid = two.report()
    assert two.cell(grid, 0, "Training FLOPs").text == "59.70 PFLOP"
    assert two.cell(grid, 1, "Training FLOPs").text == "50.20 PFLOP"
    assert two.cell(grid, 0, "Parameters").text == "1.23 k"
    assert two.cell(grid, 0, "Mean tokens").text == "52.83"
    assert two.cell(grid, 1, "Mean tokens").text == "-"
    assert dict(two.cell(grid, 0, "Training FLOPs").numbers) == {"value": 59.7e15}


@pytest.mark.parametrize(
    ("rate", "text"),
    [(0.5, "50.0 s (n=1)"), (20.0, "33.3 min (n=1)"), (330.0, "9.17 h (n=1)")],
)
def test_times_are_shown_in_a_unit_that_fits(lab: Any, rate: float, text: str) -> None:
    lab.recipe("base", seeds="[0]", budget="100step")
    lab.table("rows: [{recipe: base}]\ncolumns: [{kind: time, label: time}]\n")
    lab.run("base", 0, rate=rate)
    cell = lab.cell(lab.report(), 0, "time")
    assert cell.text == text
    assert cell.numbers["mean"] == pytest.approx(100 * rate)


def test_reading_imports_nothing_heavy() -> None:
    heavy = ("torch", "mlflow", "optuna", "scipy", "matplotlib", "rich")
    modules = ("report", "bundle", "render", "columns", "verdicts")
    imports = "; ".join(f"import labctl.reports.{name}" for name in modules)
    code = f"import sys; {imports}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_times_of_rows_that_were_not_trained_alike_are_told_apart(two: Any) -> None:
    two.table("rows: [{recipe: base}, {recipe: ctd}]\ncolumns: [{kind: time}]")
    gpu = {"device": "cuda", "device_name": "NVIDIA H200", "torch": "2.11.0"}
    two.run("base", 0, facts={**gpu, "engine": "graphed"})
    two.run("ctd", 0, facts={**gpu, "engine": "graphed", "workers": 2})
    (remark,) = (text for text in two.report().remarks if text.startswith("Training time"))
    told = "; not to be compared across: graphed, alone (base); graphed, alone, 2 workers (ctd)"
    assert f"{told}; timed while 2 workers shared the device" in remark


def test_the_order_of_a_measurements_settings_means_nothing(two: Any) -> None:
    for name, config in (("base", {"a": 1, "b": 2}), ("ctd", {"b": 2, "a": 1})):
        run = two.run(name, 0)
        part = MeasurementPart(name="maps", plugin="toy", config=config)
        run.create(run.plan.model_copy(update={"measures": (part,)}), {})
    assert mixtures(two) == []
