"""The same grid in all formats."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from labctl.cli import reporting
from labctl.errors import UsageError
from labctl.reports.escape import in_latex
from labctl.reports.grid import Cell, Grid, GridRow, Heading
from labctl.reports.render import FORMATS, render

GOLDEN = """\
**Two recipes: digits**

|  | Test acc (%) | Train-test gap (points) | Training time | Speed-up | Training FLOPs | Claims |
| :--- | ---: | ---: | ---: | ---: | ---: | :--- |
| base | 60.00 \u00b1 10.00 (n=3) | 30.00 \u00b1 10.00 (n=3) | 32.0 \u00b1 0.0 s (n=3) | baseline \
| 1.00 GFLOP | none |
| Half [1] | 61.00 \u00b1 14.14 (n=2 of 3) | 29.00 \u00b1 14.14 (n=2 of 3) \
| 25.6 \u00b1 0.0 s (n=2 of 3) | 1.25 \u00b1 0.00 (n=2 of 3), bound 1.33 | 0.75 GFLOP \
| kept: REPRODUCED [2] |

- [1] diverged: seed 1 (loss)
- [2] kept: test/acc minus that of base, paired by seed: +1.00 points for every seed, n=2; \
claimed at least -0.5 points; not counted: half seed 1 (diverged)
- mean \u00b1 sd over seeds; the sd has n - 1 in its denominator and is left out for n=1; n of N: \
seeds with a result, of those the recipe names
- Train-test gap (points): accuracy on clean training examples minus test accuracy, in points
- Training time: steps times mean step time, without compilation and evaluation
- Speed-up: training time of base over that of the row, paired by seed; bound: the ratio of their \
executed training FLOPs; SUSPECT: above the bound by more than one sd and 1 % of it
- Training FLOPs: executed, forward and backward, 2 per multiply-accumulate
- Claims: judged by the 95 % interval of Student's t for the mean of what is paired by seed (sd: \
n - 1 in its denominator): REPRODUCED within the claimed bound, REFUTED outside, else UNRESOLVED; \
a reference is a published value, not judged; what is the same for every seed in \
all digits is taken to be so for others
- mixed seeds: 0, 1, 2 (base); 0, 2 (half)
- mixed epochs: 1.455 (base); 0.7273 (half)"""


@pytest.fixture
def grid(lab: Any) -> Grid:
    """Two rows of runs: 3 of 3 and 2 of 3."""
    lab.recipe("base", budget="32step")
    claims = "\nclaims: {kept: {difference: test/acc, to: base, at_least: -0.5}}\n"
    lab.recipe("half", claims, budget="32step", batch_size="32")
    lab.table(
        """
        title: Two recipes
        baseline: base
        rows: [{recipe: base}, {recipe: half, label: Half}]
        columns:
          - {kind: metric, metric: test/acc, label: Test acc (%)}
          - {kind: gap}
          - {kind: time}
          - {kind: speedup}
          - {kind: flops}
          - {kind: verdict}
        """
    )
    for seed in range(3):
        lab.run("base", seed, acc=0.5 + seed / 10, rate=1.0)
    for seed in (0, 2):
        lab.run("half", seed, acc=0.51 + seed / 10, rate=0.8, flops=7.5e8)
    lab.run("half", 1, status="DIVERGED", message="loss")
    found: Grid = lab.report()
    return found


def awkward() -> Grid:
    """Text that every format has to protect."""
    label = Cell(
        "50% of $x_1 & {y} #3 ~^\\ <a> | *b* \u03b3=1.5 \u03c2 \u00d72",
        notes=("[see] 100%\n_here_",),
    )
    odd = Cell("[1] \u00b1 2 --x", {"mean": math.nan, "n": 2.0}, {0: math.inf, 1: 1.0})
    facts = {"recipe": "a,b", "preset": None, "data": "d", "seeds": {}, "published": {}}
    rows = (GridRow((label, odd, Cell("x")), facts),)
    headings = (Heading("", False), Heading("acc (%)"), Heading("R&D", False))
    return Grid("t", "A_title & more", headings, rows, ("remark_1",))


def test_markdown_is_as_reviewed(grid: Grid) -> None:
    assert render(grid, "markdown") == GOLDEN


def test_markdown_cells_cannot_break_the_table() -> None:
    lines = render(awkward(), "markdown").splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 3
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {4}
    assert r"\<a> \| \*b\*" in rows[2]


def test_terminal_says_everything_and_keeps_its_width(
    grid: Grid, monkeypatch: pytest.MonkeyPatch
) -> None:
    for width in (60, 100, 200):
        monkeypatch.setenv("COLUMNS", str(width))
        text = render(grid, "terminal")
        assert max(map(len, text.splitlines())) <= width
        assert "\x1b" not in text
        assert "\u2026" not in text, "nothing is cut off"
        assert "[1] diverged: seed 1 (loss)" in text
    assert "60.00 \u00b1 10.00 (n=3)" in text
    assert text.splitlines()[0] == "Two recipes: digits"


def test_a_table_prints_as_in_a_terminal(grid: Grid) -> None:
    assert str(grid) == render(grid, "terminal")


def test_terminal_breaks_a_figure_from_its_count_and_not_within(
    grid: Grid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert "60.00 \u00b1 10.00 (n=3)" in render(grid, "terminal")
    monkeypatch.setenv("COLUMNS", "120")
    text = render(grid, "terminal")
    assert "60.00 \u00b1 10.00 (n=3)" not in text
    assert "60.00 \u00b1 10.00" in text
    assert "(n=2 of 3)" in text


def test_terminal_keeps_words_whole_where_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much a neighbour would like to have."""
    headings = (Heading("row", False), *(Heading(f"Test acc {i}", True) for i in range(6)))
    cells = [Cell("Back-propagation through time"), *[Cell("98.82 \u00b1 0.04 (n=5)")] * 6]
    grid = Grid("main", "Table", headings, (GridRow(tuple(cells), {"recipe": "r"}),), ())
    for width, figure in ((120, "98.82 \u00b1 0.04"), (88, "98.82")):
        monkeypatch.setenv("COLUMNS", str(width))
        text = render(grid, "terminal")
        assert max(map(len, text.splitlines())) <= width
        assert "Back-propagation" in text and text.count(figure) == text.count("(n=5)") == 6
    assert "98.82 \u00b1 0.04" not in text


def test_macros_name_every_figure_in_letters(grid: Grid) -> None:
    text = render(grid, "macros")
    defined = re.findall(r"^\\newcommand\{\\([A-Za-z]+)\}\{(.*)\}$", text, re.MULTILINE)
    assert len(defined) == sum(not line.startswith("% ") for line in text.splitlines())
    found = dict(defined)
    assert len(found) == len(defined), "no name twice"
    accuracy = grid.rows[0].cells[1]
    (name,) = [n for n, value in found.items() if value == in_latex(accuracy.text)]
    assert float(found[f"{name}Mean"]) == pytest.approx(accuracy.numbers["mean"], rel=1e-5)
    assert found[f"{name}N"] == f"{accuracy.numbers['n']:g}"


def test_macros_tell_rows_of_one_name_apart() -> None:
    cells = [(Cell(label), Cell("1", {"mean": 1.0})) for label in ("a 1.5", "a-1.5 (published)")]
    rows = tuple(GridRow(pair, {"recipe": "r"}) for pair in cells)
    twins = Grid("t", "T", (Heading("", False), Heading("Acc (%)")), rows)
    lines = render(twins, "macros").splitlines()
    assert lines == [
        "% T",
        "% a 1.5",
        r"\newcommand{\AOnePointFiveAcc}{1}",
        r"\newcommand{\AOnePointFiveAccMean}{1}",
        "% a-1.5",
        r"\newcommand{\AOnePointFiveAccB}{1}",
        r"\newcommand{\AOnePointFiveAccBMean}{1}",
    ]


def macro_names(labels: list[str], heads: list[str]) -> list[str]:
    cells = [(Cell(label), *(Cell("1", {"mean": 1.0}) for _ in heads)) for label in labels]
    rows = tuple(GridRow(row, {"recipe": "r"}) for row in cells)
    wide = Grid("t", "line one\nline two", (Heading("", False), *map(Heading, heads)), rows)
    text = render(wide, "macros")
    assert all(line.startswith(("%", r"\newcommand{")) for line in text.splitlines())
    return re.findall(r"^\\newcommand\{\\([A-Za-z]+)\}", text, re.MULTILINE)


def test_macros_of_any_labels_have_names_of_their_own() -> None:
    """As many rows of one name as one likes; a column that is called like a figure of another."""
    names = macro_names(["x"] * 60, ["Acc", "Acc mean"])
    assert len(names) == len(set(names)) == 60 * 4
    names = macro_names(["\u03b2", "\u03b3", "Gr\u00f6\u00dfe", "lr -1", "lr 1"], ["Acc"])
    assert [name for name in names if not name.endswith("Mean")] == [
        "BetaAcc", "GammaAcc", "GrOSEAcc", "LrMinusOneAcc", "LrOneAcc",
    ]  # fmt: skip


def test_csv_has_the_cells_and_the_raw_figures(grid: Grid) -> None:
    first, second = csv.DictReader(io.StringIO(render(grid, "csv")))
    assert first["row"] == "base"
    assert first["Test acc (%)"] == "60.00 \u00b1 10.00 (n=3)"
    assert float(first["Test acc (%) mean"]) == pytest.approx(60.0)
    assert float(first["Test acc (%) sd"]) == pytest.approx(10.0)
    assert (second["Test acc (%) n"], second["Test acc (%) of"]) == ("2", "3")
    assert float(second["Training time mean"]) == pytest.approx(25.6)
    assert float(second["Speed-up bound"]) == pytest.approx(4 / 3)
    assert first["Speed-up mean"] == ""
    assert float(second["Training FLOPs value"]) == 7.5e8
    assert second["recipe"] == "half"
    assert second["notes"].startswith("diverged: seed 1 (loss) | kept: test/acc minus")


def test_json_has_full_precision_and_every_seed(grid: Grid) -> None:
    content = json.loads(render(grid, "json"))
    assert content["table"] == "main"
    assert content["columns"][0] == "Test acc (%)"
    _, half = content["rows"]
    assert half["recipe"] == "half"
    assert half["seeds"] == {"done": [0, 2], "diverged": [1]}
    assert half["notes"] == ["diverged: seed 1 (loss)"]
    accuracy, *_, claims = half["cells"]
    assert accuracy["seeds"] == pytest.approx({"0": 51.0, "2": 71.0})
    assert accuracy["figures"]["sd"] == pytest.approx(math.sqrt(200), rel=1e-12)
    (verdict,) = claims["claims"]
    assert verdict["claim"] == "kept"
    assert verdict["verdict"] == "REPRODUCED"
    assert verdict["mean"] == pytest.approx(1.0)
    assert content["remarks"]


def test_json_holds_what_is_not_finite_as_text() -> None:
    (row,) = json.loads(render(awkward(), "json"))["rows"]
    assert row["cells"][0]["figures"]["mean"] == "nan"
    assert row["cells"][0]["seeds"]["0"] == "inf"


def test_latex_escapes_what_latex_would_read() -> None:
    text = render(awkward(), "latex")
    assert (
        r"50\% of \$x\_1 \& \{y\} \#3 \textasciitilde{}\textasciicircum{}\textbackslash{}" in text
    )
    assert r"\textless{}a\textgreater{} \textbar{} *b* $\gamma$=1.5 $\varsigma$ $\times$2" in text
    assert r"{[}1{]} $\pm$ 2 -{}-x &" in text
    assert r"R\&D \\" in text
    assert r"\textsuperscript{1}~{[}see{]} 100\% \_here\_\par" in text
    assert r"\caption{A\_title \& more}" in text
    assert text.isascii()


@pytest.mark.parametrize(
    ("text", "set_as"),
    [
        ("a -- b --- c ---- d", "a -{}- b -{}-{}- c -{}-{}-{}- d"),
        ("\u0394acc \u03a3 \u03a9 \u0391", r"$\Delta$acc $\Sigma$ $\Omega$ A"),
        ("\u03bb \u039b \u03bf", r"$\lambda$ $\Lambda$ o"),
        ("\u2206 \u2248 1 \u2260 \u221e \u2191", r"$\Delta$ $\approx$ 1 $\ne$ $\infty$ $\uparrow$"),
        ("x\u2081\u2080", "x$_{1}$$_{0}$"),
        ("Gr\u00f6\u00dfe 3\u00b2", "Gr\u00f6\u00dfe 3\u00b2"),
    ],
)
def test_latex_sets_every_letter_as_itself(text: str, set_as: str) -> None:
    assert in_latex(text) == set_as


def test_latex_has_as_many_cells_as_columns(grid: Grid) -> None:
    lines = render(grid, "latex").splitlines()
    (begin,) = [line for line in lines if line.startswith(r"\begin{tabular}")]
    assert begin == r"\begin{tabular}{lrrrrrp{0.5\linewidth}}"
    rows = [line for line in lines if line.endswith(r" \\")]
    assert [len(re.findall(r"(?<!\\)&", row)) for row in rows] == [6, 6, 6]
    text = "\n".join(lines)
    assert text.count("{") == text.count("}")
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert lines.count(rule) == 1


def has_latex(package: str) -> bool:
    if shutil.which("pdflatex") is None or shutil.which("kpsewhich") is None:
        return False
    return subprocess.run(["kpsewhich", package], capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not has_latex("booktabs.sty"), reason="needs pdflatex and booktabs")
def test_latex_compiles(grid: Grid, tmp_path: Path) -> None:
    fragments = render(awkward(), "latex"), render(grid, "latex")
    document = "\n".join(
        [r"\documentclass{article}", r"\usepackage{booktabs,graphicx}", r"\begin{document}",
         *fragments, r"\end{document}"]
    )  # fmt: skip
    (tmp_path / "x.tex").write_text(document, encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "x.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout, "no table is wider than the text"


def test_an_unknown_format_suggests_one() -> None:
    with pytest.raises(UsageError, match="no format 'markdwon'") as caught:
        render(awkward(), "markdwon")
    assert "did you mean 'markdown'?" in str(caught.value)


def test_footnotes_are_numbered_in_reading_order_and_once() -> None:
    cells = (Cell("a", notes=("n1", "n2")), Cell("b", notes=("n3", "n1")))
    grid = Grid("t", "", (Heading("", False), Heading("h")), (GridRow(cells, {"recipe": "r"}),))
    assert grid.notes == ("n1", "n2", "n3")
    assert grid.numbers_of(cells[1]) == [1, 3]
    assert tuple(FORMATS) == reporting.FORMATS


def test_a_terminal_turns_a_table_that_has_too_many_columns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = [f"quantity {place}" for place in range(20)]
    headings = (Heading("", is_figure=False), *(Heading(name, is_figure=True) for name in names))
    cells = (Cell("one row"), *(Cell(f"{place}.5 (n=1)") for place in range(20)))
    wide = Grid("wide", "Wide", headings, (GridRow(cells, {}),), (), ())
    monkeypatch.setenv("COLUMNS", "60")
    title, _, head, _, *lines = render(wide, "terminal").splitlines()
    assert (title, head.split()) == ("Wide", ["one", "row"])
    assert [" ".join(line.split()) for line in lines] == [
        f"{name} {place}.5 (n=1)" for place, name in enumerate(names)
    ]
    assert len({len(line) for line in lines}) == 1  # figures end where figures end
    monkeypatch.setenv("COLUMNS", "600")
    assert render(wide, "terminal").splitlines()[2].split()[:2] == ["quantity", "0"]
