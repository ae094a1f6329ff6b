"""What the checks stand on: finding the project, ranges of knobs, differences of states, names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from labctl.project import Project
from labctl.registry.card import Knob
from labctl.testing.bench import positions, project_around, usable_positions
from labctl.testing.naming import is_name, nearest
from labctl.testing.state import differences


def test_the_project_is_the_nearest_folder_with_plugins_or_recipes(project: Project) -> None:
    root = project.root / "deep" / "mine"
    (root / "recipes").mkdir(parents=True)
    test = root / "plugins" / "my_vit" / "test_my_vit.py"
    test.parent.mkdir(parents=True)
    assert project_around(test).root == root
    assert project_around(root / "tests" / "test_all.py").root == root
    assert project_around(project.root / "test_all.py").root == project.root


def test_positions_of_a_knob() -> None:
    ranged = positions(Knob("noise", 0.3, low=0.0, high=1.0))
    assert (ranged[0], ranged[-1], 0.3 in ranged) == (0.0, 1.0, True)
    assert positions(Knob("noise", 0.3)) == [0.3]
    assert positions(Knob("mode", "a", kind="structural", choices=("a", "b"))) == ("a", "b")
    depth = Knob("depth", 2, kind="structural", integer=True, low=1, high=4)
    assert positions(depth) == [1, 2, 3, 4]
    rounded = Knob(
        "drop", 0.0, kind="structural", low=0, high=1, ladder=lambda v: [round(x) for x in v]
    )
    assert set(usable_positions(rounded)) == {0, 1}


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        ({"a": [torch.ones(2)]}, {"a": [torch.ones(2)]}, []),
        ({"a": [torch.ones(2)]}, {"a": [torch.tensor([1.0, 2.0])]}, ["a[0] (1 of 2 values)"]),
        (torch.tensor([float("nan")]), torch.tensor([float("nan")]), []),
        (torch.tensor([float("inf")]), torch.tensor([-float("inf")]), [" (1 of 1 values)"]),
        ({"a": 1}, {"b": 1}, ["a (only one has it)", "b (only one has it)"]),
        ({"a": [1]}, {"a": [1, 2]}, ["a (lengths 1 and 2)"]),
        ({"a": {"b": 0.1}}, {"a": {"b": 0.2}}, ["a.b (0.1 and 0.2)"]),
        ({"a": float("nan")}, {"a": float("nan")}, []),
    ],
)
def test_differences(one: object, other: object, found: list[str]) -> None:
    assert list(differences(one, other)) == found


def test_dtypes_and_shapes_differ() -> None:
    (dtype,) = differences(torch.ones(2), torch.ones(2).double())
    (shape,) = differences(torch.ones(2), torch.ones(1, 2))
    assert "float64" in dtype
    assert "(1, 2)" in shape


@pytest.mark.parametrize("text", ["MyVit", "my-vit", "My ViT", "_vit", "9lives", "class", "ÄÖ", ""])
def test_the_nearest_name_is_a_name(text: str) -> None:
    assert not is_name(text)
    assert is_name(nearest(text))


def test_the_scaffold_needs_neither_torch_nor_pytest() -> None:
    """Of a wheel without pytest, `labctl new plugin` must still work."""
    code = (
        "import sys; from labctl.testing import scaffold; "
        "print(sorted({'torch', 'pytest', '_pytest'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_unknown_names_are_refused() -> None:
    import labctl.testing

    with pytest.raises(AttributeError, match="no attribute 'PluginSuit'"):
        _ = labctl.testing.PluginSuit


def test_files_of_the_skeleton_are_all_written() -> None:
    from labctl.testing.scaffold import FILES, SKELETON

    here = {path.name for path in SKELETON.iterdir() if path.name != "__pycache__"}
    assert here == set(FILES)
    assert all((Path(SKELETON) / name).is_file() for name in FILES)
