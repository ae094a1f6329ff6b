"""Whether what a recipe plans over a run fits its budget: marks, lengths, schedules, stop rules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from labctl.errors import PluginError, Problem, did_you_mean
from labctl.registry.card import DataSpec, Knob
from labctl.registry.guard import guarded

from .check import Check
from .document import Document, ScheduleBlock
from .looks import is_evaluated, most_looks
from .metrics import is_validated, never_found
from .predicate import Comparison
from .schedule import Schedule
from .selection import Selected, Selection
from .source import Steps, number
from .times import Clock, Time, is_mark_name

MOST_STEPS = 10**9
SAMPLES = 200
"""Stretches of a run at whose ends a plugin's schedule is asked where it stands."""


def clock_of(check: Check, document: Document, spec: DataSpec, budget: Time | None) -> Clock | None:
    """The budget in steps; None after reporting why there is none.

    Args:
        budget: what the document's comes to; None if that was reported to be faulty.
    """
    if budget is None or any(
        check.is_faulty(*steps) for steps in (("data", "val"), ("batch_size",), ("budget",))
    ):
        return None
    total, val, size = spec.sizes["train"], document.data.val, document.batch_size
    left = total - val
    if left <= 0:
        message = f"data.val: {val} of {total} training examples leaves none to train on"
        check.report(("data", "val"), message, f"val: {total // 10}")
        return None
    if size > left:
        message = f"batch_size {size} exceeds the {left} training examples of {spec.name}"
        check.report(("batch_size",), message, f"batch_size: {min(64, left)}")
        return None
    tokens = spec.tokens_per_item
    epoch = Clock(0, left // size, tokens * size if tokens else None)
    try:
        steps = round(epoch.step(budget))
    except ValueError as error:
        check.report(("budget",), f"budget: {error}")
        return None
    if not 1 <= steps <= MOST_STEPS:
        message = f"budget {document.budget} is {steps:,} steps of {size} examples"
        check.report(("budget",), message, f"from 1 to {MOST_STEPS:,} steps can be planned")
        return None
    marks = {name: time for name, time in document.marks.items() if time.unit != "mark"}
    return Clock(steps, epoch.steps_per_epoch, epoch.tokens_per_step, marks)


def check_marks(check: Check, document: Document) -> None:
    """Whether marks can be referred to, and have times of their own."""
    for name, time in document.marks.items():
        if not is_mark_name(name):
            message = f"{name!r} cannot name a mark"
            check.report(("marks", name), message, "use letters, digits and _")
        if time.unit == "mark":
            message = f"mark {name} is another mark, {time}"
            check.report(("marks", name), message, "give it a time of its own, such as 10%")


def check_times(check: Check, document: Document, clock: Clock) -> None:
    """Whether marks lie within the budget, and lengths can be counted in steps."""
    for name, time in document.marks.items():
        if time.unit == "mark":
            continue
        step = _step(check, clock, time, ("marks", name))
        if step is not None and step > clock.steps:
            message = f"mark {name} is {time}, after the budget of {document.budget} ends"
            check.report(("marks", name), message, "give it in %, or a longer budget")
    lengths: dict[Steps, Time | None] = {
        ("evaluate", "every"): document.evaluate.every,
        ("evaluate", "tail"): document.evaluate.tail,
        ("runtime", "log_every"): document.runtime.log_every,
    }
    for knob, entry in document.schedules.items():
        if isinstance(entry, ScheduleBlock):
            lengths["schedules", knob, "every"] = entry.every
    for steps, length in lengths.items():
        if length is not None:
            _step(check, clock, length, steps)


def check_stop(
    check: Check,
    document: Document,
    clock: Clock,
    spec: DataSpec,
    knobs: dict[str, Knob] | None,
) -> None:
    """Whether the rules that stop a run can be met: within the budget, by what is journalled."""
    has_val = is_validated(document, spec)
    heard = sorted({"knob", "train", "val", *({"test"} & spec.sizes.keys())})
    for name, rule in document.stop.items():
        steps: Steps = ("stop", name)
        if not is_mark_name(name):
            message = f"{name!r} cannot name a way to end"
            check.report(steps, message, "use letters, digits and _, for example `collapsed`")
        for comparison in rule.comparisons:
            after = _step(check, clock, comparison.after, steps)
            if after is not None and after >= clock.steps:
                message = (
                    f"stop.{name}: nothing comes after {comparison.after} in {document.budget}"
                )
                check.report(steps, message, "give it in %, or a longer budget")
            elif after is not None and comparison.times > 1:
                _check_times_running(check, document, clock, name, comparison)
            for value in comparison.percentages:
                message = f"stop.{name}: {comparison}: accuracies are fractions, not {value:g}"
                check.report(steps, message, f"did you mean {value:g}%?")
        for metric in sorted(rule.metrics):
            first, slash, _ = metric.partition("/")
            if not slash or first not in heard:
                message = f"stop.{name} looks at {metric}, which no run journals while it trains"
                check.report(steps, message, did_you_mean(first, heard))
            elif fault := _unheard(document, knobs, metric):
                check.report(steps, f"stop.{name}: {fault.message}", fault.hint)
        if not has_val and any(metric.startswith("val/") for metric in rule.metrics):
            message = f"stop.{name} looks at val/, and no validation part is carved"
            check.report(steps, message, "set data.val, or look at test/")


def _unheard(document: Document, knobs: dict[str, Knob] | None, metric: str) -> Problem | None:
    """Why no run of the recipe journals a metric of a knob or of an evaluation; what else a step
    finds is the learner's affair."""
    if is_evaluated(metric):
        return never_found(document, metric)
    prefix = "knob/"
    if knobs is None or not metric.startswith(prefix):
        return None
    numbers = [f"{prefix}{name}" for name, knob in knobs.items() if not knob.choices]
    if metric in numbers:
        return None
    return Problem(f"no knob is journalled as {metric}", hint=did_you_mean(metric, numbers))


def _check_times_running(
    check: Check, document: Document, clock: Clock, name: str, comparison: Comparison
) -> None:
    """Whether a run looks at a comparison as often as it has to hold."""
    try:
        most = most_looks(comparison, document, clock)
    except ValueError:
        return  # said of the time itself
    if comparison.times > most:
        metrics = sorted(comparison.metrics)
        after = f" after {comparison.after}" if clock.step(comparison.after) else ""
        message = (
            f"stop.{name}: {' or '.join(metrics)} is journalled at most {most} times{after} in "
            f"{document.budget}, so nothing holds {comparison.times} times running"
        )
        oftener = "evaluate.every" if any(map(is_evaluated, metrics)) else "runtime.log_every"
        hint = f"write `for {most}` or fewer, or give a longer budget or a shorter {oftener}"
        check.report(("stop", name), message, hint)


def _step(check: Check, clock: Clock, time: Time, steps: Steps) -> float | None:
    try:
        return clock.step(time)
    except ValueError as error:
        check.report(steps, f"{'.'.join(map(str, steps))}: {error}")
        return None


def knobs_of(check: Check, parts: list[Selected] | None, spec: DataSpec) -> dict[str, Knob] | None:
    """Every knob of the parts by name, with the learning rate, which all optimizers have."""
    if parts is None:
        return None
    rate = Knob("lr", 0.0, "learning rate of the optimizer, per step", low=0.0)
    knobs = {rate.name: rate}
    for part in parts:
        try:
            declared = part.ask("knobs", spec)
            are_knobs = isinstance(declared, tuple | list)
            if not are_knobs or not all(isinstance(knob, Knob) for knob in declared):
                what = f"knobs() of {part.card.kind} {part.card.name!r}"
                raise PluginError(f"{what} gave {declared!r}", hint="it gives a tuple of Knob")
        except PluginError as error:
            check.plugin(("model",), error)
            return None
        for knob in declared:
            first = knobs.setdefault(knob.name, knob)
            if first is rate:
                check.report(("model",), "knob 'lr' is the optimizer's", "give it another name")
            elif replace(first, summary="") != replace(knob, summary=""):
                message = f"knob {knob.name!r} is declared twice, in two ways"
                hint = "all who share a knob declare it alike; or give one of them another name"
                check.report(("model",), message, hint)
    return knobs


def check_schedules(
    check: Check, selection: Selection, knobs: dict[str, Knob] | None, clock: Clock | None
) -> None:
    """Whether every schedule turns a knob, to where it can stand, within the budget."""
    document, schedules = selection.document, selection.schedules
    if "lr" not in schedules and not check.is_faulty("schedules", "lr"):
        hint = "for example `lr: {kind: cosine, peak: 1e-3, warmup: 5%}`"
        check.report(("schedules", "lr"), "schedules.lr is missing", hint)
    are_marks_known = clock is not None and not check.is_faulty("marks")
    for name, schedule in schedules.items():
        steps: Steps = ("schedules", name)
        knob = knobs.get(name) if knobs else None
        if knobs is not None and knob is None:
            check.report(steps, f"no knob {name!r} to turn", did_you_mean(name, knobs))
        if schedule is None:
            continue
        fault = _fault(check, schedule, clock, steps) if clock and are_marks_known else None
        if fault is None and knob is not None:
            fault = next(_misplaced(schedule, knob), None)
        if fault is None and knob is not None and clock and are_marks_known:
            fault = _astray(check, name, schedule, knob, clock)
        if fault:
            check.report(steps, f"schedules.{name}: {fault}", _unquoted(schedule))
        entry = document.schedules[name]
        has_every = isinstance(entry, ScheduleBlock) and entry.every is not None
        if knob is not None and knob.kind == "continuous" and has_every:
            message = f"schedules.{name}.every: {name} is continuous and follows every step"
            check.report((*steps, "every"), message, "remove every")


def _fault(check: Check, schedule: Schedule, clock: Clock, steps: Steps) -> str | None:
    try:
        return schedule.fault(clock)
    except ValueError as error:
        return str(error)


def _unquoted(schedule: Schedule) -> str:
    """What to write if a value is the text of a number."""
    texts = [value for value in schedule.values() if isinstance(value, str)]
    numbers = [text for text in texts if not isinstance(number(text), str)]
    return f"write it without quotes: {numbers[0]}" if numbers else ""


def _astray(check: Check, name: str, schedule: Schedule, knob: Knob, clock: Clock) -> str | None:
    """Where on the way the schedule of a plugin leaves the knob's range: what it goes through need
    not be among the values that it names."""
    if type(schedule).__module__ == Schedule.__module__:
        return None
    knob = replace(knob, integer=False)  # a ladder rounds
    try:
        with guarded(f"at() of schedules.{name}"):
            fixed = schedule.resolved(clock)
            for place in range(SAMPLES + 1):
                step = place * (clock.steps - 1) / SAMPLES
                value: object = fixed.at(step)
                if not isinstance(value, float | int | str) or value != value:
                    return f"{value!r} at step {step:g}, where a number is wanted"
                if fault := knob.fault(value):
                    return f"{fault} (at step {step:g})"
    except PluginError as error:
        check.plugin(("schedules", name), error)
    return None


def _misplaced(schedule: Schedule, knob: Knob) -> Iterator[str]:
    for value in schedule.values():
        if fault := knob.fault(value):
            yield fault
