"""Who brings a card, and what happens when that goes wrong."""

from __future__ import annotations

import sys
import warnings
from importlib import metadata
from pathlib import Path

import pytest

from labctl.errors import PluginError
from labctl.registry import registry as room
from labctl.registry.card import Architecture, Dataset
from labctl.registry.digest import code_digest, measurements_digest
from labctl.registry.registry import Registry

CARD = (
    "from labctl.api import Architecture\n"
    "cards = (Architecture(name={name!r}, build=lambda config, spec: None),)\n"
)


def plugin(root: Path, folder: str, text: str) -> Path:
    path = root / "plugins" / folder
    path.mkdir(parents=True)
    (path / "__init__.py").write_text(text, encoding="utf-8")
    return path


def test_nothing_is_imported_until_it_is_named(tmp_path: Path) -> None:
    plugin(tmp_path, "quiet_one", CARD.format(name="quiet_one"))
    plugin(tmp_path, "loud_one", "raise RuntimeError('imported')\n")
    registry = Registry(tmp_path / "plugins")
    assert {"quiet_one", "loud_one"} <= registry.plugins.keys()
    assert "labctl_plugins.quiet_one" not in sys.modules
    card, loaded = registry.find(Architecture, "quiet_one")
    assert card.name == "quiet_one" and loaded.plugin.is_local
    registry.find(Dataset, "digits")
    with pytest.raises(PluginError, match="'loud_one' failed to import: RuntimeError") as caught:
        registry.find(Architecture, "loud_one")
    assert caught.value.where.endswith("loud_one/__init__.py:1")


def test_an_unknown_name_is_searched_everywhere_and_says_what_could_not_be(tmp_path: Path) -> None:
    plugin(tmp_path, "broken_one", "import nowhere_to_be_found\n")
    plugin(tmp_path, "family", CARD.format(name="hidden_net"))
    registry = Registry(tmp_path / "plugins")
    assert registry.find(Architecture, "hidden_net")[1].plugin.name == "family"
    with pytest.raises(PluginError, match="unknown architecture 'hiden_net'") as caught:
        registry.find(Architecture, "hiden_net")
    assert "did you mean 'hidden_net'?" in caught.value.hint
    assert "nowhere_to_be_found" in caught.value.hint


def test_a_broken_plugin_is_executed_once(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    code = f"with open({str(trace)!r}, 'a') as file:\n    file.write('x')\n"
    code += "raise RuntimeError('as always')\n"
    plugin(tmp_path, "broken_one", code)
    registry = Registry(tmp_path / "plugins")
    for _ in range(2):
        with pytest.raises(PluginError, match="as always"):
            registry.load("broken_one")
        assert len(registry.broken()) == 1
    assert trace.read_text() == "x"


def test_a_card_that_labctl_has_already_is_refused(tmp_path: Path) -> None:
    """Labctl's own is found first; the other would never be."""
    plugin(tmp_path, "mine", CARD.replace("Architecture", "LossTerm").format(name="cross_entropy"))
    with pytest.raises(PluginError) as caught:
        Registry(tmp_path / "plugins").load("mine")
    assert "plugin 'mine' has a loss card 'cross_entropy', as labctl has" in str(caught.value)


@pytest.mark.parametrize("name", ["test", "train", "val", "knob"])
def test_no_measurement_may_be_called_as_metrics_of_labctl_are(tmp_path: Path, name: str) -> None:
    card = CARD.replace("Architecture", "MeasurementCard").replace("build=", "run=")
    plugin(tmp_path, "mine", card.format(name=name))
    with pytest.raises(PluginError, match=f"a measurement '{name}', and metrics of that name are"):
        Registry(tmp_path / "plugins").load("mine")


def test_code_that_is_taken_for_a_test_is_refused_where_it_is_imported(tmp_path: Path) -> None:
    path = plugin(tmp_path, "mine", CARD.format(name="net"))
    (path / "test_time.py").write_text("x = 1\n")
    words = '"""This goes\nfrom what test_time says."""\nfrom .model import test_time\n'
    (path / "prose.py").write_text(words)
    assert Registry(tmp_path / "plugins").load("mine")
    (path / "model.py").write_text("def build():\n    from .test_time import x\n    return x\n")
    with pytest.raises(PluginError, match=r"imports test_time, .*\n  rename it: time.py") as caught:
        Registry(tmp_path / "plugins").load("mine")
    assert caught.value.where.endswith("mine/model.py")


def test_two_plugins_with_one_card_are_named_both(tmp_path: Path) -> None:
    for folder in ("first", "second"):
        plugin(tmp_path, folder, CARD.format(name="twin"))
    with pytest.raises(
        PluginError, match=r"'twin' is defined by .*first.* and by .*second|first.*second"
    ):
        Registry(tmp_path / "plugins").find(Architecture, "twin")


def test_a_projects_plugin_wins_over_an_installed_one_and_says_so(tmp_path: Path) -> None:
    path = plugin(tmp_path, "ctd_vit", CARD.format(name="ctd_vit"))
    with pytest.warns(UserWarning, match="using .*ctd_vit, not the installed copy"):
        card, loaded = Registry(tmp_path / "plugins").find(Architecture, "ctd_vit")
    assert loaded.plugin.folder == path.resolve() and not card.knobs(None, None)


def test_two_projects_in_one_process_keep_their_plugins_apart(tmp_path: Path) -> None:
    plugin(tmp_path, "ctd_vit", CARD.format(name="ctd_vit"))
    with pytest.warns(UserWarning, match="not the installed copy"):
        mine = Registry(tmp_path / "plugins").find(Architecture, "ctd_vit")[1]
    assert mine.plugin.is_local
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        card, installed = Registry().find(Architecture, "ctd_vit")
    assert not installed.plugin.is_local and card.config is not None
    assert installed.plugin.folder.parent != tmp_path / "plugins"


def test_a_plugin_that_was_edited_is_imported_again(tmp_path: Path) -> None:
    """As in a notebook; one that was not stays the same module, and so do its classes."""
    part = "from labctl.api import Architecture\nbuild = {build}\n"
    cards = (
        "from .part import Architecture, build\n"
        "cards = (Architecture(name='edited_net', build=build),)\n"
    )
    folder = plugin(tmp_path, "edited_net", cards)
    (folder / "part.py").write_text(part.format(build="lambda config, spec: 1"), encoding="utf-8")

    def found() -> Architecture:
        return Registry(tmp_path / "plugins").find(Architecture, "edited_net")[0]

    first = found()
    assert first.build(None, None) == 1 and found() is first  # type: ignore[arg-type]
    with (folder / "part.py").open("a", encoding="utf-8") as file:
        file.write("# a remark changes no code\n")
    assert found() is first
    (folder / "part.py").write_text(part.format(build="lambda *given: 2222"), encoding="utf-8")
    second = found()
    assert second.build(None, None) == 2222 and first.build(None, None) == 1  # type: ignore[arg-type]


def test_one_name_installed_twice_is_an_error_for_who_asks_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def twice(group: str) -> list[metadata.EntryPoint]:
        return [metadata.EntryPoint("x", value, group) for value in ("a.x", "b.x")]

    monkeypatch.setattr(room.metadata, "entry_points", twice)
    with pytest.raises(PluginError, match="'x' is installed twice: by"):
        Registry().load("x")


def test_the_digest_sees_data_beside_the_code(tmp_path: Path) -> None:
    path = plugin(tmp_path, "p", "x = 1\n")
    before = code_digest(path)
    for name in ("README.md", "learners.yaml", ".hidden.json", "test_p.py", "built.so"):
        (path / name).write_text("whatever")
    assert code_digest(path) == before
    (path / "tables").mkdir()
    (path / "tables" / "sizes.json").write_text("[8]")
    first = code_digest(path)
    (path / "tables" / "sizes.json").write_text("[64]")
    assert len({before, first, code_digest(path)}) == 3


def test_the_digest_of_measurements_is_one_of_its_own(tmp_path: Path) -> None:
    path = plugin(tmp_path, "p", "x = 1\n")
    assert measurements_digest(path) == ""
    before = code_digest(path)
    (path / "measurements").mkdir()
    (path / "measurements" / "flow.py").write_text("y = 1\n")
    first = measurements_digest(path)
    (path / "measurements" / "flow.py").write_text("y = 1  # one\n")
    assert first and measurements_digest(path) == first
    (path / "measurements" / "flow.py").write_text("y = 2\n")
    assert measurements_digest(path) != first
    assert code_digest(path) == before


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("model.py", "from .measurements.flow import y"),
        ("model.py", "from .measurements import flow"),
        ("model.py", "from . import measurements"),
        ("model.py", "import labctl_plugins.p.measurements.flow"),
        ("model.py", "from labctl_plugins.p import measurements"),
        ("parts/model.py", "from ..measurements.flow import y"),
        ("model.py", "from ..p.measurements import flow"),
        ("model.py", "from . import y"),
        ("model.py", "from labctl_plugins.p import *"),
    ],
)
def test_what_trains_may_not_import_measurements(tmp_path: Path, file: str, line: str) -> None:
    cards = "from .measurements.flow import y\n" + CARD.format(name="p")
    path, wrapped = plugin(tmp_path, "p", cards), f"if True:\n    {line}\n"
    for name, text in (("measurements/flow.py", "y = 1\n"), (file, wrapped)):
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text(text)
    with pytest.raises(PluginError, match="imports measurements where it trains") as caught:
        Registry(tmp_path / "plugins").load("p")
    assert str(caught.value.where) == str(path / file)


def test_cards_measurements_and_namesakes_may_import_measurements(tmp_path: Path) -> None:
    cards = "from .measurements.flow import y\n" + CARD.format(name="p")
    path = plugin(tmp_path, "p", cards)
    texts = {
        "measurements/flow.py": "from .other import z as y\n",
        "measurements/other.py": "z = 1\n",
        "model.py": "def f():\n    import physics.p.measurements\n",
        "rooms.py": "from .parts import measurements\n",
    }
    for name, text in texts.items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text(text)
    assert Registry(tmp_path / "plugins").load("p").measurements == measurements_digest(path)


def test_the_digest_sees_code_and_nothing_else(tmp_path: Path) -> None:
    path = plugin(tmp_path, "p", "def f(x):\n    '''What.'''\n    return x + 1  # why\n")
    before = code_digest(path)
    (path / "__init__.py").write_text('def f( x ):\n\n    """Else."""\n    return (x + 1)\n')
    assert code_digest(path) == before
    (path / "__init__.py").write_text("def f(x):\n    return x + 2\n")
    assert code_digest(path) != before
    (path / "__init__.py").write_text("def f(x):\n    return x + 1\n")
    assert code_digest(path) == before
    (path / "more.py").write_text("x = 1\n")
    assert code_digest(path) != before
