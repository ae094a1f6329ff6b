from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import pytest

from labctl.errors import EnvironmentProblem
from labctl.store.atomic import write_atomic, write_json, write_text


def test_a_writer_that_fails_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.json"
    write_json(path, {"old": 1})
    before = path.read_bytes()

    def half(file: BinaryIO) -> None:
        file.write(b"half")
        raise RuntimeError("died")

    with pytest.raises(RuntimeError):
        write_atomic(path, half)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["file.json"]


def test_what_the_disk_refuses_names_the_file_and_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        EnvironmentProblem, match=r"cannot write .*file/x: (Not a directory|File exists)"
    ) as caught:
        write_text(tmp_path / "file" / "x", "text")
    assert "LABCTL_RUNS" in caught.value.hint


def test_json_holds_no_value_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x", {"loss": float("nan")})
    assert not (tmp_path / "x").exists()
