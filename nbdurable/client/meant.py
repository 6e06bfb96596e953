"""What may have been meant by a name that is none: one that begins so, or is spelt nearly so."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

# More than a person compares with what they have typed.
SHOWN_MAX: Final = 3


def meant_by(text: str, names: Iterable[str]) -> list[str]:
    """Those that begin with it come first, in their order; upper and lower case are one."""
    by_folded = {name.casefold(): name for name in names}
    folded = text.casefold()
    begin_so = [name for name in by_folded if folded and name.startswith(folded)]
    found = begin_so or get_close_matches(folded, by_folded, SHOWN_MAX)
    return [by_folded[name] for name in found[:SHOWN_MAX]]


def did_you_mean(names: Iterable[str]) -> str:
    """`did you mean 'ask-7ada' or 'ask-8bde'?`, or nothing."""
    *most, last = [repr(name) for name in names] or [""]
    before = f"{', '.join(most)} or " if most else ""
    return f"did you mean {before}{last}?" if last else ""
