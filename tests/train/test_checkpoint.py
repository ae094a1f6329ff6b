from __future__ import annotations

from pathlib import Path

import pytest
import torch

from labctl.errors import RunError
from labctl.train import checkpoint


def state(number: int) -> dict[str, object]:
    return {
        "step": number,
        "model": {"w": torch.full((300,), float(number))},
        "list": [torch.arange(3)],
    }


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    assert checkpoint.load(path) == (None, [])
    checkpoint.save(path, state(1))
    loaded, faults = checkpoint.load(path)
    assert loaded is not None and not faults
    assert loaded["step"] == 1 and torch.equal(loaded["model"]["w"], torch.full((300,), 1.0))


@pytest.mark.parametrize("position", [0, 100, -1, -10])
def test_any_flipped_bit_is_noticed_and_the_one_before_is_used(
    tmp_path: Path, position: int
) -> None:
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, state(1))
    checkpoint.save(path, state(2))
    data = bytearray(path.read_bytes())
    data[position] ^= 4
    path.write_bytes(bytes(data))
    loaded, faults = checkpoint.load(path)
    assert loaded is not None and loaded["step"] == 1
    assert len(faults) == 1 and faults[0].startswith("checkpoint.pt: ")


def test_a_crash_between_the_two_renames_loses_one_checkpoint_at_most(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, state(1))
    path.replace(tmp_path / "checkpoint.pt.previous")
    loaded, _ = checkpoint.load(path)
    assert loaded is not None and loaded["step"] == 1


def test_no_usable_checkpoint_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"junk")
    with pytest.raises(RunError, match="truncated") as caught:
        checkpoint.load(path)
    assert "--restart" in caught.value.hint
