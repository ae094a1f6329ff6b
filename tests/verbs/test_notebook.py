"""The example notebook, carried out as a reader would."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebook.ipynb"


def shown(cell: Any) -> dict[str, str]:
    """What a cell shows last, by MIME type."""
    assert not [out for out in cell.outputs if out.output_type == "display_data"], "shown twice"
    (last,) = [out for out in cell.outputs if out.output_type == "execute_result"]
    data: dict[str, str] = last.data
    return data


@pytest.mark.slow
def test_the_example_notebook_shows_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter"))
    assert not os.environ.get("LABCTL_RUNS")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    plan, training, table, frame, sweep, model = [c for c in notebook.cells if c.source and
                                                  c.cell_type == "code"]  # fmt: skip
    assert "token_drop" in shown(plan)["text/html"] and "PENDING" in shown(plan)["text/html"]
    assert "2 runs: 2 DONE" in shown(training)["text/html"]
    told = "".join(out.text for out in training.outputs if out.output_type == "stream")
    assert "ctd_baseline@smoke seed=0  DONE\n" in told, "progress, as lines"
    html = shown(table)["text/html"]
    assert html.count("<tr>") == 5 and html.count("<svg") == 3 and "(n=1 of 2)" in html
    assert "ctd_gamma1.5" in shown(frame)["text/html"]
    assert shown(sweep)["text/html"].count("1.00 (1 of 1)") == 2, "the recipe itself, too"
    assert shown(model)["text/plain"] == "torch.Size([2, 10])"
