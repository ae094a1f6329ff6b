"""The text: sentences put together by chance, the same ones everywhere. No torch."""

from __future__ import annotations

import random

ALPHABET = " abcdefghijklmnopqrstuvwxyz"
NOTES = "a margin holds what the page could not say to its reader who wrote back between lines"
SIZES = {"train": 24_000, "test": 6_000}
"""Characters per split."""


def encoded(split: str) -> list[int]:
    """Characters of a split, as positions in the alphabet."""
    draws, words = random.Random(split), NOTES.split()
    letters: list[str] = []
    while len(letters) < SIZES[split]:
        letters += f"{draws.choice(words)} "
    return [ALPHABET.index(letter) for letter in letters[: SIZES[split]]]
