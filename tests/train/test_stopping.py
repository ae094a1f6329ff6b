"""Runs that end early because a rule of their recipe was met."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from labctl.execute.rounds import work
from labctl.execute.stop import Stop
from labctl.recipe.looks import most_looks
from labctl.recipe.predicate import Predicate
from labctl.registry.registry import Registry
from labctl.store.run import Run
from labctl.store.status import Status
from labctl.train.assembly import Assembly
from labctl.train.stopping import Stopping
from labctl.train.training import Training

RULE = 'stop={collapsed: "test/acc < 100% for 2"}'


@pytest.mark.slow
def test_a_met_rule_ends_the_run_and_is_its_answer(lab: Any) -> None:
    (run, _) = lab.train_here("tiny", RULE)
    assert run.status is Status.HALTED and run.status.is_final
    end = run.end
    assert end["step"] == 4 * 44, "every second epoch of 44 steps is evaluated; the second is it"
    assert end["message"] == "collapsed at step 176: test/acc < 1 for 2"
    assert not run.weights_path.exists()
    code, output = lab.labctl("run", "tiny", RULE, "--no-track")
    assert code == 3 and "2 HALTED before" in output


@pytest.mark.slow
def test_a_rule_that_is_never_met_changes_nothing_but_the_key(lab: Any) -> None:
    (plain, _) = lab.train_here("tiny")
    (watched, _) = lab.train_here("tiny", "stop={never: test/acc > 200%}")
    assert watched.status is Status.DONE
    assert watched.plan.key != plain.plan.key
    assert watched.journal.curves == plain.journal.curves


@pytest.mark.slow
def test_a_rule_over_a_metric_that_never_came_is_said(lab: Any) -> None:
    (run, _) = lab.train_here("tiny", "stop={never: train/accuracy < 0}")
    (warning,) = run.journal.of("warning")
    assert (
        warning.fields["message"] == "stop.never was never tried: no train/accuracy was journalled"
    )


@pytest.mark.slow
def test_a_resumed_run_remembers_what_its_rules_have_seen(lab: Any) -> None:
    jobs = lab.jobs("tiny", RULE)
    (run, _) = lab.runs("tiny", RULE)
    run.create(jobs[0].plan, {})
    assembly = Assembly(jobs[0].plan, lab.registry, places(lab))
    first = Training(run, assembly, torch.device("cpu"), {})
    first.advance(3 * 44)  # one evaluation below the mark
    first.checkpoint()
    first.end("STOPPED")
    (attempt,) = work([run], lab.project.data_roots, Stop(), Registry(lab.project.plugins))
    assert attempt.status is Status.HALTED
    assert (run.end or {})["step"] == 4 * 44


def places(lab: Any) -> Any:
    from labctl.registry.card import Places

    return Places(lab.project.data_roots)


def test_the_memory_of_rules_is_the_journal_up_to_the_step(tmp_path: Any) -> None:
    from labctl.store.journal import JournalWriter

    journal = JournalWriter(tmp_path, 1, 0, {})
    for step, value in enumerate((0.5, 0.9, 0.1, 0.1)):
        journal.metrics(step + 1, {"a": value})
    journal.close()
    rules = {"fell": "a < max(a) - 0.5 for 3"}
    assert Stopping.resumed(rules, Run(tmp_path), 3).note(4, {"a": 0.1}) is None
    assert Stopping.resumed(rules, Run(tmp_path), 4).note(5, {"a": 0.1}) == "fell"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("stop={x: test/acc}", "stop.x"),
        ("stop={x: val/acc < 1}", "stop.x looks at val/, and no validation part is carved"),
        ("stop={x: test/acc < 1 after 90ep}", "nothing comes after 90ep in 10ep"),
        ("stop={x: test/acc < 1 for 11}", "test/acc is journalled at most 10 times in 10ep, so"),
        ("stop={x: test/acc < 1 for 8 after 3ep}", "at most 7 times after 3ep in 10ep"),
        ("stop={x: train/loss > 1 for 999}", "write `for 100` or fewer"),
        ("stop={x: train/clean/acc < 1 for 2}", "at most 1 times in 10ep"),
        ("stop={x: test/acc < 97}", "test/acc < 97: accuracies are fractions, not 97\n"),
        ("stop={x: test/acc < 97}", "did you mean 97%?"),
        ("stop={x: train/top5_acc < max(test/acc) - 10}", "did you mean 10%?"),
        ("stop={x: tset/acc < 1}", "did you mean 'test'?"),
        ("stop={x: test/accc < 1}", "no metric 'test/accc': an evaluation finds acc, loss"),
        ("stop={x: knob/lrr < 1}", "did you mean 'knob/lr'?"),
        ("stop={x: acc < 1}", "stop.x looks at acc, which no run journals while it trains"),
        ("stop={x: test/acc < 1 after nowhere}", "unknown mark 'nowhere'"),
        ("stop={a b: test/acc < 1}", "'a b' cannot name a way to end"),
    ],
)
def test_faults_of_rules_are_found_before_training(toys: Any, override: str, words: str) -> None:
    (problem,) = toys.problems(override)
    assert words in problem


@pytest.mark.parametrize(
    "rule",
    [
        "test/acc < 97%", "test/acc > 200%", "test/acc <= 1", "100 * test/acc < 97",
        "train/loss > 97", "test/acc < 2 * train/acc - 0.5",
    ],
)  # fmt: skip
def test_what_may_be_meant_as_it_stands_is_no_fault(toys: Any, rule: str) -> None:
    assert toys.problems(f"stop={{x: '{rule}'}}") == []


def test_a_planned_rule_is_read_again_as_it_was_meant(toys: Any) -> None:
    (plan, *_) = toys.plans("toy", "stop={x: test/acc > 200%}")
    assert plan.work.stop == {"x": "test/acc > 2"}
    assert Stopping(plan.work.stop).note(1, {"test/acc": 0.5}) is None


@pytest.mark.parametrize("metrics", ["test/acc", "train/loss", "knob/lr"])
@pytest.mark.parametrize("after", ["", "after 2.5ep", "after 9ep"])
@pytest.mark.parametrize(
    "settings",
    [
        ("evaluate.every=3ep",),
        ("evaluate.every=3ep", "evaluate.tail=4ep"),
        ("evaluate.every=100step", "evaluate.tail=2.5ep", "runtime.log_every=7step"),
        ("budget=97step",),
    ],
)
def test_the_most_looks_are_those_of_a_run(
    toys: Any, metrics: str, after: str, settings: tuple[str, ...]
) -> None:
    if "budget=97step" in settings:
        after = after and "after 50step"
    recipe = toys.load("toy", *settings)
    (plan, *_) = toys.plans("toy", *settings)
    (comparison,) = Predicate.parse(f"{metrics} < 1 {after}").resolved(recipe.clock).comparisons
    every = plan.runtime.log_every
    steps = [step for step in range(1, plan.work.steps + 1) if step > comparison.after.value]
    logged = [step for step in steps if step % every == 0 or step == plan.work.steps]
    expected = list(filter(plan.work.is_evaluated, steps)) if metrics == "test/acc" else logged
    assert most_looks(comparison, recipe.document, recipe.clock) == len(expected)
