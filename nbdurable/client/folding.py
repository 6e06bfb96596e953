"""What `durable.map` has done, as one line of a journal: how many of its items are done.

Of its items only those stand in lines of their own that go on, wait or have failed for good; one
that was begun again has the line of its last time.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from nbdurable.client.views import EntryView
from nbdurable.sdk.mapping import pause_title, rate_title, read_title


@dataclass(slots=True)
class _Map:
    """Mutable: how far one map is. Its line lasts as long as the last of its items."""

    name: str
    count: int
    begun_count: int = 0
    done_count: int = 0
    ended_at_ms: int | None = None


class Lines:
    """Mutable: the lines of one journal, kept up to date by the entries that change."""

    def __init__(self) -> None:
        self._entries: dict[int, EntryView] = {}
        # Numbers of the entries that have a line, in order.
        self.indices: list[int] = []
        self._maps: dict[int, _Map] = {}
        # Of a name the map that opened last: that an older one of it is over is taken for granted.
        self._open: dict[str, int] = {}
        self._map_of: dict[int, int] = {}
        # Of an item's name its last entry: keys are told apart, so a second one is another try.
        self._tried: dict[str, int] = {}
        self._pauses: set[int] = set()

    def __len__(self) -> int:
        return len(self.indices)

    def add(self, entries: Iterable[EntryView]) -> set[int]:
        """New or changed entries, in order; the numbers of lines that differ or are gone."""
        touched: set[int] = set()
        for entry in entries:
            before = self._entries.get(entry.index)
            self._entries[entry.index] = entry
            touched |= self._begin(entry) if before is None else {entry.index}
            of = self._map_of.get(entry.index)
            if of is not None and entry.status == "done":
                touched |= self._finish(entry, of)
            elif entry.index in self._pauses and entry.status == "done":
                self._pauses.remove(entry.index)
                self.indices.remove(entry.index)
        return touched

    def line(self, index: int, *, is_over: bool) -> EntryView:
        """What stands at this number. `is_over`: the run is, and so is all that it began."""
        entry = self._entries[index]
        found = self._maps.get(index)
        if found is None:
            return entry
        name = f"map {found.name}: {found.done_count} of {found.count}"
        ended_at_ms = found.ended_at_ms or entry.ended_at_ms
        if found.done_count < found.count and not is_over:
            return replace(entry, name=name, value="", status="running", ended_at_ms=None)
        return replace(entry, name=name, value="", ended_at_ms=ended_at_ms)

    def has(self, index: int) -> bool:
        at = bisect_left(self.indices, index)
        return at < len(self.indices) and self.indices[at] == index

    def before(self, index: int, count_max: int) -> list[int]:
        """The numbers of the last lines before this one."""
        at = bisect_left(self.indices, index)
        return self.indices[max(at - count_max, 0) : at]

    def _begin(self, entry: EntryView) -> set[int]:
        name = entry.name or ""
        title = read_title(name)
        if title is not None:
            self._open[title[0]] = entry.index
            self._maps[entry.index] = _Map(*title)
        elif (of := self._map_that_began(entry.kind, name)) is not None:
            self._map_of[entry.index] = of
            self._maps[of].begun_count += 1
            failed = self._tried.get(name)
            self._tried[name] = entry.index
            if failed in self._map_of:
                del self._map_of[failed]
                self.indices.remove(failed)
                insort(self.indices, entry.index)
                return {failed, entry.index}
        elif entry.kind in ("Sleep", "Run") and _is_said_to(rate_title, name, self._open):
            # What keeps a rate says nothing to a person, open or done.
            return set()
        elif entry.kind in ("Sleep", "Run") and _is_said_to(pause_title, name, self._open):
            self._pauses.add(entry.index)
        insort(self.indices, entry.index)
        return {entry.index}

    def _map_that_began(self, kind: str, name: str) -> int | None:
        """The map that this entry is an item of: a step `fetch[KEY]`, or a call of `…/fetch`."""
        if kind == "Run" and "[" in name:
            return self._open.get(name.partition("[")[0])
        of = self._open.get(name.rpartition("/")[2]) if kind == "Call" else None
        # The same handler may be called when the map is over.
        if of is None or self._maps[of].begun_count >= self._maps[of].count:
            return None
        return of

    def _finish(self, entry: EntryView, of: int) -> set[int]:
        """An item is done: it goes into the line of its map."""
        del self._map_of[entry.index]
        self.indices.remove(entry.index)
        found = self._maps[of]
        found.done_count += 1
        ends = (found.ended_at_ms, entry.ended_at_ms)
        found.ended_at_ms = max((end for end in ends if end is not None), default=None)
        return {of, entry.index}


def folded(entries: Sequence[EntryView], *, is_over: bool) -> list[EntryView]:
    """The entries, with the finished items of each map drawn into the one that opened it.

    Two maps of the same name are told apart as long as the first is over before the second opens.
    """
    lines = Lines()
    lines.add(entries)
    return [lines.line(index, is_over=is_over) for index in lines.indices]


def _is_said_to(title: Callable[[str], str], name: str, open_maps: dict[str, int]) -> bool:
    """Whether it is what a map has named so."""
    prefix = title("")
    return name.startswith(prefix) and name.removeprefix(prefix) in open_maps
