"""A plugin of another kind, text under a learner of its own, through the unmodified trainer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from scipy.special import erf, log_softmax, softmax

from labctl.execute.display import display_for
from labctl.execute.options import Options
from labctl.execute.supervisor import Supervisor
from labctl.store.run import Run
from labctl.store.status import Status
from labctl.train import checkpoint

TEXT = Path(__file__).parents[1] / "plugins" / "marginalia" / "text.py"
CONTEXT, BATCH, NEAR = 32, 16, 4
STEPS = 391
"""200 ktok, in batches of 512 tokens."""


@pytest.fixture(scope="module")
def characters() -> Callable[[str], list[int]]:
    """Characters of a split, as numbers."""
    namespace: dict[str, Any] = {}
    exec(TEXT.read_text(encoding="utf-8"), namespace)
    read: Callable[[str], list[int]] = namespace["encoded"]
    return read


def entropy(symbols: Iterable[Any]) -> float:
    """Nats per symbol."""
    counts = Counter(symbols)
    total = counts.total()
    return -sum(n / total * math.log(n / total) for n in counts.values())


def values(run: Run, name: str) -> dict[int, float]:
    return run.journal.curves[name]


NOT_WORK = ("seconds", "replicas", "message")


def told(run: Run) -> list[tuple[str, int, dict[str, Any]]]:
    """All that a journal says of the work itself: not when, how fast, and in which attempt."""
    return [
        (r.kind, r.step, {k: v for k, v in r.fields.items() if k not in NOT_WORK})
        for r in run.journal.records
        if r.kind in ("metrics", "phase", "first_losses")
    ]


def weights(run: Run) -> bytes:
    return run.weights_path.read_bytes()


@pytest.mark.slow
def test_it_learns_more_than_single_characters_and_pairs(
    text_run: Run, characters: Callable[[str], list[int]]
) -> None:
    text = characters("test")
    single, pair = entropy(text), entropy(pairwise(text)) - entropy(text)
    assert text_run.status is Status.DONE
    assert single > 2.5
    assert values(text_run, "test/loss")[STEPS] < single - 1.5
    assert values(text_run, "test/loss")[STEPS] < pair - 0.3


def test_knobs_stand_where_their_schedules_say(text_run: Run) -> None:
    decay, inertia = values(text_run, "knob/activation_decay"), values(text_run, "knob/inertia")
    assert len(decay) == 40
    for step, value in decay.items():
        # Of the last step that was taken, counted from 0.
        assert value == pytest.approx(0.2 * (1 - (step - 1) / STEPS), abs=1e-12)
    assert set(inertia.values()) == {0.9}


def test_structural_knob_is_realised_in_phases(text_run: Run) -> None:
    phases = [(r.step, dict(r.fields)) for r in text_run.journal.of("phase")]
    near = sum(min(place, NEAR) for place in range(1, CONTEXT + 1)) / CONTEXT
    # Half of 391 steps is 195.5; the knob may change every 10 steps.
    assert phases == [
        (0, {"end": 200, "structural": {"reach": "near"}, "realised": {"seen": near}}),
        (200, {"end": 391, "structural": {"reach": "far"}, "realised": {"seen": 16.5}}),
    ]


def test_terms_of_the_loss_are_journalled_and_add_up(text_run: Run) -> None:
    total = values(text_run, "train/loss")
    fit = values(text_run, "train/loss_cross_entropy")
    decay = values(text_run, "train/loss_activation_decay")
    assert total.keys() == fit.keys() == decay.keys()
    for step in total:
        assert total[step] == pytest.approx(fit[step] + decay[step], rel=1e-5)
    assert decay[10] > 1e-3


def test_evaluation_equals_a_computation_of_its_own(
    text_run: Run, characters: Callable[[str], list[int]]
) -> None:
    """The model once more, in numpy and float64, from the saved weights."""
    text = np.array(characters("test"))
    count = (len(text) - 1) // CONTEXT
    inputs = text[: count * CONTEXT].reshape(count, CONTEXT)
    targets = text[1 : count * CONTEXT + 1].reshape(count, CONTEXT)
    saved = torch.load(text_run.weights_path, weights_only=True)
    w = {name: value.double().numpy() for name, value in saved.items()}

    x = w["letters.weight"][inputs] + w["places"]
    scores = (x @ w["query.weight"].T) @ (x @ w["key.weight"].T).swapaxes(1, 2)
    scores = scores / math.sqrt(x.shape[-1]) + np.triu(np.full((CONTEXT, CONTEXT), -np.inf), 1)
    x = x + softmax(scores, axis=-1) @ (x @ w["value.weight"].T)
    inner = x @ w["inner.weight"].T + w["inner.bias"]
    hidden = inner * (1 + erf(inner / math.sqrt(2))) / 2
    x = x + hidden @ w["outer.weight"].T + w["outer.bias"]
    logits = x @ w["head.weight"].T + w["head.bias"]

    chosen = np.take_along_axis(log_softmax(logits, axis=-1), targets[..., None], axis=-1)
    loss, decay = -chosen.mean(), 0.2 / STEPS * (hidden**2).mean()
    right = (logits.argmax(-1) == targets).mean()
    last = text_run.journal.last
    assert last["test/loss"] == pytest.approx(loss, abs=1e-5)
    assert last["test/acc"] == pytest.approx(right, abs=2 / targets.size)
    # Evaluation moves the weight of the decay to 0, and says what it is where training left it.
    assert last["test/loss_activation_decay"] == 0.0
    assert last["test/as_trained/loss"] == pytest.approx(loss + decay, abs=1e-5)
    assert last["test/as_trained/loss_activation_decay"] == pytest.approx(decay, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("budget", "steps"),
    [("20ktok", 39), ("0.02Mtok", 39), ("20480tok", 40), ("57step", 57), ("2ep", 2 * (749 // 16))],
)
def test_budgets_count_tokens_steps_or_epochs(
    text_lab: Callable[[str], Any], budget: str, steps: int
) -> None:
    (run,) = text_lab("lab").train(None, f"budget={budget}")
    assert run.status is Status.DONE
    assert run.plan.work.steps == steps
    assert max(values(run, "train/loss")) == max(values(run, "test/loss")) == steps


def test_the_ledger_counts_what_the_definition_says(text_run: Run) -> None:
    """Products of one window: 3 D D + 8 D D + D V per character, and 2 N N D of attention."""
    width, letters = 32, 27
    macs = CONTEXT * (3 * width**2 + 8 * width**2 + width * letters) + 2 * CONTEXT**2 * width
    ledger = text_run.ledger
    assert ledger["uncounted"] == []
    assert ledger["forward_flops"] == 2 * macs
    # Backward, each product costs two more; but none is needed towards the integers that go in.
    assert ledger["phases"][0]["step_flops"] == 3 * BATCH * 2 * macs


@pytest.mark.slow
def test_two_runs_in_one_worker_are_the_two_alone(text_lab: Callable[[str], Any]) -> None:
    alone, together = text_lab("alone"), text_lab("together")
    apart = alone.prepared(alone.jobs("smoke", "seeds=2"))
    for run in apart:
        alone.work([run])
    joined = together.prepared(together.jobs("smoke", "seeds=2"))
    together.work(joined)
    assert [run.status for run in apart + joined] == [Status.DONE] * 4
    assert told(apart[0]) != told(apart[1])
    for before, after in zip(apart, joined, strict=True):
        assert told(before) == told(after)
        assert weights(before) == weights(after)


@pytest.mark.slow
@pytest.mark.parametrize("turns", [1, 10, 17, 25])
def test_a_stopped_run_ends_as_if_it_had_not_stopped(
    text_lab: Callable[[str], Any], turns: int
) -> None:
    """39 steps; the structural knob changes at step 20."""
    straight, broken = text_lab("straight"), text_lab("broken")
    (whole,) = straight.prepared(straight.jobs("smoke"))
    straight.work([whole])
    (run,) = broken.prepared(broken.jobs("smoke"))
    broken.work([run], turns)
    assert (run.status, run.journal.durable_step) == (Status.STOPPED, turns)
    broken.work([run])
    assert run.status is Status.DONE
    assert run.journal.attempts == 2
    assert told(run) == told(whole)
    assert weights(run) == weights(whole)


@pytest.mark.slow
def test_the_learner_state_matters(text_lab: Callable[[str], Any]) -> None:
    """Otherwise the tests above would pass without saving it."""
    (whole, broken) = text_lab("whole"), text_lab("broken")
    (straight,) = whole.train("smoke")
    (run,) = broken.prepared(broken.jobs("smoke"))
    broken.work([run], 17)
    state = torch.load(run.checkpoint_path, weights_only=True)
    momentum = state["learner"]["momentum"]
    assert all(bool(tensor.count_nonzero()) for tensor in momentum)
    state["learner"]["momentum"] = [torch.zeros_like(tensor) for tensor in momentum]
    checkpoint.save(run.checkpoint_path, state)
    broken.work([run])
    assert weights(run) != weights(straight)


@pytest.mark.slow
def test_a_supervised_process_gives_the_same_run(text_lab: Callable[[str], Any]) -> None:
    """Another process, the plugin's stored code, the same bits, on as many threads."""
    here, there = text_lab("here"), text_lab("there")
    display, options = display_for(Console(quiet=True)), Options(jobs=1, track=False)
    supervisor = Supervisor(there.project, there.registry, display, options)
    (outcome,) = supervisor.carry_out(there.jobs("smoke"))
    assert outcome.status is Status.DONE
    (begin,) = outcome.run.journal.of("begin")
    threads = torch.get_num_threads()
    torch.set_num_threads(begin.fields["threads"])
    try:
        (run,) = here.train("smoke")
    finally:
        torch.set_num_threads(threads)
    assert told(outcome.run) == told(run)
    assert weights(outcome.run) == weights(run)
