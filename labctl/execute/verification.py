"""Whether the first steps of a run come out again: trained once more from what was stored of it,
in a folder that is gone afterwards, and held against its journal."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from labctl.errors import ClaimError, EnvironmentProblem, LabctlError, RunError, UsageError
from labctl.plans.derive import key_of
from labctl.plans.key import NUMERICS
from labctl.plans.plan import Plan
from labctl.project import Project
from labctl.registry.digest import code_digest, edited
from labctl.registry.registry import Registry
from labctl.store.journal import FIRST_LOSSES
from labctl.store.run import Run
from labctl.store.status import Status

from .errand import carried_out
from .provenance import snapshot, version_of
from .trace import Difference, Trace, losses_until, told_apart, trace_of

PACKAGES = ("labctl", "numpy", "torchvision", "triton")
"""Beside torch, what can change a last bit; labctl's numerics have a number of their own."""
EXPECTED = "equal numbers are only to be expected on the same device and torch"


class Finding(StrEnum):
    """What a verification comes to."""

    EQUAL = "equal"
    CLOSE = "close"
    """Not equal, and no further apart than was allowed."""
    DIFFERS = "differs"
    FAILED = "failed"
    """The repetition ended with an error."""
    IMPOSSIBLE = "not verified"
    """This machine lacks something."""

    @property
    def exit_code(self) -> int:
        """That of a claim which came out otherwise, of a run that failed, of a lack here."""
        codes = {Finding.DIFFERS: ClaimError.exit_code, Finding.FAILED: RunError.exit_code}
        return {**codes, Finding.IMPOSSIBLE: EnvironmentProblem.exit_code}.get(self, 0)


@dataclass(frozen=True, slots=True)
class Recorded:
    """What there is of a run to verify it by."""

    plan: Plan
    trace: Trace
    conditions: Mapping[str, Any]
    """Of its first attempt: `device`, `device_name`, `torch`, `threads`, `engine`, `replicas`."""
    versions: Mapping[str, str]
    """Of labctl and packages."""
    source: Path | None
    """The plugins' code as it was; None if only its digests are known."""
    commit: str = ""

    @property
    def threads(self) -> int:
        """Of the CPU it was trained on; 0 on another device, or if they are not known."""
        is_cpu = self.conditions.get("device") == "cpu"
        return int(self.conditions.get("threads") or 0) if is_cpu else 0


def recorded(run: Run) -> Recorded:
    """A finished or interrupted run of this project.

    Raises:
        UsageError: it was not begun, or is being trained.
        RunError: its plan cannot be read.
    """
    status = run.status
    if status in (Status.PENDING, Status.RUNNING):
        hint = "labctl resume trains it" if status is Status.PENDING else "when it has ended"
        raise UsageError(
            f"{run.plan.name} is {status}; finished and interrupted runs can be verified", hint=hint
        )
    journal, kept = run.journal, run.provenance
    begins = (record.fields for record in journal.of("begin"))
    begin = next((fields for fields in begins if "parameters" in fields), {})
    together = (record.fields.get("replicas") for record in journal.of("metrics"))
    return Recorded(
        run.plan,
        trace_of(journal),
        {**begin, "replicas": next(filter(None, together), 1)},
        {**kept.get("packages", {}), "labctl": kept.get("labctl", "")},
        run.source_path,
    )


@dataclass(frozen=True, slots=True)
class Verification:
    """A run, and how its first steps came out."""

    name: str
    key: str
    finding: Finding
    steps: int = 0
    """That were trained again."""
    compared: int = 0
    """Losses of single steps, means and evaluations."""
    first: Difference | None = None
    largest: Difference | None = None
    differing: int = 0
    explanations: tuple[str, ...] = ()
    """What else is not as it was, and may be why; of an equal run, what was tampered with."""
    asides: tuple[str, ...] = ()
    """What changed and was not used."""
    message: str = ""
    """Why it failed, or was not possible, with what would work."""

    def plain(self) -> dict[str, Any]:
        """As JSON; what is not finite is a string."""
        return {
            "run": self.name, "key": self.key, "finding": str(self.finding), "steps": self.steps,
            "compared": self.compared, "differing": self.differing,
            "first": _plain(self.first), "largest": _plain(self.largest),
            "explanations": list(self.explanations), "asides": list(self.asides),
            "message": self.message,
        }  # fmt: skip


def _plain(found: Difference | None) -> dict[str, Any] | None:
    if found is None:
        return None
    relative = found.relative if math.isfinite(found.relative) else repr(found.relative)
    return {
        "step": found.step, "metric": found.metric, "then": found.then, "now": found.now,
        "relative": relative,
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verifier:
    """Verifies runs, one after the other, each in a process of its own."""

    project: Project
    registry: Registry
    """Today's plugins."""
    steps: int = FIRST_LOSSES
    tolerance: float = 0.0
    """Relative differences up to this are `close`."""

    def verify(self, run: Recorded) -> Verification:
        """Train the first steps of `run` again.

        Raises:
            UsageError: no loss was recorded of them.
        """
        then = losses_until(run.trace, self.steps)
        if not then:
            raise UsageError(
                f"{run.plan.name} has no loss recorded within its first {self.steps} steps",
                hint=_first_recorded(run.trace),
            )
        steps = max(step for step, _ in then)
        with tempfile.TemporaryDirectory(prefix="labctl-verify-") as folder:
            scratch = Run(Path(folder) / f"seed={run.plan.work.seed}")
            try:
                self._furnish(scratch, run)
            except LabctlError as error:
                return self._ended(run, Finding.IMPOSSIBLE, str(error))
            code, facts = self._repeat(scratch, run, steps)
            end = scratch.end or {}
            if code or end.get("status") == Status.FAILED:
                lacks = end.get("code") == EnvironmentProblem.exit_code
                finding = Finding.IMPOSSIBLE if lacks else Finding.FAILED
                message = str(end.get("message") or _last_words(scratch, code))
                return self._ended(run, finding, message)
            return self._judged(run, then, scratch, steps, facts)

    def _ended(self, run: Recorded, finding: Finding, message: str) -> Verification:
        asides = tuple(self._asides(run))
        return Verification(run.plan.name, run.plan.key, finding, asides=asides, message=message)

    def _furnish(self, scratch: Run, run: Recorded) -> None:
        scratch.create(run.plan, {})
        if run.source is not None and run.source.is_dir():
            shutil.copytree(run.source, scratch.source_path)
        if run.source is None:
            for plugin in run.plan.work.digests:
                snapshot(self.registry, scratch, plugin)

    def _repeat(self, scratch: Run, run: Recorded, steps: int) -> tuple[int, dict[str, Any]]:
        facts = scratch.folder / "facts.json"
        order = {
            "run": str(scratch.folder), "steps": steps, "threads": run.threads,
            "device": run.conditions.get("device", ""), "facts": str(facts),
            "data_roots": [str(root) for root in self.project.data_roots],
        }  # fmt: skip
        environment = {"OMP_NUM_THREADS": str(run.threads)} if run.threads else {}
        code = carried_out("labctl.execute.beginning", order, scratch.log_path, environment)
        return code, json.loads(facts.read_text(encoding="utf-8")) if facts.exists() else {}

    def _judged(
        self, run: Recorded, then: Trace, scratch: Run, steps: int, facts: Mapping[str, Any]
    ) -> Verification:
        journal = scratch.journal
        found = list(told_apart(then, trace_of(journal)))
        here = next((dict(record.fields) for record in journal.of("begin")), {})
        largest = max(found, key=lambda one: one.relative, default=None)
        finding = Finding.EQUAL
        if largest is not None:
            is_close = largest.relative <= self.tolerance
            finding = Finding.CLOSE if is_close else Finding.DIFFERS
        end = scratch.end
        why = [*self._tampering(run), *(self._explanations(run, here, facts) if found else ())]
        if found and end is not None:
            how = f"{end['status']}, {end['message']}"
            why.insert(0, f"the repetition ended at step {end['step']}: {how}")
        return Verification(
            run.plan.name, run.plan.key, finding, steps, len(then), next(iter(found), None),
            largest, len(found), tuple(why), tuple(self._asides(run)),
        )  # fmt: skip

    def _explanations(
        self, run: Recorded, here: Mapping[str, Any], facts: Mapping[str, Any]
    ) -> Iterator[str]:
        work = run.plan.work
        yield from _other_conditions(run.conditions, here)
        if work.numerics.compiled:
            yield "numerics.compiled: torch.compile made its kernels anew"
        if work.labctl_numerics != NUMERICS:
            yield f"labctl's numerics were {work.labctl_numerics}, are {NUMERICS}"
        if facts.get("data_version") != work.data.version:
            yield f"data version was {work.data.version}, is {facts.get('data_version')}"
        for name in PACKAGES:
            then, now = run.versions.get(name), version_of(name)
            if then and now and then != now:
                yield f"{name} was {then}, is {now}"

    def _tampering(self, run: Recorded) -> Iterator[str]:
        """What in the run's folder is not as it was planned, even if the first steps are."""
        if run.source is None:
            return
        if key_of(run.plan.work) != run.plan.key:
            yield "plan.json was changed: its key is not that of the work in it"
        for plugin, digest in run.plan.work.digests.items():
            if self._is_altered(run.source / plugin, digest, plugin):
                yield f"the stored code of {plugin} was changed since the run was planned"

    def _is_altered(self, stored: Path, digest: str, plugin: str) -> bool:
        today = self.registry.plugins.get(plugin)
        is_installed = today is not None and not today.is_local
        if is_installed and set(_names(stored)) == {"__init__.py"}:
            return False  # it may have had another name, which the digest covers
        try:
            return code_digest(stored) != digest
        except SyntaxError:
            return True

    def _asides(self, run: Recorded) -> Iterator[str]:
        for plugin, digest in run.plan.work.digests.items():
            try:
                loaded = self.registry.load(plugin)
            except LabctlError as error:
                yield f"today's {plugin} cannot be read: {error.message}"
                continue
            if run.source is None and loaded.digest != digest:
                commit = f", of commit {run.commit[:12]}" if run.commit else ""
                published = f"what was published is {digest}{commit}"
                yield f"code of {plugin} is today's, {loaded.digest}; {published}"
            elif run.source is not None and loaded.digest != digest:
                files = ", ".join(edited(run.source / plugin, loaded.plugin.folder))
                yield f"today's {plugin} is other code, which was not used: {files}"


def _names(folder: Path) -> Iterator[str]:
    return (path.name for path in folder.rglob("*.py"))


def _first_recorded(trace: Trace) -> str:
    steps = [step for step, _ in losses_until(trace)]
    return f"its first is of step {min(steps)}: --steps {min(steps)}" if steps else "labctl resume"


def _last_words(scratch: Run, code: int) -> str:
    lines = scratch.log_path.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
    return "\n  ".join([f"its process ended with exit code {code}", *lines])


def _other_conditions(then: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    """What the arithmetic ran on, where it is known and not the same."""
    named = {"device_name": "device", "torch": "torch", "threads": "threads", "engine": "engine"}
    found = []
    for name, word in named.items():
        old, new = then.get(name), here.get(name)
        if name == "threads" and {then.get("device"), here.get("device")} != {"cpu"}:
            continue
        if old and new and old != new:
            found.append(name)
            yield f"{word} was {old}, is {new}"
    if {"device_name", "torch"} & set(found):
        yield EXPECTED
    if (together := then.get("replicas") or 1) > 1:
        yield f"it was trained with {together - 1} others in one process, here alone"
