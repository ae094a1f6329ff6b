"""What plugins raise and print."""

from __future__ import annotations

from pathlib import Path

import pytest

from labctl.errors import PluginError, UsageError
from labctl.registry.guard import guarded, place_within
from labctl.registry.registry import Registry


def test_what_is_raised_is_the_plugins_and_what_labctl_raises_passes() -> None:
    failed = r"spec\(\) of it failed: KeyError: 'x'"
    with pytest.raises(PluginError, match=failed), guarded("spec() of it"):
        _ = dict[str, int]()["x"]
    with pytest.raises(UsageError, match="as it is"), guarded("spec() of it"):
        raise UsageError("as it is")


def test_what_is_printed_leaves_standard_output_to_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with guarded("spec() of it"):
        print("from a card")
    folder = tmp_path / "loud"
    folder.mkdir()
    (folder / "__init__.py").write_text("print('as it is imported')\nraise OSError\n")
    with pytest.raises(PluginError, match="'loud' failed to import: OSError"):
        Registry(tmp_path).load("loud")
    said = capsys.readouterr()
    assert said.out == "" and said.err.split("\n")[:2] == ["from a card", "as it is imported"]


def test_a_place_is_that_of_the_innermost_call_in_a_folder(tmp_path: Path) -> None:
    inner, outer = tmp_path / "plug" / "inner.py", tmp_path / "elsewhere.py"
    inner.parent.mkdir()
    inner.write_text("def run(other):\n    return other()\n")
    outer.write_text("def run():\n    raise ValueError('deep')\n")
    names: dict[str, dict[str, object]] = {}
    for path in (inner, outer):
        names[path.stem] = {}
        exec(compile(path.read_text(), str(path), "exec"), names[path.stem])
    with pytest.raises(ValueError) as caught:
        names["inner"]["run"](names["elsewhere"]["run"])  # type: ignore[operator]
    assert place_within(caught.value, [tmp_path / "plug"]) == "inner.py:2"
    assert place_within(caught.value, [tmp_path]) == "elsewhere.py:2"
    assert place_within(caught.value, [tmp_path / "none"]) == ""
