"""Wiring: puts store, engine, link and client together. The only place that does.

The journal is a folder, `./.nbdurable` unless `path` or NBDURABLE_HOME says otherwise. One
process owns it at a time. What a call leaves open is for the environment and `pyproject.toml` to
say: this is the only module that asks them.
"""

from __future__ import annotations

import abc
import asyncio
import atexit
import getpass
import os
import secrets
import sys
import threading
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from nbdurable import __version__
from nbdurable.client.engine import EngineClient
from nbdurable.client.local import LocalClient
from nbdurable.client.sync import SyncClient
from nbdurable.core.builtin import NOTEBOOK_SERVICE, SCHEDULE_SERVICE
from nbdurable.core.proposals import LoadCode, Loaded, Proposal
from nbdurable.engine.clock import WallClock
from nbdurable.engine.loop import CLEANUP_INTERVAL_MS, Engine
from nbdurable.engine.ports import Clock, Observer, Store
from nbdurable.errors import EngineClosedError, NbdurableError
from nbdurable.invoker.local import LocalLink
from nbdurable.invoker.manifest import manifest_of
from nbdurable.invoker.options import cleanup_interval_ms, settings_of
from nbdurable.invoker.seal import Seal
from nbdurable.invoker.wire_source import WireSource
from nbdurable.observe.counts import Counts, Metrics, summed
from nbdurable.sdk.codec import JournalValueCodec, JournalValueCodecProvider
from nbdurable.sdk.definition import Definition, by_name
from nbdurable.sdk.options import EngineOptions
from nbdurable.settings.said import home, notebook_processes_here, notify_here, options_here

if TYPE_CHECKING:
    from nbdurable.runs.starter import Starter
    from nbdurable.schedules.herald import Herald
    from nbdurable.store.lock import OwnerLock

PICKLE_KEY_FILE = "pickle.key"
# Those that are open in this process, by what they count.
_counted: weakref.WeakSet[Counts] = weakref.WeakSet()
_PROGRAM_CHARS_MAX = 200
_SERVED_NOWHERE: dict[str, object] = {"ingress": None, "admin": None, "token_file": None}


def journal_path(path: str | os.PathLike[str] | None = None) -> Path:
    """Where the journal is: `path`, else NBDURABLE_HOME, else ./.nbdurable."""
    return Path(path or home()).absolute()


def this_person() -> str:
    """What whoever sits here is called: by the hub if there is one, else by the system."""
    named = os.environ.get("JUPYTERHUB_USER")
    if named:
        return named
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        # A container may run under a number that has no name.
        return "somebody"


def metrics() -> Metrics:
    """What the engines that are open in this process have committed since they were opened.

    Of a journal that another process owns, its owner counts.
    """
    return summed(list(_counted))


def this_program() -> str:
    """What others are told that this process runs; cut, because it may have any number of words."""
    return " ".join(sys.argv)[:_PROGRAM_CHARS_MAX]


class OpenableEngine(abc.ABC):
    """What can be opened and has a client. Use as an `async with`, or `start` and `close`."""

    @property
    @abc.abstractmethod
    def path(self) -> Path: ...

    @property
    @abc.abstractmethod
    def client(self) -> EngineClient: ...

    @property
    @abc.abstractmethod
    def owned(self) -> DurableEngine:
        """The engine itself, where it is in this process.

        Raises:
            NbdurableError: Another process has it.
        """

    @abc.abstractmethod
    def start(self) -> None: ...

    @abc.abstractmethod
    def close(self) -> None: ...

    @abc.abstractmethod
    async def register_all(self) -> list[Loaded]:
        """Load the code of the services given to `open`: what was in flight goes on."""

    async def __aenter__(self) -> Self:
        refused = await asyncio.to_thread(self.refused_to_start)
        if refused is not None:
            # Without the frames that led here: the sentence and the user's own line say it all.
            raise refused.with_traceback(None)
        try:
            await self.register_all()
        except BaseException:
            await asyncio.to_thread(self.close)
            raise
        return self

    def refused_to_start(self) -> NbdurableError | None:
        """Start, or say why not, without the frames that led there."""
        try:
            self.start()
        except NbdurableError as error:
            return error
        return None

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.close)


class DurableEngine(OpenableEngine):
    """A journal and the engine on it, in this process and for this process."""

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        services: Iterable[Definition] = (),
        *,
        store: Store | None = None,
        clock: Clock | None = None,
        options: EngineOptions | None = None,
        is_settled: bool = False,
        logs_failures: bool = True,
        journal_value_codec: JournalValueCodec | JournalValueCodecProvider | None = None,
        lasts: bool = False,
    ) -> None:
        """As `open`, and two more.

        Args:
            is_settled: What is said here is in the options, and not asked again.
            lasts: It is there for more than one deed: it gives each notebook run that was sent its
                process, and tells how runs stand.
        """
        self._path = journal_path(path)
        self.services = list(by_name(services).values())
        self._store = store
        self._clock = clock or WallClock()
        # A store of the caller's own is no project's, so no project says how it is run.
        is_said = is_settled or store is not None
        self._options = options or EngineOptions() if is_said else options_here(options)
        self._settings = settings_of(self._options)
        self._cleanup_interval_ms = cleanup_interval_ms(self._options) or CLEANUP_INTERVAL_MS
        self._logs_failures = logs_failures
        # An app brings its own.
        self._codec = journal_value_codec or getattr(services, "journal_value_codec", None)
        self._key: bytes | None = None
        self._lasts = lasts and store is None
        self._starter: Starter | None = None
        self._herald: Herald | None = None
        self._engine: Engine | None = None
        self._lock: OwnerLock | None = None
        self._link: LocalLink | None = None
        self._telling = threading.Lock()
        self._told: list[dict[str, object]] = []
        self._client: LocalClient | None = None
        self._counts = Counts()

    def __repr__(self) -> str:
        state = "closed" if self._engine is None else "open"
        return f"<DurableEngine {self.path} {state}, {len(self.services)} services>"

    @property
    def path(self) -> Path:
        return self._path

    @property
    def owned(self) -> DurableEngine:
        return self

    @property
    def concurrency(self) -> int | None:
        """How many attempts it may run at once, whoever has said so."""
        return self._options.concurrency

    @property
    def client(self) -> LocalClient:
        if self._client is None:
            raise EngineClosedError("the engine is not open; use it inside `async with`")
        return self._client

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            raise EngineClosedError("the engine is not open; use it inside `async with`")
        return self._engine

    def start(self) -> None:
        """Take the journal, recover, begin. Blocks for as long as recovery takes.

        Raises:
            JournalHeldError: Another process has it.
            JournalDamagedError: It cannot be read; nothing was modified.
            JournalVersionError: A newer version wrote it; nothing was modified.
        """
        store = self._store or self._duck_store()
        owner = f"pid {os.getpid()}: {this_program()}"
        self._counts = Counts()
        engine = Engine(
            store,
            self._clock,
            owner,
            __version__,
            settings=self._settings,
            cleanup_interval_ms=self._cleanup_interval_ms,
            logs_failures=self._logs_failures,
            observers=_observers(self._counts),
        )
        engine.start()
        _counted.add(self._counts)
        link = self.link
        link.report_to(engine.post)
        engine.add_link(link).result()
        self._engine = engine
        _look_after(self)
        self._client = LocalClient(engine, link)
        engine.ask(lambda: self._serve_our_own(engine, link)).result()

    def _serve_our_own(self, engine: Engine, link: LocalLink) -> None:
        """On the engine's thread: what is ours is there once the journal has any use for it."""
        serves = {SCHEDULE_SERVICE: lambda: self._serve_schedules(engine, link)}
        if self._lasts:
            serves[NOTEBOOK_SERVICE] = lambda: self._start_runs(engine)
            if notify_here() is not None:
                self._tell_how_runs_stand(engine)

        def heard() -> None:
            for name in serves.keys() & engine.services.keys():
                serves.pop(name)()

        engine.services_heard = heard
        heard()

    def _serve_schedules(self, engine: Engine, link: LocalLink) -> None:
        from nbdurable.schedules.service import BUILT_IN, DIGESTS

        for definition in BUILT_IN:
            manifest = manifest_of(definition, digest=DIGESTS[definition.name])
            link.offer(definition, manifest.digest)
            engine.post(LoadCode(link=link.name, manifest=manifest))
        if self._lasts:
            self._tell_how_runs_stand(engine)

    def _tell_how_runs_stand(self, engine: Engine) -> None:
        from nbdurable.schedules.herald import Herald

        if self._herald is None:
            self._herald = Herald(engine, LocalClient(engine, self.link), notify_here())
            self._herald.begin()

    def _start_runs(self, engine: Engine) -> None:
        from nbdurable.runs.starter import Starter

        processes_max = notebook_processes_here()
        self._starter = Starter(engine, self._clock, self.link.wires, self.path, processes_max)
        self._starter.begin()

    @property
    def is_starting_runs(self) -> bool:
        """Whether a notebook run has a process that was started here, or waits for one."""
        return self._starter is not None and self._starter.is_busy

    @property
    def folder(self) -> Path | None:
        """Where the journal's files are; None of one that has none."""
        return None if self._store is not None else self.path

    @property
    def has_codec(self) -> bool:
        return self._codec is not None

    @property
    def link(self) -> LocalLink:
        """Where handlers of this process run, also while another one has the engine."""
        if self._link is None:
            wires = WireSource(Seal(self._pickle_key), self._codec)
            self._link = LocalLink(f"local-{os.getpid()}", self._clock, report_to_nobody, wires)
            self._link.start()
        return self._link

    def announce(self, **more: object) -> Callable[[], None]:
        """Tell the other processes of the project, in `owner.json`, how this one is reached.

        Returns the function that takes it back. Of several announcements the last one counts.
        """
        with self._telling:
            self._told.append(more)
            self._tell()

        def take_back() -> None:
            with self._telling, suppress(OSError):
                self._told.remove(more)
                # On a full disk the note stays as it is, until it is removed with the lock.
                self._tell()

        return take_back

    def _tell(self) -> None:
        told = self._told[-1] if self._told else _SERVED_NOWHERE
        if self._lock is not None and self._lock.is_held:
            # Where the folder is gone nobody looks for us.
            with suppress(FileNotFoundError):
                self._lock.announce(version=__version__, **told)

    def _duck_store(self) -> Store:
        from nbdurable.store.duck import DuckStore

        store = DuckStore(self.path, created_by=f"nbdurable {__version__}")
        self._lock = store.lock
        return store

    def _pickle_key(self) -> bytes:
        """What pickles of this journal are signed with: as long-lived as the journal is."""
        if self._key is None:
            self._key = secrets.token_bytes(32) if self._store else kept_key(self.path)
        return self._key

    async def register_all(self) -> list[Loaded]:
        return [await self.client.register(service) for service in self.services]

    def close(self) -> None:
        """Stop what runs, absorb, let go of the journal. What ran goes on at the next open."""
        engine, link, starter = self._engine, self._link, self._starter
        if self._herald is not None:
            self._herald.close()
        self._engine = self._link = self._client = self._starter = self._herald = None
        _counted.discard(self._counts)
        if starter is not None:
            starter.close()
        if link is not None:
            link.close()
        if engine is not None:
            engine.close()


class SyncDurableEngine:
    """The same engine for code without asyncio. Use as a `with`."""

    def __init__(self, opened: OpenableEngine) -> None:
        self.opened = opened

    def __repr__(self) -> str:
        return repr(self.opened).replace("<", "<Sync", 1)

    @property
    def path(self) -> Path:
        return self.opened.path

    @property
    def client(self) -> SyncClient:
        return SyncClient(self.opened.client)

    def __enter__(self) -> Self:
        refused = self.opened.refused_to_start()
        if refused is not None:
            raise refused.with_traceback(None)
        try:
            self.opened.client.wait(self.opened.register_all())
        except BaseException:
            self.opened.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.opened.close()


def _observers(counts: Counts) -> list[Observer]:
    """Who hears of commits: our own counts, and OpenTelemetry where its API is installed."""
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.trace") is None:
        return [counts]
    from nbdurable.observe.otel import Telemetry

    return [counts, Telemetry(__version__)]


def report_to_nobody(_: Proposal) -> None:
    """What attempts propose while nobody owns the engine; they end, and nothing is recorded."""
    raise EngineClosedError("nobody owns the engine just now")


def _look_after(opened: DurableEngine) -> None:
    """Poison it in forked children, and close it if the interpreter ends before its owner does.

    Both are courtesies: correctness never depends on them.
    """
    held = weakref.ref(opened)

    def poison() -> None:
        opened = held()
        if opened is not None and opened._engine is not None:  # noqa: SLF001 - our own.
            opened._engine.poison()  # noqa: SLF001

    def close() -> None:
        opened = held()
        if opened is not None and os.getpid() == owner:
            opened.close()

    owner = os.getpid()
    os.register_at_fork(after_in_child=poison)
    atexit.register(close)


def kept_key(folder: Path) -> bytes:
    """The key beside the journal, readable by its owner only; made at first need."""
    from nbdurable.store.lock import write_private

    file = folder / PICKLE_KEY_FILE
    if not file.exists():
        write_private(file, secrets.token_bytes(32))
    return file.read_bytes()
