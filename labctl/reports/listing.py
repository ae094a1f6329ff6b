"""The claims of a check as text for a terminal: what is not as expected first, then what is."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby, zip_longest

from .checked import Checked, Claimant
from .render import WIDTH
from .verdicts import Verdict, Word

Judged = Sequence[tuple[Claimant, Verdict]]
NARROWEST = 60
"""Characters in a line, at least: four columns need them."""
_GAP = "   "
_CLOSED = (Word.REPRODUCED, Word.REFUTED, Word.SUSPECT)


def listing(found: Checked, is_strict: bool = False) -> str:
    """Every claim with its verdict, what was measured and claimed, and by whom.

    What is not as expected comes first; then what is, what is open, published values beside ours,
    and, a line for each recipe, what has no result yet.
    """
    width = max(NARROWEST, shutil.get_terminal_size((WIDTH, 24)).columns)
    lacking = [one for one in found.verdicts if _is_without(one[1])]
    shown = [one for one in found.verdicts if one not in lacking]
    unexpected = [one for one in shown if one[1].is_surprise]
    sections: dict[str, Judged] = {
        "Not as expected": unexpected,
        "As expected": [o for o in shown if o[1].word in _CLOSED and not o[1].is_surprise],
        "Unresolved": [o for o in shown if o[1].word is Word.UNRESOLVED],
        "Published values, not judged": [o for o in shown if o[1].word is Word.REFERENCE],
    }
    widths = _widths(shown, width)
    lines = []
    for heading, claims in sections.items():
        if claims:
            lines += [heading, *_table(claims, widths), ""]
    if lacking:
        lines += ["Without results", *_lacking(lacking, width), ""]
    if any(verdict.p is not None for _, verdict in found.verdicts):
        lines += [*textwrap.wrap(f"Claims: {found.remark}", width), ""]
    return "\n".join([*lines, _summary(found, is_strict)])


def _is_without(verdict: Verdict) -> bool:
    return verdict.word in (Word.LACKING, Word.ELSEWHERE) or (
        verdict.word is Word.REFERENCE
        and not verdict.evidence.parts
        and verdict.evidence.is_lacking
    )


def _widths(claims: Judged, width: int) -> tuple[int, int, int, int]:
    """Of the columns of every section: who claims, verdict, what was measured, what was claimed."""
    names = max((len(_title(who)) for who, _ in claims), default=0)
    words = [len(text) for _, v in claims for text in (v.standing, v.claim)]
    first, second = min(names, width // 5), min(max(words, default=0), width // 5)
    rest = width - first - second - len(_GAP) * 3 - 1
    return first, second, rest - rest * 2 // 5, rest * 2 // 5


def _table(claims: Judged, widths: Sequence[int]) -> Iterator[str]:
    """Each claim once, of those who make several the name once."""
    for (who, verdict), is_first in _with_first(claims):
        about = verdict.evidence
        is_said = about.what == about.claimed or about.is_reference
        measured = ": ".join(filter(None, ("" if is_said else about.what, about.figure)))
        earlier = ""
        if who.edition and not who.is_sweep:
            earlier = f"published in {who.edition} before the recipe changed"
        after = (measured, verdict.why, earlier)
        cells = (
            [_title(who) if is_first else ""],
            [verdict.standing, verdict.claim],
            ["; ".join(filter(None, after))],
            [about.claimed, about.source],
        )
        wrapped = [
            [line for text in texts for line in textwrap.wrap(text, width)]
            for texts, width in zip(cells, widths, strict=True)
        ]
        for parts in zip_longest(*wrapped, fillvalue=""):
            line = _GAP.join(f"{text:<{width}}" for text, width in zip(parts, widths, strict=True))
            yield f" {line}".rstrip()


def _with_first(claims: Judged) -> Iterator[tuple[tuple[Claimant, Verdict], bool]]:
    for _, group in groupby(claims, key=lambda one: one[0]):
        for place, one in enumerate(group):
            yield one, place == 0


def _title(who: Claimant) -> str:
    return f"{who.name} (sweep)" if who.is_sweep else who.name


def _lacking(claims: Judged, width: int) -> Iterator[str]:
    """A line for each recipe: its claims, and why they have no result unless it has none itself."""
    longest = min(max(len(_title(who)) for who, _ in claims), width // 3)
    for who, group in groupby(claims, key=lambda one: one[0]):
        by_reason: dict[str, list[str]] = {}
        for _, verdict in group:
            reason = verdict.evidence.reason
            is_own = reason.startswith((f"{who.name} has no result", "no result yet"))
            by_reason.setdefault("" if is_own else reason, []).append(verdict.claim)
        texts = (
            f"{', '.join(names)} ({reason})" if reason else ", ".join(names)
            for reason, names in by_reason.items()
        )
        yield from textwrap.wrap(
            ", ".join(texts),
            width,
            initial_indent=f" {_title(who):<{longest}}   ",
            subsequent_indent=" " * (longest + 4),
        )


def _summary(found: Checked, is_strict: bool) -> str:
    counts: dict[str, int] = {}
    for _, verdict in found.verdicts:
        word = str(Word.LACKING if _is_without(verdict) else verdict.word)
        counts[word] = counts.get(word, 0) + 1
    order = [str(word) for word in Word if str(word) in counts]
    total = len(found.verdicts)
    unexpected = len(found.unexpected(is_strict))
    end = f"{unexpected} not as expected" if unexpected else "nothing unexpected"
    words = ", ".join(f"{counts[word]} {word}" for word in order)
    return f"{total} claim{'s' if total != 1 else ''}: {words or 'none'}; {end}"
