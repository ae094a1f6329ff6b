"""What a bench found, as a terminal shows it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from labctl.measure.speed import COMPILED, Case, Speed
from labctl.plans.plan import settings_of
from labctl.reports.number import rate_of, text_of
from labctl.verbs.looks import table_of

from .pictures import console


def print_speed(speed: Speed) -> None:
    """Two tables: how fast, with the time of a step, and what the time goes to."""
    facts, matmul = speed.environment, speed.matmul
    settings = "  ".join(settings_of(speed.point))
    console.print(Text.assemble((speed.recipe, "bold"), f"  {settings}"))
    console.print(
        f"  {speed.batch_size} a batch, {speed.precision}, key {speed.key}, on "
        f"{facts.get('device_name')}, torch {facts.get('torch')}, {facts.get('threads')} threads"
    )
    console.print(
        f"  matmul of {matmul.size} x {matmul.size}, {matmul.dtype}: "
        f"{rate_of(matmul.flops_per_second)}"
    )
    _print([_rates(speed, case) for case in speed.cases])
    console.print("Shares of a whole run's time, launches of a step, and what comes before it:")
    _print([_times(case) for case in speed.cases])
    for why in dict.fromkeys(case.why for case in speed.cases if case.why):
        console.print(why)
    if uncounted := sorted({name for case in speed.cases for name in case.uncounted}):
        console.print(f"FLOPs not counted: {', '.join(uncounted)}")
    if any(case.engine == COMPILED for case in speed.cases):
        console.print("compiled is other arithmetic: numerics.compiled=true, another key")


def _rates(speed: Speed, case: Case) -> dict[str, str]:
    rate, eta = speed.rate(case), speed.efficiency(case)
    knobs = (f"{name} {text_of(value)}" for name, value in case.structural.items())
    return {
        **_names(case),
        "knobs": "  ".join(knobs),
        f"{speed.unit}/s": f"{rate.median:,.0f}",
        "low to high": f"{rate.low:,.0f} to {rate.high:,.0f}",
        "x": f"{speed.ratio(case):.2f}",
        "ms": text_of(1e3 * case.step_seconds.median),
        "TFLOP/s": f"{case.flops_per_second / 1e12:.3g}",
        "of matmul": f"{case.flops_per_second / speed.matmul.flops_per_second:.1%}",
        "eta": "" if eta is None else f"{eta.median:.2f} ({eta.low:.1f} to {eta.high:.1f})",
    }


def _times(case: Case) -> dict[str, str]:
    launches, shares = case.launches, case.shares
    carried_out = launches.as_carried_out
    return {
        **_names(case),
        "data": f"{shares.data:.1%}",
        "step": f"{shares.step:.1%}",
        "evaluating": f"{shares.evaluation:.1%}",
        "tracking": f"{shares.tracking:.1%}",
        launches.unit: "unseen" if carried_out is None else f"{carried_out:,}",
        "as written": f"{launches.as_written:,}",
        "1st step": f"{case.start_seconds:.1f} s",
        "compiling": f"{case.compile_seconds:.1f} s" if case.compile_seconds else "",
        "capture": f"{case.capture_seconds:.2f} s" if case.capture_seconds else "",
    }


def _names(case: Case) -> dict[str, str]:
    is_it = case.carried_out.startswith(case.engine)
    engine = case.carried_out if is_it else f"{case.engine}: {case.carried_out}"
    return {"engine": engine, "seeds": str(case.together), "at": case.at}


def _print(rows: Sequence[dict[str, str]]) -> None:
    """Columns in which nothing stands are left out."""
    names = [name for name in rows[0] if any(row[name] for row in rows)]
    table = table_of(*names, is_tight=True)
    for row in rows:
        table.add_row(*(row[name] for name in names))
    console.print(table)
