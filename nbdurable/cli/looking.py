"""What there is to see of runs: `ls`, `show`, `watch`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from nbdurable.cli.exits import FAILED, OK, WAITING
from nbdurable.cli.owner import Reached, ask
from nbdurable.cli.registered import known_service
from nbdurable.cli.words import common, terminal, write, write_json, write_table
from nbdurable.client.drawing import picture_of
from nbdurable.client.picture import (
    GLYPHS,
    TERMINAL,
    Ask,
    Picture,
    Row,
    Tone,
    clock_time,
    duration,
    short_id,
    shortened,
    status_of,
    tone_of,
    what_to_do,
    when,
)
from nbdurable.client.questions import STATUS_WORDS, Listed
from nbdurable.client.views import EntryView, InvocationView
from nbdurable.store.disk import disk_use, shown_bytes

# As many as a terminal shows without scrolling far.
LISTED_MAX: Final = 30
_COLOURS: Final[dict[Tone, str]] = {
    "ok": "green",
    "bad": "red",
    "busy": "blue",
    "waits": "yellow",
    "quiet": "dim",
}

Seen = tuple[InvocationView, tuple[EntryView, ...]]


@click.command
@click.option("--all", "shows_all", is_flag=True, help=f"Not only the newest {LISTED_MAX}.")
@click.option(
    "--status",
    type=click.Choice(STATUS_WORDS),
    multiple=True,
    help="Only those in this status; may be repeated.",
)
@click.option("--service", multiple=True, help="Only those of this service; may be repeated.")
@common
def ls(
    shows_all: bool,
    status: tuple[str, ...],
    service: tuple[str, ...],
    journal: Path | None,
    as_json: bool,
) -> None:
    """List runs, newest first, and what to do about each.

    A status is Restate's word, or succeeded, failed or unfinished.
    """

    async def look(at_hand: Reached) -> tuple[Listed, str]:
        for name in service:
            await known_service(at_hand.client, name)
        count_max = None if shows_all else LISTED_MAX
        listed = await at_hand.client.newest_invocations(
            count_max, services=service, statuses=status
        )
        return listed, _whereabouts(at_hand)

    (shown, count), whereabouts = ask(journal, look)
    if as_json:
        write_json(shown)
        return
    if shown:
        rows = [
            (
                short_id(view.id),
                view.target,
                _toned(tone_of(view), status_of(view)),
                clock_time(view.created_at_ms),
                _took(view),
                what_to_do(view, TERMINAL),
            )
            for view in shown
        ]
        write_table(("ID", "TARGET", "STATUS", "BEGAN", "TOOK", "NEXT"), rows)
    hidden = count - len(shown)
    more = f"; {hidden} older ones with --all" if hidden else ""
    click.echo(f"{_counted(count)}{more} · {whereabouts}", err=True)


@click.command
@click.argument("run")
@click.option("--trace", is_flag=True, help="The traceback of the last attempt that failed, too.")
@common
def show(run: str, trace: bool, journal: Path | None, as_json: bool) -> None:
    """Show one run and its journal.

    RUN is an id, the beginning of one, SERVICE/KEY, or a workflow's key.
    """

    async def look(at_hand: Reached) -> tuple[Seen, Picture, str, str]:
        client = at_hand.client
        view = await client.find(run)
        entries = await client.journal(view.id)
        stacktrace = await client.last_trace(view.id) if trace else ""
        picture = picture_of(view, entries, client.now_ms(), surface=TERMINAL)
        return (view, entries), picture, stacktrace, _woken(view, at_hand)

    (view, entries), picture, stacktrace, woken = ask(journal, look)
    if as_json:
        seen = {"invocation": view, "journal": entries}
        write_json({**seen, "stacktrace": stacktrace} if trace else seen)
        return
    write(drawn(picture))
    if woken:
        click.echo(woken)
    if stacktrace:
        click.echo(stacktrace.rstrip())
    elif trace:
        click.echo("no attempt of it has left a traceback", err=True)


def _woken(view: InvocationView, at_hand: Reached) -> str:
    """What goes on with a run whose time comes, and whether anything is running that could."""
    if view.wakes_at_ms is None or view.is_done or view.status == "paused":
        return ""
    at, owner = clock_time(view.wakes_at_ms), at_hand.owner
    if owner is None or not view.is_code_loaded:
        return f"at {at}: nothing is running that could go on with it"
    return f"at {at}, by {owner.program} (pid {owner.pid})"


@click.command
@click.argument("run")
@common
def watch(run: str, journal: Path | None, as_json: bool) -> None:
    """Follow a run live until it is over. Ctrl-C stops looking; the run goes on.

    Exits with 0 when it succeeded, 1 when it failed, 3 when it is not over, or is paused.
    """
    try:
        view = ask(journal, partial(_follow, run=run, as_json=as_json))
    except KeyboardInterrupt:
        click.echo("stopped looking; the run goes on", err=True)
        raise SystemExit(WAITING) from None
    raise SystemExit(code_of(view))


def code_of(view: InvocationView) -> int:
    """What a script is told of a run."""
    if not view.is_done:
        return WAITING
    return OK if view.succeeded else FAILED


def paused_note(view: InvocationView) -> str:
    """What whoever waits for a paused run is told: it does not go on by itself."""
    return f"{view.target} is paused: {what_to_do(view, TERMINAL)}"


async def _follow(at_hand: Reached, run: str, *, as_json: bool) -> InvocationView:
    client = at_hand.client
    found = await client.find(run)
    show_next: Callable[[Picture, Seen], Any]
    if as_json:
        show_next = _write_seen
    elif terminal().is_terminal:
        show_next = _Screen()
    else:
        show_next = _Lines()
    loop, changes = asyncio.get_running_loop(), asyncio.Queue[Seen]()

    def changed(view: InvocationView, entries: tuple[EntryView, ...]) -> None:
        """On a thread of the client's."""
        loop.call_soon_threadsafe(changes.put_nowait, (view, entries))

    end = await asyncio.to_thread(client.watch, found.id, changed)
    try:
        while True:
            view, entries = await changes.get()
            picture = picture_of(view, entries, client.now_ms(), surface=TERMINAL)
            show_next(picture, (view, entries))
            if view.is_done:
                return view
            if view.status == "paused":
                click.echo(paused_note(view), err=True)
                return view
            if at_hand.owner is None:
                # Nobody but us has the journal, and we have no code: nothing would ever change.
                click.echo(f"nothing is running that could go on; {view.how_to_load}", err=True)
                return view
    finally:
        if isinstance(show_next, _Screen):
            show_next.close()
        await asyncio.to_thread(end)


def _write_seen(_: Picture, seen: Seen) -> None:
    view, entries = seen
    write_json({"invocation": view, "journal": entries})


class _Screen:
    """Mutable: one picture on the terminal, drawn over the one before."""

    def __init__(self) -> None:
        self._live = Live(console=terminal(), auto_refresh=False)
        self._live.start()

    def __call__(self, picture: Picture, _: Seen) -> None:
        self._live.update(drawn(picture), refresh=True)

    def close(self) -> None:
        self._live.stop()


class _Lines:
    """Mutable: what was written. One line for each change, for a pipe or a log."""

    def __init__(self) -> None:
        self._written: dict[int, str] = {}
        self._status = ""

    def __call__(self, picture: Picture, _: Seen) -> None:
        for row in picture["rows"]:
            line = " ".join(filter(None, _cells(row)))
            if self._written.get(row["index"]) != line:
                self._written[row["index"]] = line
                click.echo(line)
        if picture["status"] != self._status:
            self._status = picture["status"]
            click.echo(f"{picture['target']} {self._status}")


def drawn(picture: Picture) -> Group:
    """One run, as the cell of a notebook shows it."""
    lines = [
        Text.assemble(
            (picture["target"], "bold"), "  ", _toned(picture["tone"], picture["status"])
        ),
        Text(f"{picture['id']} · {picture['facts']}", "dim"),
    ]
    if picture["failure"]:
        lines.append(Text(picture["failure"], _COLOURS["bad"]))
    if picture["earlier"]:
        lines.append(Text(f"… {picture['earlier']} earlier entries", "dim"))
    table = Table(box=None, show_header=False, pad_edge=False)
    for row in picture["rows"]:
        index, kind, name, took, value = _cells(row)
        table.add_row(
            Text(index, "dim"), _toned(row["tone"], kind), name, Text(took, "dim"), Text(value)
        )
    asks = [_asked(ask) for ask in picture["asks"] if ask["title"] or ask["context"]]
    todo = [Text(f"to do: {picture['todo']}", "dim")] if picture["todo"] else []
    return Group(*lines, table, *asks, *todo)


def _asked(ask: Ask) -> Text:
    """What a person has to know to answer."""
    said = "\n".join(filter(None, (ask["title"], ask["context"])))
    return Text(f"{ask['name']}: {said}")


def _cells(row: Row) -> tuple[str, str, str, str, str]:
    value = " ".join(filter(None, (shortened(row["failure"] or row["value"]), row["by"])))
    return str(row["index"]), row["kind"], row["name"], when(row), value


def _toned(tone: Tone, text: str) -> Text:
    return Text(f"{GLYPHS[tone]} {text}", _COLOURS[tone])


def _took(view: InvocationView) -> str:
    if view.completed_at_ms is None:
        return ""
    return duration(view.completed_at_ms - view.created_at_ms)


def _counted(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"


def _whereabouts(at_hand: Reached) -> str:
    """The journal, how much of the disk it has, and who has it."""
    owner = at_hand.owner
    who = "no process has it open" if owner is None else f"open in {owner.who}"
    use = shown_bytes(disk_use(at_hand.path).total_bytes)
    return f"{at_hand.path}, {use}, {who}"
