"""The page of a table: what is in it, and what it does in a browser."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Iterator
from functools import partial
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from labctl.reports.bundle import read_bundle
from labctl.reports.contrast import compare
from labctl.reports.contrast_page import contrast_page
from labctl.reports.grid import Cell, Grid
from labctl.reports.page import page, sort_value
from labctl.reports.render import render
from labctl.reports.report import report
from labctl.reports.side import side

pytestmark = pytest.mark.slow

TABLE = """\
title: Two & more
baseline: base
rows: [{recipe: base, label: <b>Base</b>}, {recipe: other, label: Other}, {recipe: later}]
columns:
  - {kind: metric, metric: test/acc}
  - {kind: time}
  - {kind: speedup}
  - {kind: verdict}
"""
COMMAND = "labctl report --table main"
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


class Parts(HTMLParser):
    """Ids, addresses and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.scripts = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids += [given["id"]] if "id" in given else []
        self.addresses += [given[name] for name in ("href", "src", "action") if name in given]
        self.scripts += tag == "script"

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "


@pytest.fixture
def grid(lab: Any) -> Grid:
    """`base` at 60 and 62 %, `other` at 8 %, `later` without a run; a claim about `other`."""
    lab.recipe("base", seeds="[0, 1]")
    kept = "{difference: test/acc, to: base, at_least: -1}"
    other = "{architecture: toy, width: 8}"
    lab.recipe("other", seeds="[0, 1]", model=other, claims=f"{{kept: {kept}}}")
    lab.recipe("later", model="{architecture: toy, width: 16}")
    early = {44: {"test/acc": 0.01}}
    for seed, acc in ((0, 0.6), (1, 0.62)):
        lab.run("base", seed, acc=acc, evaluations=early)
        run = lab.run("other", seed, acc=acc / 10 + 0.02, rate=0.004, evaluations=early)
    maps = run.folder.with_name("seed=0") / "measurements" / "maps"
    maps.mkdir(parents=True)
    (maps / "maps.png").write_bytes(b"\x89PNG picture")
    lab.table(TABLE)
    return report(lab.project, lab.registry, "main", plots=True)


@pytest.fixture
def text(grid: Grid) -> str:
    return page(grid, COMMAND)


def test_it_needs_nothing_but_itself(text: str) -> None:
    parts = Parts(text)
    assert parts.addresses, "there are links"
    assert all(address.startswith(("#", "data:")) for address in parts.addresses)
    assert not re.search(r"@import|url\(\s*['\"]?(?!#)", text)


def test_every_link_leads_somewhere_and_no_name_is_there_twice(text: str) -> None:
    parts = Parts(text)
    assert len(parts.ids) == len(set(parts.ids))
    inside = {address[1:] for address in parts.addresses if address.startswith("#")}
    assert inside - set(parts.ids) == set()
    assert {"row-1", "row-2", "claim-2-1"} <= inside
    assert any(address.startswith("note-") for address in inside)


def test_footnotes_are_counted_without_those_on_claims(grid: Grid, text: str) -> None:
    on_claims = {
        note for row in grid.rows for cell in row.cells if cell.claims for note in cell.notes
    }
    others = [note for note in grid.notes if note not in on_claims]
    assert on_claims and grid.notes.index(others[-1]) >= len(others), "they would leave a gap"
    listed = re.findall(r'<li id="note-([0-9]+)">(.*)</li>', text)
    assert [(int(number), unescape(note)) for number, note in listed] == [*enumerate(others, 1)]


def test_what_recipes_say_is_text(text: str) -> None:
    assert "<b>Base</b>" not in text and "&lt;b&gt;Base&lt;/b&gt;" in text
    assert Parts(text).scripts == 1


def test_every_run_has_its_plan_code_environment_and_journal(text: str, tmp_path: Path) -> None:
    found = Parts(text)
    assert "c0ffeec0ff" in found.text and "numpy 2.3.0" in found.text
    assert found.text.count("steps_per_epoch:") == 4, "the plan of each run"
    assert "/home/ada" not in text, "no folder of whoever trained it"
    bundles = [a for a in found.addresses if a.startswith("data:application/json")]
    path = tmp_path / "one.json"
    path.write_bytes(base64.b64decode(bundles[0].partition(",")[2]))
    (result,) = read_bundle(path).results
    assert (result.recipe, result.seed, result.metrics["test/acc"]) == ("base", 0, 0.6)


def test_values_of_seeds_have_their_units(text: str) -> None:
    """44 steps an epoch, four epochs, of 0.01 and 0.004 s."""
    steps = 4 * 22
    for seconds in (steps * 0.01, steps * 0.004):
        assert f"{seconds:.6g} s</td>" in text and f"seed 0: {seconds:.6g} s" in text


def test_pictures_of_measurements_are_those_of_one_seed(text: str) -> None:
    pictures = [a for a in Parts(text).addresses if a.startswith("data:image/png")]
    contents = [base64.b64decode(address.partition(",")[2]) for address in pictures]
    assert contents.count(b"\x89PNG picture") == 1


def test_claims_stand_in_a_table_with_their_figures(text: str) -> None:
    said = " ".join(Parts(text).text.split())
    assert "kept REFUTED" in said
    assert "test/acc minus that of base, paired by seed: -" in said and "at least -1 points" in said


def test_claims_say_what_stands_in_their_way(lab: Any) -> None:
    """Footnotes on claims are in their table alone, so that nothing of them may be lost there."""
    open_, fast = "{value: test/acc, at_least: 59.9}", "{ratio: time, to: base, at_least: 1}"
    known = "{value: test/acc, at_least: 99, known: refuted}"
    paper = "{reference: test/acc, value: 50, source: a paper}"
    lab.recipe("base", seeds="[0, 1]")
    lab.recipe(
        "other", seeds="[0, 1]", model="{architecture: toy, width: 8}",
        claims=f"{{near: {open_}, fast: {fast}, bad: {known}, paper: {paper}}}",
    )  # fmt: skip
    for seed, acc in ((0, 0.6), (1, 0.62)):
        lab.run("base", seed, acc=acc)
        lab.run("other", seed, acc=acc, rate=0.004 + seed * 1e-5)
    lab.table(TABLE.replace(", {recipe: later}", ""))
    said = " ".join(Parts(page(report(lab.project, lab.registry, "main"), COMMAND)).text.split())
    table = said.partition("Claimed Source")[2]
    assert "seeds would settle it with probability 0.8" in table
    assert "above the 1 that the executed FLOPs allow" in table
    assert "bad REFUTED, as known" in said.partition("Claimed Source")[0]
    assert "paper reference 50 (+11.00)" in said.partition("Claimed Source")[0]


def test_the_same_runs_give_the_same_page(grid: Grid, text: str) -> None:
    assert page(grid, COMMAND) == text


def test_a_row_without_a_result_leads_to_why(lab: Any) -> None:
    lab.recipe("base", seeds="[0]")
    lab.run("base", 0, status="DIVERGED", message="loss is nan")
    lab.table("rows: [{recipe: base}]\ncolumns: [{kind: metric, metric: test/acc}]\n")
    text = page(report(lab.project, lab.registry, "main"), COMMAND)
    below = text[text.index('id="row-1"') :]
    assert "diverged: seed 0 (loss is nan)" in below
    assert "row-1" in {address[1:] for address in Parts(text).addresses}


def test_what_is_claimed_of_a_sweep_is_among_the_claims(lab: Any) -> None:
    lab.recipe("base")
    lab.sweep(
        "recipe: base\naxes: {width: '2,4'}\nseeds: [0, 1]\nclaims: {edge: {stable_from: 4}}\n",
        "width",
    )
    for width in (2, 4):
        for seed in (0, 1):
            lab.run("base", seed, point=[f"model.width={width}"])
    table = lab.report("width")
    said = " ".join(Parts(page(table, COMMAND)).text.split())
    assert "Claims Row Claim Verdict Measured Claimed Source all values edge" in said
    (claim,) = json.loads(render(table, "json"))["claims"]
    assert claim["claim"] == "edge" and claim["verdict"] in said


@pytest.mark.parametrize(
    ("cell", "key"),
    [
        (Cell("9.5 s", {"sd": 3.0, "mean": 9.5}), "9.5"),
        (Cell("2.00", {"value": 2.0}), "2.0"),
        (Cell("none"), "none"),
    ],
)
def test_columns_are_sorted_by_what_they_mean(cell: Cell, key: str) -> None:
    assert sort_value(cell) == key


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real browser without a screen."""
    if BROWSER is None:
        pytest.skip("needs chromium or google-chrome")
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opening(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """Opens a page in a tab of given options; in the end nothing was fetched, nothing failed."""
    path = tmp_path / "index.html"
    tabs, faults, fetched = [], [], []

    def tab(text: str, **options: Any) -> Any:
        path.write_text(text, encoding="utf-8")
        context = browser.new_context(**options)
        tabs.append(context)
        made = context.new_page()
        made.on("pageerror", lambda error: faults.append(str(error)))
        made.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
        made.on("request", lambda request: fetched.append(request.url))
        made.goto(path.as_uri())
        return made

    yield tab
    for context in tabs:
        context.close()
    assert faults == []
    assert {url for url in fetched if not url.startswith("data:")} == {path.as_uri()}


@pytest.fixture
def opened(opening: Any, text: str) -> Any:
    """Opens the page of the table."""
    return partial(opening, text)


@pytest.fixture
def comparison(grid: Grid, lab: Any) -> str:
    """The page of `base` held against `other`."""
    base, other = (side(lab.project, lab.registry, name) for name in ("base", "other"))
    found = compare(lab.registry, base, other)
    return contrast_page(found, base, other, "labctl compare base other")


def labels(tab: Any) -> list[str]:
    texts = tab.locator("#grid tbody th").all_inner_texts()
    return [text.split("\n")[0].strip(" 123456789") for text in texts]


def test_a_click_on_a_head_sorts_by_numbers(opened: Any) -> None:
    """8 % stands before 61 %, and what is missing last."""
    tab = opened()
    head = tab.locator("#grid thead th", has_text="test/acc")
    assert head.get_attribute("aria-sort") == "none"
    head.locator("button").click()
    assert labels(tab) == ["Other", "<b>Base</b>", "later"]
    assert head.get_attribute("aria-sort") == "ascending"
    head.locator("button").click()
    assert labels(tab)[0] == "<b>Base</b>"
    assert head.get_attribute("aria-sort") == "descending"


def test_a_number_leads_to_the_runs_behind_it(opened: Any) -> None:
    tab = opened()
    plan = tab.locator("#run-2-1 pre")
    assert not plan.is_visible()
    tab.locator("#grid tbody tr", has_text="Other").locator("td a").first.click()
    tab.locator("#row-2").get_by_role("link", name="seed 1", exact=True).click()
    assert plan.is_visible() and "batch_size: 64" in plan.inner_text()
    with tab.expect_download() as download:
        tab.locator("#run-2-1 dd a").click()
    content = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    assert content["runs"][0]["seed"] == 1


@pytest.mark.parametrize("which", ["text", "comparison"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1400])
def test_it_can_be_read_on_any_screen(
    opening: Any, request: pytest.FixtureRequest, which: str, scheme: str, width: int
) -> None:
    shown = request.getfixturevalue(which)
    tab = opening(shown, color_scheme=scheme, viewport={"width": width, "height": 800})
    assert tab.evaluate("document.documentElement.scrollWidth") <= width, "the page has no side"
    colors = tab.evaluate(
        "[...document.querySelectorAll('h1, td, th, p, li, figcaption, b, a, svg text')].map(e => {"
        "  let at = e; while (getComputedStyle(at).backgroundColor == 'rgba(0, 0, 0, 0)')"
        "    at = at.parentElement;"
        "  const style = getComputedStyle(e);"
        "  return [e.namespaceURI.endsWith('svg') ? style.fill : style.color,"
        "          getComputedStyle(at).backgroundColor]; })"
    )
    assert len(colors) > 50
    assert min(contrast(*pair) for pair in colors) >= 4.5, "WCAG 2.2, 1.4.3"
    paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (luminance(paper) < 0.5) == (scheme == "dark")


def contrast(ink: str, paper: str) -> float:
    """Of two colours, as WCAG 2.2 defines it."""
    dark, light = sorted((luminance(ink), luminance(paper)))
    return (light + 0.05) / (dark + 0.05)


def luminance(color: str) -> float:
    parts = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
