"""Text as LaTeX sets it."""

from __future__ import annotations

import unicodedata

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$",
    "#": r"\#", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    # after \\ a bracket would be the optional argument of the line break
    "[": "{[}", "]": "{]}",
    "\u00b1": r"$\pm$", "\u00d7": r"$\times$", "\u2212": "$-$", "\u2264": r"$\le$",
    "\u2265": r"$\ge$", "\u2192": r"$\to$", "\u00b7": r"$\cdot$",
}  # fmt: skip


def in_latex(text: str) -> str:
    """`text` in one line, every letter of it set as itself."""
    line = " ".join(text.split())
    escaped = "".join(_LATEX.get(letter) or _greek(letter) or letter for letter in line)
    return escaped.replace("--", "-{}-")  # two hyphens are a dash, and no option of a command


def _greek(letter: str) -> str | None:
    """The mathematical symbol of a small Greek letter; None for any other."""
    name = unicodedata.name(letter, "")
    if letter.isascii() or not name.startswith("GREEK SMALL LETTER ") or " WITH " in name:
        return None
    word = name.removeprefix("GREEK SMALL LETTER ").lower()
    return {"omicron": "o", "final sigma": r"$\varsigma$"}.get(
        word, rf"$\{word.replace('lamda', 'lambda')}$"
    )
