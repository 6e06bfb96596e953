"""The nearest right spelling of what a person has mistyped."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches


def nearest(word: str, known: Sequence[str]) -> str:
    """`did you mean 'show'?`, or nothing when nothing is near."""
    near = get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else ""


def no_such(what: str, word: str, known: Sequence[str]) -> str:
    """What is not there, what may have been meant, and else all there is."""
    return f"{what} {word!r}; {nearest(word, known) or 'it has: ' + ', '.join(known)}"
