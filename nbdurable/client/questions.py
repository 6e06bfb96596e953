"""Questions: what somebody wants to know of an engine, asked between two of its batches.

Frozen values, so that they can be asked over a link as well as in this process: there is one client
for both. What is answered is frozen too, and without payloads except where those are asked for.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, ClassVar, Final, Generic, Literal, NamedTuple, TypeVar, get_args

import msgspec

from nbdurable.client.entry_text import entry_text
from nbdurable.client.journal import JournalFold, journal_view
from nbdurable.client.meant import meant_by
from nbdurable.client.views import EntryView, InvocationView, invocation_view
from nbdurable.core.builtin import OWN_SERVICES
from nbdurable.core.commands import RunCommand
from nbdurable.core.facts import Completed, EntryAppended, NotificationAppended
from nbdurable.core.ids import InvocationId, deployment_id
from nbdurable.core.manifest import ServiceManifest
from nbdurable.core.notifications import CompletionNotification
from nbdurable.core.proposals import RestartInvocation
from nbdurable.core.rules.editing import version_of
from nbdurable.core.settings import Settings
from nbdurable.core.state import EngineState, Invocation, ServiceState, Status
from nbdurable.core.values import ErrorReport, Failure, ObjectId, Success, Target
from nbdurable.engine.callers import Outcome
from nbdurable.engine.loop import Engine
from nbdurable.errors import InvocationNotFoundError

T = TypeVar("T")


class Question(msgspec.Struct, Generic[T], frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """`answered` is the type T again, for whoever has to read an answer from bytes.

    `asked_per_s_max` is how often it is asked again by whoever watches.
    """

    answered: ClassVar[Any]
    asked_per_s_max: ClassVar[int] = 2

    def is_about(self, changed: frozenset[InvocationId]) -> bool:
        """Whether its answer may be another since these have changed."""
        return True

    def answer(self, engine: Engine) -> T:
        """On the engine's thread; must not block."""
        raise NotImplementedError

    def looker(self) -> Callable[[Engine], T]:
        """What one watch asks, again and again; it may remember what it has told."""
        return self.answer


class Deployment(NamedTuple):
    """The code of one revision of a service. `link` is where it is loaded, None if nowhere.

    Units: registered_at_ms – milliseconds since the epoch.
    """

    manifest: ServiceManifest
    revision: int
    registered_at_ms: int
    link: str | None
    is_latest: bool

    @property
    def id(self) -> str:
        return deployment_id(self.manifest.name, self.revision)


class StateView(NamedTuple):
    """The state of a key as it is stored, and the version that an edit of it names."""

    values: dict[str, bytes]
    version: str


# -- of invocations -----------------------------------------------------------------------------


class AllInvocations(Question[list[InvocationView]], frozen=True, kw_only=True):
    """All that are known, oldest first."""

    answered = list[InvocationView]

    def answer(self, engine: Engine) -> list[InvocationView]:
        state = engine.machine.state
        return [invocation_view(state, inv) for inv in sorted(_known(state), key=_first_lsn)]


class Listed(NamedTuple):
    """Some of those that were asked for, the newest first, and how many there are of them."""

    views: list[InvocationView]
    found_count: int


class NewestInvocations(Question[Listed], frozen=True, kw_only=True):
    """What a person lists. Through 10^5 it looks for 40 ms, and makes few views.

    Runs of our own services are among them when they go wrong, or when they are asked for by name.

    Attributes:
        count_max: How many views; None gives all.
        services: Of these only, if any are named.
        statuses: In one of these only: Restate's words, or `succeeded`, `failed`, `unfinished`.
        asks: Only those that wait for somebody's answer.
    """

    answered = Listed
    count_max: int | None = None
    services: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    asks: bool = False

    def answer(self, engine: Engine) -> Listed:
        return self.of(engine.machine.state)

    def of(self, state: EngineState) -> Listed:
        found = [inv for inv in _known(state) if self._wants(inv)]
        return _listed(state, found, self.count_max)

    def _wants(self, inv: Invocation | Completed) -> bool:
        service, words = inv.target.service, _words(inv)
        if self.services and service not in self.services:
            return False
        if not self.services and service in OWN_SERVICES and not _WRONG.intersection(words):
            return False
        if self.asks and (isinstance(inv, Completed) or not (inv.awaited or inv.open_promises)):
            return False
        return not self.statuses or any(word in self.statuses for word in words)


class MeantInvocations(Question[Listed], frozen=True, kw_only=True):
    """Those that a person means by this: one, if it is clear enough.

    A target or a key comes first, then the beginning of an id. A workflow's key means its run, for
    its other handlers only talk to it; and of several the one that goes on, or the last that did.
    """

    answered = Listed
    text: str
    count_max: int = 5

    def answer(self, engine: Engine) -> Listed:
        state = engine.machine.state
        named = [inv for inv in _known(state) if _is_named(inv.target, self.text)]
        if not named:
            named = [inv for inv in _known(state) if inv.id.startswith(self.text)]
            return _listed(state, named, self.count_max)
        if len(named) > 1:
            named = [inv for inv in named if inv.handler_type == "workflow"] or named
        if len(named) > 1:
            last = max(named, key=_first_lsn)
            named = [inv for inv in named if inv.status != "completed"] or [last]
        return _listed(state, named, self.count_max)


class NearNames(Question[list[str]], frozen=True, kw_only=True):
    """What may have been meant by a text that names no run: the names of runs, `SERVICE/KEY`."""

    answered = list[str]
    text: str
    looked_at_max: int = 1000

    def answer(self, engine: Engine) -> list[str]:
        runs = (inv for inv in _known(engine.machine.state) if inv.handler_type == "workflow")
        newest = heapq.nlargest(self.looked_at_max, runs, key=_first_lsn)
        names = [f"{inv.target.service}/{inv.target.key}" for inv in newest]
        # Of a key that several services have the last run is meant.
        by_key = {name.partition("/")[2]: name for name in reversed(names)}
        of_keys = [by_key[key] for key in meant_by(self.text, reversed(by_key))]
        return of_keys or meant_by(self.text, names)


class OneInvocation(Question[InvocationView], frozen=True, kw_only=True):
    answered = InvocationView
    invocation_id: InvocationId

    def answer(self, engine: Engine) -> InvocationView:
        return invocation_view(engine.machine.state, _found(engine, self.invocation_id))


class InvocationAndJournal(
    Question[tuple[InvocationView, tuple[EntryView, ...]]], frozen=True, kw_only=True
):
    """Both read models, as of the same moment."""

    answered = tuple[InvocationView, tuple[EntryView, ...]]
    invocation_id: InvocationId

    def answer(self, engine: Engine) -> tuple[InvocationView, tuple[EntryView, ...]]:
        inv = _found(engine, self.invocation_id)
        view = invocation_view(engine.machine.state, inv)
        return view, journal_view(engine.vault.shown_journal(inv))


class JournalPart(NamedTuple):
    """`entries`: all of them if it is the first part, then those that are new or have changed."""

    is_first: bool
    view: InvocationView
    entries: tuple[EntryView, ...]


class JournalChanges(Question[JournalPart], frozen=True, kw_only=True):
    """One invocation as it goes on; whoever watches pays for what is new only."""

    answered = JournalPart
    # As often as a person can follow a journal that is written as fast as it goes.
    asked_per_s_max = 5
    invocation_id: InvocationId

    def is_about(self, changed: frozenset[InvocationId]) -> bool:
        return self.invocation_id in changed

    def answer(self, engine: Engine) -> JournalPart:
        return self.looker()(engine)

    def looker(self) -> Callable[[Engine], JournalPart]:
        return JournalLooker(self.invocation_id)


class JournalLooker:
    """Mutable: how far it has looked. On the engine's thread."""

    def __init__(self, invocation_id: InvocationId) -> None:
        self._id = invocation_id
        self._fold = JournalFold()
        # An id may live again after a purge, and nothing of its former life counts.
        self._seed: int | None = None
        self._lsn = 0

    def __call__(self, engine: Engine) -> JournalPart:
        inv = _found(engine, self._id)
        is_first = inv.seed != self._seed
        if is_first:
            self._fold, self._seed, self._lsn = JournalFold(), inv.seed, 0
        for record in engine.vault.shown_journal(inv, self._lsn):
            self._fold.add(record)
            self._lsn = record.lsn
        view = invocation_view(engine.machine.state, inv)
        return JournalPart(is_first, view, self._fold.take_changed())


class EntryText(Question[str], frozen=True, kw_only=True):
    """All that one entry holds, for a person to read; bounded."""

    answered = str
    invocation_id: InvocationId
    entry_index: int

    def answer(self, engine: Engine) -> str:
        inv = _found(engine, self.invocation_id)
        return entry_text(engine.vault.shown_journal(inv), self.entry_index)


class KeyedSteps(Question[list[tuple[str, bytes | None]]], frozen=True, kw_only=True):
    """The steps of a keyed journal in the order they began, and what they came to, in bytes.

    None for one that failed, did not end, or whose bytes are lost.
    """

    answered = list[tuple[str, bytes | None]]
    invocation_id: InvocationId

    def answer(self, engine: Engine) -> list[tuple[str, bytes | None]]:
        steps: dict[int, tuple[str, bytes | None]] = {}
        for record in engine.vault.shown_journal(_found(engine, self.invocation_id)):
            payload = record.payload if isinstance(record.payload, bytes) else None
            match record.fact:
                case EntryAppended(command=RunCommand(completion_id=known, step_key=str(key))):
                    steps[known] = key, None
                case NotificationAppended(
                    notification=CompletionNotification(completion_id=known, result=Success())
                ) if known in steps:
                    steps[known] = steps[known][0], payload
                case _:
                    pass
        return list(steps.values())


class Called(NamedTuple):
    """An invocation and what it was sent; None where its journal is purged, or that is lost."""

    view: InvocationView
    argument: bytes | None


class CallsOf(Question[list[Called]], frozen=True, kw_only=True):
    """All that are known of one service, oldest first, each with what it was sent."""

    answered = list[Called]
    service: str

    def answer(self, engine: Engine) -> list[Called]:
        state = engine.machine.state
        found = [inv for inv in _known(state) if inv.target.service == self.service]
        found.sort(key=_first_lsn)
        kept = [inv for inv in found if not (isinstance(inv, Completed) and inv.journal_purged)]
        # What each was sent was stored with the first of its facts.
        sent = engine.vault.shown_payloads([inv.first_lsn for inv in kept])
        arguments = dict(zip((inv.id for inv in kept), sent, strict=True))
        return [Called(invocation_view(state, inv), arguments.get(inv.id)) for inv in found]


class LastError(Question[ErrorReport | None], frozen=True, kw_only=True):
    """Why the last attempt failed, with its stack; None if none did, or since a restart."""

    answered = ErrorReport | None
    invocation_id: InvocationId

    def answer(self, engine: Engine) -> ErrorReport | None:
        inv = _found(engine, self.invocation_id)
        return inv.last_error if isinstance(inv, Invocation) else None


class OutcomeSoFar(Question[Outcome | None], frozen=True, kw_only=True):
    """What it came to; None while it runs."""

    answered = Outcome | None
    invocation_id: InvocationId

    def answer(self, engine: Engine) -> Outcome | None:
        inv = _found(engine, self.invocation_id)
        return engine.outcome(inv.id) if isinstance(inv, Completed) else None


class RestartOf(Question[RestartInvocation | None], frozen=True, kw_only=True):
    """The proposal that starts a completed invocation anew; None while it runs."""

    answered = RestartInvocation | None
    invocation_id: InvocationId
    from_entry: int
    revision: int | Literal["keep", "latest"]
    new_seed: int

    def answer(self, engine: Engine) -> RestartInvocation | None:
        _found(engine, self.invocation_id)
        return engine.restart(self.invocation_id, self.from_entry, self.revision, self.new_seed)


# -- of services --------------------------------------------------------------------------------


class AllServices(Question[list[ServiceManifest]], frozen=True, kw_only=True):
    """The latest revision of each."""

    answered = list[ServiceManifest]

    def answer(self, engine: Engine) -> list[ServiceManifest]:
        return [service.manifest for service in engine.machine.state.services.values()]


class IsRun(Question[bool], frozen=True, kw_only=True):
    """Whether a handler is a workflow's main one. Which code is loaded here does not say so."""

    answered = bool
    target: Target
    revision: int | None = None

    def answer(self, engine: Engine) -> bool:
        handler = engine.machine.state.handler(self.target, self.revision)
        return handler is not None and handler.type == "workflow"


class AllDeployments(Question[list[Deployment]], frozen=True, kw_only=True):
    """All revisions of all services, in the order in which each was registered."""

    answered = list[Deployment]

    def answer(self, engine: Engine) -> list[Deployment]:
        services = engine.machine.state.services.values()
        return [found for service in services for found in _deployments(service)]


class PresentSettings(Question[Settings], frozen=True, kw_only=True):
    """What holds where a service says nothing."""

    answered = Settings

    def answer(self, engine: Engine) -> Settings:
        return engine.machine.state.settings


class StateOf(Question[StateView], frozen=True, kw_only=True):
    answered = StateView
    object: ObjectId

    def answer(self, engine: Engine) -> StateView:
        obj = engine.machine.state.objects.get(self.object)
        refs = {} if obj is None else obj.state
        values = {
            name: engine.vault.payload(ref.lsn) if ref.bytes else b"" for name, ref in refs.items()
        }
        return StateView(values, version_of(refs))


AnyQuestion = (
    AllInvocations
    | NewestInvocations
    | MeantInvocations
    | NearNames
    | OneInvocation
    | InvocationAndJournal
    | JournalChanges
    | EntryText
    | KeyedSteps
    | CallsOf
    | LastError
    | OutcomeSoFar
    | RestartOf
    | AllServices
    | IsRun
    | AllDeployments
    | PresentSettings
    | StateOf
)


def _known(state: EngineState) -> Iterable[Invocation | Completed]:
    return chain(state.completed.values(), state.invocations.values())


def _first_lsn(inv: Invocation | Completed) -> int:
    return inv.first_lsn


def _listed(
    state: EngineState, found: list[Invocation | Completed], count_max: int | None
) -> Listed:
    newest = heapq.nlargest(len(found) if count_max is None else count_max, found, key=_first_lsn)
    return Listed([invocation_view(state, inv) for inv in newest], len(found))


# What may be asked for: Restate's words, and ours for how a run stands.
STATUS_WORDS: Final = (*get_args(Status), "succeeded", "failed", "unfinished")
_WRONG: Final = frozenset({"failed", "paused", "backing-off"})


def _words(inv: Invocation | Completed) -> tuple[str, str]:
    """What its status is called."""
    if isinstance(inv, Invocation):
        return inv.status, "unfinished"
    return inv.status, "failed" if isinstance(inv.result, Failure) else "succeeded"


def _is_named(target: Target, text: str) -> bool:
    if text == target.key:
        # Of what keeps schedules nobody means it who does not say so.
        return target.service not in OWN_SERVICES
    # Most are of other services, or called by something that is no target at all.
    if not text.startswith(target.service):
        return False
    return text in (str(target), target.path, str(target.object), f"{target.service}/{target.key}")


def not_found(invocation_id: str) -> InvocationNotFoundError:
    return InvocationNotFoundError(f"there is no invocation {invocation_id!r}")


def _found(engine: Engine, invocation_id: InvocationId) -> Invocation | Completed:
    inv = engine.machine.state.find(invocation_id)
    if inv is None:
        raise not_found(invocation_id)
    return inv


def _deployments(service: ServiceState) -> list[Deployment]:
    return [
        Deployment(
            manifest,
            revision,
            service.registered_at_ms[revision],
            service.loaded.get(revision, (None,))[-1],
            revision == service.latest,
        )
        for revision, manifest in service.revisions.items()
    ]
