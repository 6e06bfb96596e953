"""The nearest right spelling of what a person has mistyped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


def near(word: str, known: Iterable[str]) -> str | None:
    """The one of those that is nearest; upper and lower case are one."""
    by_folded = {one.casefold(): one for one in known}
    found = get_close_matches(word.casefold(), by_folded, n=1)
    return by_folded[found[0]] if found else None


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean 'show'?`, or nothing when nothing is near."""
    found = near(word, known)
    return f"did you mean {found!r}?" if found is not None else ""


def no_such(what: str, word: str, known: Sequence[str]) -> str:
    """What is not there, what may have been meant, and else all there is."""
    return f"{what} {word!r}; {nearest(word, known) or 'it has: ' + ', '.join(known)}"
