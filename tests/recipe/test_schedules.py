"""Schedules against closed forms written out anew, and what must hold of all of them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from labctl.recipe.schedule import KINDS, Schedule
from labctl.recipe.times import Clock, Time

CLOCK = Clock(100, 10, 32, {"soft": Time(20, "%"), "hard": Time(6, "ep")})


def schedule(kind: str, clock: Clock | None = CLOCK, **fields: Any) -> Schedule:
    """As a recipe has it, with `from_` for `from`; resolved unless `clock` is None."""
    block = {name.removesuffix("_"): value for name, value in fields.items()}
    made = KINDS[kind].model_validate_json(json.dumps(block), by_alias=True, by_name=False)
    return made if clock is None else made.resolved(clock)


def values(schedule: Schedule, *steps: float) -> list[Any]:
    return [schedule.at(step) for step in steps]


def close(*expected: float) -> Any:
    return pytest.approx(list(expected), rel=1e-12, abs=1e-15)


def test_constant() -> None:
    assert values(schedule("constant", value=3), 0, 50, 1e9) == [3.0, 3.0, 3.0]
    assert schedule("constant", value="gather").at(7) == "gather"


def test_linear() -> None:
    ramp = schedule("linear", from_=1, to=5, start="20%", end="60%")
    assert values(ramp, 0, 20, 30, 40, 50, 60, 99) == close(1, 1, 2, 3, 4, 5, 5)


def test_polynomial_is_slow_at_first_or_at_last() -> None:
    slow = schedule("polynomial", from_=0, to=1, power=2)
    fast = schedule("polynomial", from_=0, to=1, power=2, ease="out")
    assert values(slow, 0, 25, 50, 75, 100) == close(0, 1 / 16, 1 / 4, 9 / 16, 1)
    assert values(fast, 0, 25, 50, 75, 100) == close(0, 7 / 16, 3 / 4, 15 / 16, 1)


def test_polynomial_of_the_token_drop() -> None:
    """p(t) = 0.35 ((t - 20) / (160 - 20))^1.5 between epochs 20 and 160 of 200."""
    clock = Clock(200 * 390, 390)
    drop = schedule("polynomial", clock, from_=0, to=0.35, start="10%", end="80%", power=1.5)
    for epoch in range(201):
        share = min(max(Fraction(epoch - 20, 140), 0), 1)
        assert drop.at(390 * epoch) == pytest.approx(0.35 * float(share) ** 1.5, rel=1e-12)


def test_exponential_is_linear_in_the_logarithm() -> None:
    cooling = schedule("exponential", from_=5, to=0.1, start="10%", end="30%")
    for step in range(10, 31):
        expected = math.log(5) + (math.log(0.1) - math.log(5)) * (step - 10) / 20
        assert math.log(float(cooling.at(step))) == pytest.approx(expected, abs=1e-12)


def test_exponential_between_numbers_whose_ratio_overflows() -> None:
    assert schedule("exponential", from_=1e-300, to=1e300).at(50) == pytest.approx(1.0)
    assert schedule("exponential", from_=1e300, to=1e-300).at(50) == pytest.approx(1.0)


def test_cosine_with_warm_up() -> None:
    lr = schedule("cosine", peak=1e-3, to=1e-5, from_=1e-4, warmup="20%")
    for step in range(20):
        assert lr.at(step) == pytest.approx(1e-4 + 9e-4 * step / 20, rel=1e-12)
    for step in range(20, 101):
        half = (1 + math.cos(math.pi * (step - 20) / 80)) / 2
        assert lr.at(step) == pytest.approx(1e-5 + (1e-3 - 1e-5) * half, rel=1e-12)
    assert values(lr, 20, 100, 500) == [1e-3, 1e-5, 1e-5]


def test_cosine_stands_at_the_peak_before_it_begins_if_there_is_no_warm_up() -> None:
    knob = schedule("cosine", peak=0.0, to=0.35, from_=0.9, start="10%", end="80%")
    assert values(knob, 0, 5, 10, 45, 80, 99) == close(0, 0, 0, 0.175, 0.35, 0.35)


def test_cosine_stands_at_its_first_value_before_the_warm_up() -> None:
    knob = schedule("cosine", peak=4, from_=2, start="10%", warmup="20%")
    assert values(knob, 0, 10, 20, 30) == close(2, 2, 3, 4)


def test_step_holds_each_value_from_its_time_on() -> None:
    mask = schedule("step", values={"hard": "prune", "0%": "dense", "30step": "gather"})
    assert values(mask, 0, 29, 29.9, 30, 59, 60, 1000) == [
        "dense", "dense", "dense", "gather", "gather", "prune", "prune",
    ]  # fmt: skip
    assert mask.model_dump(mode="json", by_alias=True)["values"] == {
        "0step": "dense", "30step": "gather", "60step": "prune",
    }  # fmt: skip


PHASES = [
    {"until": "soft", "schedule": 0.0},
    {"until": "60%", "schedule": {"kind": "polynomial", "from": 0, "to": 8, "power": 3}},
    {"until": "9ep", "schedule": {"kind": "step", "values": {"0%": 1, "1ep": 2}}},
    {"until": "100%", "schedule": {"kind": "linear", "from": 5, "to": 6, "end": "50%"}},
]


def test_each_phase_has_its_own_clock() -> None:
    """Written out: stretches of 20, 40, 30 and 10 steps, each schedule counted from its start."""
    knob = schedule("phases", phases=PHASES)
    expected = (
        [0.0] * 20
        + [8 * (step / 40) ** 3 for step in range(40)]
        + [1.0] * 10
        + [2.0] * 20
        + [5 + min(step / 5, 1) for step in range(10)]
    )
    assert values(knob, *range(100)) == close(*expected)


def test_marks_mean_the_same_moment_within_a_phase() -> None:
    inner = {"kind": "linear", "from": 0, "to": 1, "start": "soft", "end": "hard"}
    phases = [{"until": "10step", "schedule": 0.0}, {"until": "100%", "schedule": inner}]
    knob = schedule("phases", phases=phases)
    plain = schedule("linear", from_=0, to=1, start="soft", end="hard")
    assert values(knob, *range(10, 100)) == values(plain, *range(10, 100))


def test_phases_may_hold_phases() -> None:
    halves = [{"until": "50%", "schedule": 1.0}, {"until": "100%", "schedule": 2.0}]
    inner = {"kind": "phases", "phases": halves}
    outer = [{"until": "20%", "schedule": inner}, {"until": "100%", "schedule": inner}]
    knob = schedule("phases", phases=outer)
    assert values(knob, *range(100)) == [1.0] * 10 + [2.0] * 10 + [1.0] * 40 + [2.0] * 40


def test_phases_are_parsed_once() -> None:
    """The trainer asks at every step: a phase holds its schedule, not the text of one."""
    knob = schedule("phases", phases=PHASES)
    assert all(isinstance(phase.schedule, Schedule) for phase in knob.phases)  # type: ignore[attr-defined]  # it is Phases


NUMBER = st.floats(-1e6, 1e6)
POSITIVE = st.floats(1e-6, 1e6)


@st.composite
def ramps(draw: st.DrawFn, value: st.SearchStrategy[float] = NUMBER) -> dict[str, Any]:
    """A block of any kind that goes from one number to another."""
    start, end = sorted(draw(st.lists(st.integers(0, 100), min_size=2, max_size=2, unique=True)))
    times = {"start": f"{start}%", "end": f"{end}%"}
    kind = draw(st.sampled_from(["linear", "polynomial", "exponential", "cosine"]))
    if kind == "exponential":
        value = POSITIVE
    if kind == "cosine":
        warmup = draw(st.integers(0, end - start - 1))
        block = {"peak": draw(value), "to": draw(value), "from": draw(value)}
        return {"kind": kind, **block, **times, "warmup": f"{warmup}%"}
    block = {"kind": kind, "from": draw(value), "to": draw(value), **times}
    if kind == "polynomial":
        block |= {"power": draw(st.floats(0.1, 9)), "ease": draw(st.sampled_from(["in", "out"]))}
    return block


@st.composite
def steps(draw: st.DrawFn, value: st.SearchStrategy[Any] = NUMBER) -> dict[str, Any]:
    """A block of kind `step`."""
    times = draw(st.lists(st.integers(1, 99), max_size=4, unique=True))
    return {"kind": "step", "values": {f"{time}%": draw(value) for time in [0, *times]}}


@st.composite
def phases(draw: st.DrawFn, inner: st.SearchStrategy[dict[str, Any]]) -> dict[str, Any]:
    """A block of kind `phases`."""
    ends = [*sorted(draw(st.lists(st.integers(1, 99), max_size=3, unique=True))), 100]
    return {
        "kind": "phases",
        "phases": [{"until": f"{end}%", "schedule": draw(inner | NUMBER)} for end in ends],
    }


CONSTANTS = NUMBER.map(lambda value: {"kind": "constant", "value": value})
ANY = ramps() | steps() | phases(ramps() | steps()) | CONSTANTS
CLOCKS = st.builds(
    lambda epochs, per_epoch: Clock(epochs * per_epoch, per_epoch),
    st.integers(1, 300),
    st.integers(100, 400),
)


def made(block: dict[str, Any], clock: Clock | None = None) -> Schedule:
    fields = {name: value for name, value in block.items() if name != "kind"}
    return schedule(block["kind"], clock, **fields)


def named(block: Any) -> list[float]:
    """The numbers that a block names as values."""
    if not isinstance(block, dict):
        return [block]
    if block["kind"] == "phases":
        return [number for phase in block["phases"] for number in named(phase["schedule"])]
    if block["kind"] == "step":
        return list(block["values"].values())
    names = ["peak", "to"] if block.get("warmup") == "0%" else ["from", "to", "peak", "value"]
    return [block[name] for name in names if name in block]


@given(ANY, CLOCKS, st.data())
def test_every_value_lies_between_those_that_are_named(
    block: dict[str, Any], clock: Clock, data: st.DataObject
) -> None:
    knob = made(block, clock)
    step = data.draw(st.integers(0, clock.steps) | st.floats(0, clock.steps))
    assert min(named(block)) <= float(knob.at(step)) <= max(named(block))
    assert set(map(float, knob.values())) == set(named(block))


@given(ramps(), CLOCKS)
def test_a_ramp_begins_and_ends_exactly(block: dict[str, Any], clock: Clock) -> None:
    knob = made(block, clock)
    first = block["peak"] if block.get("warmup") == "0%" else block["from"]
    last_step = float(block["end"].removesuffix("%")) / 100 * clock.steps
    assert knob.at(0) == first
    assert values(knob, last_step, clock.steps, 10 * clock.steps) == [block["to"]] * 3


@given(ramps(), CLOCKS)
def test_a_ramp_goes_one_way(block: dict[str, Any], clock: Clock) -> None:
    knob = made(block, clock)
    points = [share * clock.steps / 60 for share in range(61)]
    turns = [knob.at(point) for point in points]
    if block["kind"] == "cosine" and block["warmup"] != "0%":
        start = float(block["start"].removesuffix("%")) + float(block["warmup"].removesuffix("%"))
        top = start / 100 * clock.steps
        climb = sum(point <= top for point in points)
        legs = [turns[:climb], turns[climb:]]
    else:
        legs = [turns]
    slack = 1e-12 * max(map(abs, named(block)))
    for leg in legs:
        numbers = [float(value) for value in leg]
        rises = all(b >= a - slack for a, b in pairwise(numbers))
        falls = all(b <= a + slack for a, b in pairwise(numbers))
        assert rises or falls


@given(ramps(), CLOCKS, st.data())
def test_a_ramp_does_not_jump(block: dict[str, Any], clock: Clock, data: st.DataObject) -> None:
    """A hundred-millionth of the budget moves no kind by more than its steepest slope allows."""
    knob = made(block, clock)
    step = data.draw(st.floats(0, clock.steps))
    edges = [float(block[name].removesuffix("%")) / 100 * clock.steps for name in ("start", "end")]
    extent = max(named(block)) - min(named(block))
    for point in (step, *edges):
        near = abs(float(knob.at(point + 1e-8 * clock.steps)) - float(knob.at(point)))
        # u^power with power 0.1 is steep: (1e-6)^0.1 of the extent is the worst, at the edge.
        steepest = (1e-6) ** min(1.0, block.get("power", 1.0)) * 15
        growth = 2 * math.log(1e12) * 1e-6
        assert near <= extent * max(steepest, growth) + 1e-9 * extent


@given(ANY, CLOCKS)
@settings(max_examples=60)
def test_equal_times_in_other_units_are_the_same_schedule(
    block: dict[str, Any], clock: Clock
) -> None:
    """Percent of the budget, written as steps and as epochs."""
    if block["kind"] == "phases":  # whose inner times have another clock
        return

    def rewritten(unit: Callable[[float], str]) -> dict[str, Any]:
        def moved(value: Any) -> Any:
            if isinstance(value, str) and value.endswith("%"):
                return unit(float(value[:-1]))
            if isinstance(value, dict):
                return {moved(key): moved(entry) for key, entry in value.items()}
            return value

        return {key: moved(value) for key, value in block.items()}

    in_steps = rewritten(lambda percent: f"{percent / 100 * clock.steps!r}step")
    epochs = clock.steps / clock.steps_per_epoch
    in_epochs = rewritten(lambda percent: f"{percent / 100 * epochs!r}ep")
    knob = made(block, clock)
    assert made(in_steps, clock) == knob
    for step in range(0, clock.steps, max(1, clock.steps // 50)):
        ours, theirs = float(knob.at(step + 0.5)), float(made(in_epochs, clock).at(step + 0.5))
        assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-9 * max(map(abs, named(block))))


@given(ANY, CLOCKS, st.data())
def test_a_resolved_schedule_survives_json(
    block: dict[str, Any], clock: Clock, data: st.DataObject
) -> None:
    knob = made(block, clock)
    text = knob.model_dump_json(by_alias=True)
    again = type(knob).model_validate_json(text)
    assert again == knob
    assert again.model_dump_json(by_alias=True) == text
    step = data.draw(st.floats(0, clock.steps))
    assert again.at(step) == knob.at(step)
    # Resolved times are steps, on whatever clock.
    assert again.resolved(Clock(7, 1)) == knob or block["kind"] == "phases"


@given(ANY, CLOCKS)
def test_what_has_no_fault_has_none_in_steps(block: dict[str, Any], clock: Clock) -> None:
    assert made(block).fault(clock) is None
    assert made(block, clock).fault(clock) is None


@given(phases(ramps() | steps()), CLOCKS, st.data())
def test_phases_are_their_parts_one_after_another(
    block: dict[str, Any], clock: Clock, data: st.DataObject
) -> None:
    knob = made(block, clock)
    step = data.draw(st.integers(0, clock.steps - 1))
    start = 0
    for phase in block["phases"]:
        end = round(float(phase["until"].removesuffix("%")) / 100 * clock.steps)
        if step < end:
            part = phase["schedule"]
            inner = Clock(end - start, clock.steps_per_epoch)
            expected = made(part, inner).at(step - start) if isinstance(part, dict) else part
            assert knob.at(step) == expected
            return
        start = end


@given(steps(), CLOCKS)
def test_plateaus_of_steps_fill_the_run(block: dict[str, Any], clock: Clock) -> None:
    knob = made(block, clock)
    found = list(knob.plateaus(clock.steps))
    assert (found[0].start, found[-1].end) == (0, clock.steps)
    assert all(first.end == second.start for first, second in pairwise(found))
    assert [plateau.value for plateau in found] == [knob.at(plateau.start) for plateau in found]


def test_plateaus_of_phases() -> None:
    found = [(p.start, p.end, p.value) for p in schedule("phases", phases=PHASES).plateaus(100)]
    assert found == [(0, 20, 0.0), (60, 70, 1.0), (70, 90, 2.0)]
    assert list(schedule("linear", from_=0, to=1).plateaus(100)) == []


def until(*ends: str, schedule: Any = 1) -> dict[str, Any]:
    """The fields of `phases` that end there; the first has `schedule`, the others are constant."""
    first, *others = ends
    phases = [{"until": first, "schedule": schedule}]
    return {"phases": [*phases, *({"until": end, "schedule": 1} for end in others)]}


def rising(**times: str) -> dict[str, Any]:
    return {"kind": "linear", "from": 0, "to": 1, **times}


@pytest.mark.parametrize(
    ("kind", "fields", "fault"),
    [
        (
            "linear",
            {"from_": 0, "to": 1, "end": "11ep"},
            "end 11ep is step 110, but the budget ends at step 100 (10ep); give it in % or shorten",
        ),
        (
            "linear",
            {"from_": 0, "to": 1, "start": "50%", "end": "50%"},
            "end 50% is not after start 50%",
        ),
        (
            "linear",
            {"from_": 0, "to": 1, "start": "hard", "end": "soft"},
            "end soft is not after start hard",
        ),
        (
            "cosine",
            {"peak": 1, "warmup": "100%"},
            "end 100% is not after start 0% plus warmup 100%",
        ),
        ("cosine", {"peak": 1, "start": "20ep"}, "start 20ep is step 200, but the budget ends"),
        ("cosine", {"peak": 1, "start": "50%", "end": "40%"}, "end 40% is not after start 50%"),
        ("step", {"values": {"1%": 1}}, "no value for the beginning; add `0%: ...`"),
        ("step", {"values": {"0%": 1, "100%": 2}}, "time 100% is step 100, but the budget ends"),
        (
            "step",
            {"values": {"0%": 1, "20%": 2, "soft": "a"}},
            "20% and soft are the same step, 20",
        ),
        ("phases", until("50%"), "the last phase ends at 50%; make it 100%"),
        ("phases", until("50%", "5ep"), "phase 2 ends at step 50, not after step 50"),
        ("phases", until("12ep"), "until of phase 1: 12ep is step 120, but the budget ends"),
        (
            "phases",
            until("50%", "100%", schedule=rising(end="9ep")),
            "phase 1: end 9ep is step 90, but it ends at step 50",
        ),
        (
            "phases",
            until("soft", "100%", schedule=rising(end="hard")),
            "phase 1: unknown mark 'hard'; marks within it: soft",
        ),
    ],
)
def test_what_cannot_be_carried_out(kind: str, fields: dict[str, Any], fault: str) -> None:
    found = schedule(kind, None, **fields).fault(CLOCK)
    assert found is not None and found.startswith(fault)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("linear", {"from_": 0, "to": 1, "end": "nowhere"}),
        ("step", {"values": {"0%": 0, "nowhere": 1}}),
        ("phases", {"phases": [{"until": "nowhere", "schedule": 1}]}),
        ("cosine", {"peak": 1, "warmup": "5tok"}),
    ],
)
def test_times_that_mean_nothing(kind: str, fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"unknown mark|not counted in tokens"):
        schedule(kind, None, **fields).fault(Clock(100, 10))


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("constant", {"value": True}),
        ("constant", {"value": None}),
        ("constant", {"value": 1, "extra": 2}),
        ("linear", {"from_": "1", "to": 2}),
        ("linear", {"to": 2}),
        ("linear", {"from_": 1, "to": 2, "start": 0}),
        ("polynomial", {"from_": 1, "to": 2, "power": 0}),
        ("polynomial", {"from_": 1, "to": 2, "ease": "both"}),
        ("exponential", {"from_": 0, "to": 2}),
        ("exponential", {"from_": 1, "to": -2}),
        ("cosine", {"peak": 1, "warmup": "soft"}),
        ("step", {"values": {}}),
        ("step", {"values": {"0": 1}}),
        ("step", {"values": {"0%": 1, "0.0%": 2}}),
        ("step", {"values": [1]}),
        ("phases", {"phases": []}),
        ("phases", {"phases": [{"until": "100%", "schedule": {"kind": "lin"}}]}),
        ("phases", {"phases": [{"until": "100%", "schedule": {"from": 1, "to": 2}}]}),
        ("phases", {"phases": [{"until": "100%"}]}),
    ],
)
def test_what_is_no_schedule(kind: str, fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        schedule(kind, None, **fields)


def test_the_python_name_of_a_field_is_not_the_authors() -> None:
    with pytest.raises(ValidationError, match="from_"):
        KINDS["linear"].model_validate_json('{"from_": 1, "to": 2}', by_alias=True, by_name=False)


def test_a_kind_without_a_value_says_so() -> None:
    with pytest.raises(TypeError, match="schedule Schedule has no `at`"):
        Schedule().at(0)


def test_schedules_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        schedule("constant", value=1).value = 2  # type: ignore[attr-defined]  # it is Constant
