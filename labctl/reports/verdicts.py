"""What becomes of claims: what speaks for and against each, judged together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from .evidence import Evidence, Part
from .statistics import LEVEL, POWER, holm


class Word(StrEnum):
    """How a claim stands."""

    REPRODUCED = "REPRODUCED"
    """The whole interval keeps the bound."""
    REFUTED = "REFUTED"
    """The whole interval breaks it."""
    UNRESOLVED = "UNRESOLVED"
    """Neither, or too few seeds to tell."""
    SUSPECT = "SUSPECT"
    """Beyond what FLOPs or hardware allow: something other than the claimed cause is at work."""
    REFERENCE = "reference"
    """A published value, shown with our difference from it; not judged."""
    ELSEWHERE = "not about this"
    LACKING = "no result yet"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A claim and how it stands."""

    evidence: Evidence
    word: Word
    p: float | None = None
    """Of the test that is nearer to a verdict, corrected for the claims judged with this one."""
    outlook: str = ""
    """What would settle an open claim."""

    @property
    def claim(self) -> str:
        return self.evidence.claim

    @property
    def detail(self) -> str:
        """A sentence with the figures behind it."""
        return "; ".join(filter(None, (self.evidence.detail, self.outlook)))

    @property
    def why(self) -> str:
        """What qualifies the figures or stands in their way, and what would settle the claim."""
        about = self.evidence
        said = (about.reason, about.suspicion, about.caveat, self.outlook)
        return "; ".join(filter(None, said))

    @property
    def standing(self) -> str:
        """The word, and whether it was known: `REFUTED, as known`."""
        if not self.evidence.is_known_refuted:
            return str(self.word)
        return f"{self.word}{', as known' if self.word is Word.REFUTED else ' (known as refuted)'}"

    @property
    def text(self) -> str:
        """For a cell: `name: REFUTED, as known`."""
        return f"{self.claim}: {self.standing}{self.evidence.short}"

    @property
    def expected(self) -> Word:
        """What the recipe expects of the claim."""
        return Word.REFUTED if self.evidence.is_known_refuted else Word.REPRODUCED

    @property
    def is_surprise(self) -> bool:
        """Whether it is decided otherwise than expected, or never can be: no such metric exists."""
        decided = (Word.REPRODUCED, Word.REFUTED, Word.SUSPECT)
        return self.evidence.is_misnamed or (
            self.word in decided and self.word is not self.expected
        )

    @property
    def is_open(self) -> bool:
        """Whether it is a claim to be judged that is not decided yet."""
        return self.word in (Word.UNRESOLVED, Word.ELSEWHERE, Word.LACKING) and (
            not self.evidence.is_reference
        )

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        about = self.evidence
        several = [{"what": part.label, **_figures(part)} for part in about.parts]
        return {
            "claim": self.claim,
            "verdict": str(self.word),
            "standing": self.standing,
            "short": about.short.strip(),
            "known": "refuted" if about.is_known_refuted else None,
            "detail": self.detail,
            "what": about.what,
            "measured": about.figure,
            "why": self.why,
            "claimed": about.claimed,
            "source": about.source,
            **({} if self.p is None else {"p": self.p}),
            **(_figures(about.parts[0]) if len(several) == 1 else {}),
            **({"parts": several} if len(several) > 1 else {}),
        }


def _figures(part: Part) -> dict[str, Any]:
    found = part.estimate
    low, high = found.interval()
    sds = [sample.sd for sample in found.samples]
    ns = [sample.n for sample in found.samples]
    other = {} if len(ns) == 1 else {"sd_other": sds[1], "n_other": ns[1]}
    return {"mean": found.mean, "sd": sds[0], "n": ns[0], **other, "low": low, "high": high}


def judge(found: Sequence[Evidence]) -> list[Verdict]:
    """The verdicts on claims that are read together, in their order.

    A claim that can be judged has one p value: of its being kept or broken, whichever is smaller.
    They are corrected by Holm, so that of all verdicts any is wrong with probability 0.05 at most.
    """
    places = [place for place, one in enumerate(found) if one.tails is not None]
    least = [one.tails.least for one in found if one.tails is not None]
    adjusted = dict(zip(places, holm(least), strict=True))
    undecided = max(1, sum(p > LEVEL for p in adjusted.values()))
    return [
        _verdict(one, adjusted.get(place), LEVEL / undecided) for place, one in enumerate(found)
    ]


def _verdict(found: Evidence, p: float | None, level: float) -> Verdict:
    """`level` is that at which a claim that is still open would be decided."""
    if found.is_elsewhere:
        return Verdict(found, Word.ELSEWHERE)
    if found.is_reference:
        return Verdict(found, Word.REFERENCE)
    if found.is_lacking:
        return Verdict(found, Word.LACKING)
    if found.tails is None or p is None:
        return Verdict(found, Word.UNRESOLVED)
    if found.suspicion:
        return Verdict(found, Word.SUSPECT, p)
    if p <= LEVEL:
        return Verdict(found, Word.REPRODUCED if found.tails.is_for else Word.REFUTED, p)
    alone = ""
    if found.tails.least <= LEVEL:
        alone = (
            f"decided by itself, p={found.tails.least:.2g}, but not among the claims judged here"
        )
    seeds = found.seeds_needed(level)
    enough = "more than 1000 seeds would be needed to settle it"
    if seeds is not None:
        at = "at this mean and spread" if found.parts else "with these shares"
        enough = f"about {seeds} seeds would settle it with probability {POWER:g} {at}"
    return Verdict(found, Word.UNRESOLVED, p, "; ".join(filter(None, (alone, enough))))


def remark(found: Sequence[Verdict]) -> str:
    """How claims were judged: tests, spreads, corrections, as far as these claims need them."""
    judged = [verdict for verdict in found if verdict.p is not None]
    parts = [part for verdict in judged for part in verdict.evidence.parts]
    texts = [
        "judged by the 95 % interval of Student's t for the mean of what is paired by seed (sd: "
        "n - 1 in its denominator): REPRODUCED within the claimed bound, REFUTED outside, else "
        "UNRESOLVED; a reference is a published value, not judged"
    ]
    if any(part.bounds.is_margin for part in parts):
        texts.append(
            "within a margin: two one-sided t tests at 5 %, so REPRODUCED if the 90 % interval "
            "lies within it"
        )
    if any(len(part.estimate.samples) > 1 for part in parts):
        texts.append("where seeds do not pair: Welch's t, spreads not taken to be equal")
    if any(part.estimate.is_coarse for part in parts):
        texts.append(
            "accuracies on few examples may agree by chance: seeds are taken to have an sd of half "
            "an example at least"
        )
    if any(part.estimate.is_alike and not part.estimate.is_coarse for part in parts):
        texts.append("what is the same for every seed in all digits is taken to be so for others")
    if any(len(verdict.evidence.parts) > 1 for verdict in judged):
        texts.append("of several figures in one claim, each is corrected for the others (Holm)")
    if any(not verdict.evidence.parts for verdict in judged):
        texts.append(
            "a threshold: what counts is seeds, as runs of one seed at several values are alike; "
            "at each value the exact binomial test against a half; REPRODUCED if every value shows "
            "at 5 % what is claimed of it, REFUTED if those on one side, put together by Simes, "
            "show the contrary at 2.5 %"
        )
    if len(judged) > 1:
        texts.append(f"p corrected for the {len(judged)} claims judged here (Holm)")
    return "; ".join(texts)
