"""Sweeps by function; what they train is tested with the commands."""

from __future__ import annotations

from typing import Any

import pytest

import labctl
from labctl.verbs import sweeping


def test_a_sweep_says_beforehand_that_no_seeds_join(
    lab: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.write("mg", "extends: tiny.yaml\nseeds: {min: 2, max: 4, until: ci_halfwidth <= 1}\n")
    monkeypatch.setattr(sweeping, "carry_out", lambda *_: [])
    given: dict[str, Any] = {"values": "1,2", "recipe": "mg", "project": lab.root}
    labctl.sweep("model.depth", **given)
    assert "each point has the first 2 seeds" in capsys.readouterr().out
    labctl.sweep("model.depth", seeds=2, **given)
    assert "seeds" not in capsys.readouterr().out
