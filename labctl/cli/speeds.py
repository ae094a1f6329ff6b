"""What a bench found, as a terminal shows it."""

from __future__ import annotations

from labctl.measure.speed import COMPILED, Case, Speed
from labctl.plan.plan import settings_of

from .pictures import console, rate_of, table_of, text_of


def print_speed(speed: Speed) -> None:
    """Two tables: how fast, and what the time goes to."""
    facts, matmul = speed.environment, speed.matmul
    settings = "  ".join(settings_of(speed.point))
    console.print(f"[bold]{speed.recipe}[/]  {settings}", markup=True)
    console.print(
        f"  {speed.batch_size} a batch, {speed.precision}, key {speed.key}, on "
        f"{facts.get('device_name')}, torch {facts.get('torch')}, {facts.get('threads')} threads"
    )
    console.print(
        f"  matmul of {matmul.size} x {matmul.size}, {matmul.dtype}: "
        f"{rate_of(matmul.flops_per_second)}"
    )
    _print_rates(speed)
    _print_times(speed)
    for why in dict.fromkeys(case.why for case in speed.cases if case.why):
        console.print(why)
    if uncounted := sorted({name for case in speed.cases for name in case.uncounted}):
        console.print(f"FLOPs not counted: {', '.join(uncounted)}")
    if any(case.engine == COMPILED for case in speed.cases):
        console.print("compiled is other arithmetic: numerics.compiled=true, another key")


def _print_rates(speed: Speed) -> None:
    table = table_of(
        *_NAMES, "knobs", f"{speed.unit}/s", "low to high", "x", "ms a step", "TFLOP/s",
        "of matmul", "eta", is_unbroken=True,
    )  # fmt: skip
    for case in speed.cases:
        rate, eta = speed.rate(case), speed.efficiency(case)
        table.add_row(
            *_names(case),
            "  ".join(f"{name} {text_of(value)}" for name, value in case.structural.items()),
            f"{rate.median:,.0f}",
            f"{rate.low:,.0f} to {rate.high:,.0f}",
            f"{speed.ratio(case):.2f}",
            text_of(1e3 * case.step_seconds.median),
            f"{case.flops_per_second / 1e12:.3g}",
            f"{case.flops_per_second / speed.matmul.flops_per_second:.1%}",
            "" if eta is None else f"{eta:.2f}",
        )
    console.print(table)


def _print_times(speed: Speed) -> None:
    unit = speed.cases[0].launches.unit
    table = table_of(
        *_NAMES, "data", "step", "evaluating", "tracking", unit, "as written",
        "1st step", "compiling", "capture", is_unbroken=True,
    )  # fmt: skip
    for case in speed.cases:
        launches, shares = case.launches, case.shares
        table.add_row(
            *_names(case),
            *(f"{part:.1%}" for part in
              (shares.data, shares.step, shares.evaluation, shares.tracking)),
            "unseen" if launches.as_carried_out is None else f"{launches.as_carried_out:,}",
            f"{launches.as_written:,}",
            f"{case.start_seconds:.1f} s",
            f"{case.compile_seconds:.1f} s" if case.compile_seconds else "",
            f"{case.capture_seconds:.2f} s" if case.capture_seconds else "",
        )  # fmt: skip
    console.print(table)


_NAMES = ("engine", "seeds", "at")


def _names(case: Case) -> tuple[str, ...]:
    is_it = case.carried_out.startswith(case.engine)
    engine = case.carried_out if is_it else f"{case.carried_out} ({case.engine})"
    return engine, str(case.together), case.at
