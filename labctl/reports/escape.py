"""Text as LaTeX sets it."""

from __future__ import annotations

import re
import unicodedata

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$",
    "#": r"\#", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    # after \\ a bracket would be the optional argument of the line break
    "[": "{[}", "]": "{]}",
    "\u00b1": r"$\pm$", "\u00d7": r"$\times$", "\u2212": "$-$", "\u2264": r"$\le$",
    "\u2265": r"$\ge$", "\u2192": r"$\to$", "\u00b7": r"$\cdot$", "\u2248": r"$\approx$",
    "\u2260": r"$\ne$", "\u226a": r"$\ll$", "\u226b": r"$\gg$", "\u221e": r"$\infty$",
    "\u2206": r"$\Delta$", "\u2202": r"$\partial$", "\u2207": r"$\nabla$", "\u2211": r"$\sum$",
    "\u221a": r"$\surd$", "\u2208": r"$\in$", "\u221d": r"$\propto$", "\u223c": r"$\sim$",
    "\u2190": r"$\gets$", "\u2191": r"$\uparrow$", "\u2193": r"$\downarrow$",
    "\u2194": r"$\leftrightarrow$",
}  # fmt: skip
_CAPITALS = {
    "alpha": "A", "beta": "B", "epsilon": "E", "zeta": "Z", "eta": "H", "iota": "I", "kappa": "K",
    "mu": "M", "nu": "N", "omicron": "O", "rho": "P", "tau": "T", "chi": "X",
}  # fmt: skip
"""Greek ones that LaTeX has no command for, since they look like Latin ones."""


def in_latex(text: str) -> str:
    """`text` in one line, every letter of it set as itself."""
    line = " ".join(text.split())
    escaped = "".join(_LATEX.get(letter) or _symbol(letter) or letter for letter in line)
    return re.sub("-(?=-)", "-{}", escaped)  # two hyphens are a dash, and no option of a command


def _symbol(letter: str) -> str | None:
    """The mathematical symbol of a Greek letter or a lowered one; None for any other."""
    if letter.isascii():
        return None
    kind, _, plain = unicodedata.decomposition(letter).partition(" ")
    if kind == "<sub>":
        return f"$_{{{chr(int(plain, 16))}}}$"
    greek, _, name = unicodedata.name(letter, "").partition(" LETTER ")
    if greek not in ("GREEK SMALL", "GREEK CAPITAL") or " WITH " in name:
        return None
    word = name.lower().replace("lamda", "lambda")
    if greek == "GREEK CAPITAL":
        return _CAPITALS.get(word) or rf"$\{word.capitalize()}$"
    return {"omicron": "o", "final sigma": r"$\varsigma$"}.get(word, rf"$\{word}$")
