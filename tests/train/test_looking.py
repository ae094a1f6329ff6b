"""What a learner finds when it looks at itself once an epoch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from labctl.store.run import Run

CARDS = """
from labctl.api import Empty, LearnerCard


def _build(config, parts):
    import torch

    from labctl.api import Backprop

    class Curious(Backprop):
        def look(self, batch, knobs):
            torch.rand(100)
            return {"seen": (batch.index[0].float(), torch.ones(()))}

    return Curious(parts)


cards = (LearnerCard(name="curious", summary="looks at its batch", config=Empty, build=_build),)
"""
PER_EPOCH = 1437 // 32


@pytest.mark.slow
def test_it_looks_before_the_first_step_of_every_epoch_and_changes_no_draw(lab: Any) -> None:
    """Dropout and augmentation are those of the same run without looks."""
    folder = lab.root / "plugins" / "curious"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(CARDS, encoding="utf-8")
    options = ("seeds=1", "runtime.log_every=1step", "budget=2ep", "schedules.token_drop=0.2",
               "schedules.lr=1e-3", "model.dropout=0.3")  # fmt: skip
    (plain,) = lab.train_here("tiny", *options)
    (curious,) = lab.train_here("tiny", *options, "learner={kind: curious}")
    assert sorted(curious.journal.curves["train/seen"]) == [1, PER_EPOCH + 1]
    assert "train/seen" not in plain.journal.curves
    ours, theirs = weights(plain), weights(curious)
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def weights(run: Run) -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = torch.load(run.weights_path, weights_only=True)
    return loaded
