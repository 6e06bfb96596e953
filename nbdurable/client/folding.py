"""What `durable.map` has done, as one line of a journal: how many of its items are done.

Of its items only those stand in lines of their own that go on, wait or have failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nbdurable.client.views import EntryView
from nbdurable.sdk.mapping import read_title


def folded(entries: Sequence[EntryView], *, is_over: bool) -> list[EntryView]:
    """The entries, with the finished items of each map drawn into the one that opened it.

    Two maps of the same name are told apart as long as the first is over before the second opens.
    """
    lines: list[EntryView] = []
    # Where the line of a map is, by the name that its items begin with.
    open_maps: dict[str, int] = {}
    titles: dict[int, tuple[str, int]] = {}
    done: dict[int, int] = {}
    for entry in entries:
        title = read_title(entry.name or "")
        if title is not None:
            open_maps[title[0]] = len(lines)
            titles[len(lines)] = title
            done[len(lines)] = 0
            lines.append(entry)
            continue
        name, bracket, _ = (entry.name or "").partition("[")
        if bracket and entry.kind == "Run" and entry.status == "done" and name in open_maps:
            at = open_maps[name]
            done[at] += 1
            # Its line lasts as long as the last of its items.
            lines[at] = replace(lines[at], ended_at_ms=entry.ended_at_ms)
        elif entry.kind == "Sleep" and entry.name and _paces(entry.name, open_maps):
            continue
        else:
            lines.append(entry)
    for at, (name, count) in titles.items():
        line = replace(lines[at], name=f"map {name}: {done[at]} of {count}", value="")
        if done[at] < count and not is_over:
            line = replace(line, status="running", ended_at_ms=None)
        lines[at] = line
    return lines


def _paces(name: str, open_maps: dict[str, int]) -> bool:
    """A timer of a rate that is open or done says nothing to a person."""
    return name.startswith("rate of ") and name.removeprefix("rate of ") in open_maps
