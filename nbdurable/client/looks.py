"""What a person sees of invocations: lists, one and its journal, SQL, live views."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Final

from nbdurable.client.asking import Asking
from nbdurable.client.export import export
from nbdurable.client.meant import did_you_mean
from nbdurable.client.operator import Operator
from nbdurable.client.query import Found, Parameters
from nbdurable.client.questions import (
    AllInvocations,
    AllServices,
    Called,
    CallsOf,
    EntryText,
    InvocationAndJournal,
    JournalChanges,
    JournalPart,
    KeyedSteps,
    LastError,
    Listed,
    MeantInvocations,
    NearNames,
    NewestInvocations,
    OneInvocation,
)
from nbdurable.client.views import EntryView, InvocationView
from nbdurable.core.ids import (
    InvocationId,
    parse_invocation_id,
)
from nbdurable.core.manifest import ServiceManifest
from nbdurable.core.values import ErrorReport
from nbdurable.engine.ports import ANSWER_LIMITS, AnswerLimits
from nbdurable.errors import (
    AmbiguousError,
    InvocationNotFoundError,
)
from nbdurable.store.sql import parse

_SQL: Final = parse(resources.files(__package__).joinpath("sql/looks.sql").read_text("utf-8"))

Listener = Callable[[InvocationView, tuple[EntryView, ...]], None]


class Looks(Asking):
    """One question each; nothing is changed."""

    def now_ms(self) -> int:
        """The engine's clock, which is what its times are by."""
        return self._link.clock.now_ms()

    async def invocations(self) -> list[InvocationView]:
        """All that are known, oldest first."""
        return await self._ask(AllInvocations())

    async def newest_invocations(
        self,
        count_max: int | None = None,
        *,
        services: Iterable[str] = (),
        statuses: Iterable[str] = (),
        asks: bool = False,
    ) -> Listed:
        """What a person lists: the newest first, and how many there are.

        Args:
            count_max: How many are given; None gives all.
            services: Of these only, if any are named. If none is, the runs that keep schedules are
                left out as long as they go well.
            statuses: In one of these only: Restate's words, `succeeded`, `failed`, `unfinished`.
            asks: Only those that wait for somebody's answer.
        """
        return await self._ask(
            NewestInvocations(
                count_max=count_max,
                services=tuple(services),
                statuses=tuple(statuses),
                asks=asks,
            )
        )

    async def invocation(self, invocation_id: str) -> InvocationView:
        return await self._ask(OneInvocation(invocation_id=InvocationId(invocation_id)))

    async def journal(self, invocation_id: str) -> tuple[EntryView, ...]:
        question = InvocationAndJournal(invocation_id=InvocationId(invocation_id))
        return (await self._ask(question))[1]

    async def entry_text(self, invocation_id: str, entry_index: int) -> str:
        """All that one entry holds, to be read: what went in, and what came of it. Bounded."""
        return await self._ask(
            EntryText(invocation_id=InvocationId(invocation_id), entry_index=entry_index)
        )

    async def keyed_steps(self, invocation_id: str) -> list[tuple[str, bytes | None]]:
        """The steps of a keyed journal in the order they began, and what they came to, in bytes.

        A step that failed, did not end, or whose bytes are lost, has None.
        """
        return await self._ask(KeyedSteps(invocation_id=InvocationId(invocation_id)))

    async def calls_of(self, service: str) -> list[Called]:
        """All invocations of a service that are known, oldest first, and what each was sent."""
        return await self._ask(CallsOf(service=service))

    async def last_error(self, invocation_id: str) -> ErrorReport | None:
        """Why the last attempt failed, with its stack; None if none did, or since a restart."""
        return await self._ask(LastError(invocation_id=InvocationId(invocation_id)))

    async def last_trace(self, invocation_id: str) -> str:
        """The traceback of the last attempt that failed; empty if none did, or was purged.

        It is read from the journal: also of a run that is over, and of what failed before a
        restart.

        Raises:
            QueryError: The journal is one in memory, which has no SQL.
        """
        found = await self.query(_SQL["last_trace"], {"id": invocation_id})
        return "" if not found.rows else found.rows[0][0] or ""

    async def services(self) -> list[ServiceManifest]:
        """The latest revision of each."""
        return await self._ask(AllServices())

    async def query(
        self,
        sql: str,
        parameters: Parameters | None = None,
        limits: AnswerLimits = ANSWER_LIMITS,
    ) -> Found:
        """Ask one SELECT of the journal, e.g. of sys_invocation, sys_journal or state.

        ```python
        found = await client.query("select id, status from sys_invocation where target = ?", [name])
        print(found.df())
        ```

        Args:
            sql: In DuckDB's dialect, over the tables that Restate has.
            parameters: Values for its `?` or `$name`.
            limits: Of time, past which it is interrupted; of rows and bytes, past which it is cut.

        Raises:
            QueryError: It is refused, wrong, too much, or was interrupted; the text says which.
        """
        return await self._access.query(sql, parameters, limits)

    async def export(
        self,
        folder: str | os.PathLike[str],
        *,
        invocation_id: str | None = None,
        payloads: bool = True,
    ) -> dict[str, int]:
        """Write the journal's tables as Parquet: `sys_invocation.parquet` and so on.

        ```python
        await client.export("bug-report", invocation_id=run.id, payloads=False)
        ```

        Needs pyarrow: `pip install 'nbdurable[arrow]'`.

        Args:
            folder: A new one, or an empty one.
            invocation_id: Only what belongs to this invocation, to its key and its service.
            payloads: False leaves out what users have put in and got out: arguments, results,
                state, output. Names and messages of failures stay.

        Returns:
            How many rows each table had.

        Raises:
            InvocationNotFoundError: There is no such invocation.
            NbdurableError: There is something in the folder.
        """
        return await export(self, Path(folder), invocation_id=invocation_id, payloads=payloads)

    async def find(self, text: str) -> InvocationView:
        """The one invocation that has this id, id prefix, or target (`Payment/order-456`).

        Raises:
            InvocationNotFoundError: None has it.
            AmbiguousError: Several have it.
        """
        with suppress(ValueError, InvocationNotFoundError):
            # A whole id need not be looked for among all.
            return await self.invocation(parse_invocation_id(text))
        listed = await self._ask(MeantInvocations(text=text))
        match listed.found_count:
            case 0:
                names = did_you_mean(await self.names_near(text))
                raise InvocationNotFoundError(
                    f"there is no invocation {text!r}{names and f'; {names}'}"
                )
            case 1:
                return listed.views[0]
            case several:
                shown = ", ".join(view.id for view in listed.views)
                more = ", …" if several > len(listed.views) else ""
                raise AmbiguousError(
                    f"{text!r} could be any of {several} invocations: {shown}{more}"
                )

    async def names_near(self, text: str) -> list[str]:
        """Names of runs that may have been meant by a text that names none."""
        return await self._ask(NearNames(text=text))

    def watch(self, invocation_id: str, listener: Listener) -> Callable[[], None]:
        """Tell the listener what the invocation looks like, now and whenever it changes.

        The listener is called on a thread of the engine's or of the link's, at most 5 times a
        second, and the last state is always told. Returns the function that ends it.
        """
        entries: dict[int, EntryView] = {}

        def changed(part: JournalPart) -> None:
            if part.is_first:
                entries.clear()
            entries.update((entry.index, entry) for entry in part.entries)
            listener(part.view, tuple(entries[index] for index in sorted(entries)))

        return self.watch_changes(invocation_id, changed)

    def watch_changes(
        self, invocation_id: str, listener: Callable[[JournalPart], None]
    ) -> Callable[[], None]:
        """The same, of its entries only those that are new or have changed.

        A part that is the first replaces all before it: another process has taken over the engine,
        or the invocation lives anew under its id.
        """
        question = JournalChanges(invocation_id=InvocationId(invocation_id))
        return self._access.watch(question, listener)

    def watch_newest(
        self,
        listener: Callable[[Listed], None],
        count_max: int | None = None,
        *,
        asks: bool = False,
    ) -> Callable[[], None]:
        """The same of what `newest_invocations` lists, at most twice a second."""
        return self._access.watch(NewestInvocations(count_max=count_max, asks=asks), listener)

    def operator(self) -> Operator:
        """What is registered and how, and the state of keys, to look at and to change."""
        return Operator(self._access)
