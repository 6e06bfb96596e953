"""`durable.schedule(…)` gives this: one schedule, for code that waits for what it asks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from nbdurable.client.engine import EngineClient
from nbdurable.schedules.keeping import Schedules
from nbdurable.schedules.service import view


class Schedule:
    """A name, and whose journal it is in. What it is now is asked anew each time.

    Each method raises HttpError 404 once the schedule has been removed.
    """

    def __init__(self, client: Callable[[], EngineClient], name: str) -> None:
        """`client` is asked for at each use: that of a kernel changes when it is opened anew."""
        self._client = client
        self.name = name

    def __repr__(self) -> str:
        seen = self.show()
        nxt = "paused" if seen["paused"] else f"next {seen['next'] or 'never'}"
        late = ", overdue" if seen["overdue"] else ""
        return (
            f"<Schedule {self.name} {seen['when']!r} {seen['tz']} calls {seen['called']},"
            f" {nxt}{late}, last {seen['last'] or 'never'}>"
        )

    def show(self) -> dict[str, Any]:
        """All there is to know, with times in its own zone; what `nbdurable schedule show` says."""
        client = self._client()
        return view(self.name, client.wait(Schedules(client).show(self.name)), client.now_ms())

    @property
    def next(self) -> datetime | None:
        """When it fires next; None while it is paused, and once it never does again."""
        seen = self.show()
        is_none = seen["paused"] or seen["next"] is None
        return None if is_none else datetime.fromisoformat(seen["next"])

    @property
    def last(self) -> datetime | None:
        """For when its last fire was."""
        last = self.show()["last"]
        return None if last is None else datetime.fromisoformat(last)

    def pause(self) -> None:
        """Fire no more until it is resumed; what runs goes on."""
        client = self._client()
        client.wait(Schedules(client).pause(self.name))

    def resume(self) -> None:
        """Fire again; what was missed is made up for as the schedule says."""
        client = self._client()
        client.wait(Schedules(client).resume(self.name))

    def trigger(self) -> str:
        """Start a run now, whatever the clock says; its id."""
        client = self._client()
        return client.wait(Schedules(client).trigger(self.name))

    def backfill(self, days: int) -> list[str]:
        """Start the runs of the past days; those that have run do not run again. Their ids."""
        client = self._client()
        return client.wait(Schedules(client).backfill(self.name, days))

    def remove(self) -> None:
        """Forget it; what runs goes on."""
        client = self._client()
        client.wait(Schedules(client).remove(self.name))
