"""What people do to invocations, whatever those are doing: any verb, at any time."""

from __future__ import annotations

from datetime import timedelta
from random import Random

from nbdurable.client.seeds import SEED_BITS
from nbdurable.core.attempt import ref_of, success_of
from nbdurable.core.ids import InvocationId
from nbdurable.core.manifest import ServicePatch
from nbdurable.core.proposals import (
    AcceptMismatch,
    CancelInvocation,
    CleanUp,
    CompleteAwakeable,
    EditState,
    KillInvocation,
    PatchService,
    PauseInvocation,
    Proposal,
    PurgeInvocation,
    PurgeJournal,
    ResumeInvocation,
    SendSignal,
    StateValue,
)
from nbdurable.core.rules.editing import version_of
from nbdurable.engine.loop import Engine
from nbdurable.testing.programs import COUNTER, INACTIVITIES, LAYERS

# Twice is twice as likely.
TO_LIVE = (
    "cancel",
    "cancel",
    "cancel",
    "kill",
    "pause",
    "pause",
    "resume",
    "resume on the latest",
    # Perhaps it has ended when it is heard.
    "purge",
    "purge",
    "signal",
    "accept",
)
TO_ENDED = ("purge", "purge journal", "restart", "restart", "clean up", "kill", "signal")
ENDED = 0.3
EDITED = 0.5
# After these nobody can tell any more how often a counter should have been increased.
MEDDLING = ("cancel", "kill", "purge", "restart", "clean up")
STALE_VERSION = version_of({})
FAR_AHEAD = 1_000_000

ANSWER_PAYLOAD = b'"from outside"'
ANSWER = success_of(ANSWER_PAYLOAD)


class People:
    """Mutable: their chance, and whether they have meddled."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.has_meddled = False
        self.deed_count = 0

    def deed(self, engine: Engine) -> Proposal | None:
        """The next thing somebody does, if there is anything to do it to."""
        state = engine.machine.state
        live, ended = list(state.invocations), list(state.completed)
        if live and self._random.random() >= ENDED:
            # The busier of two: more hangs on it.
            two = self._random.choices(live, k=2)
            chosen = max(two, key=lambda of: len(state.invocations[of].open))
            verb = self._random.choice(TO_LIVE)
        elif ended:
            chosen, verb = self._random.choice(ended), self._random.choice(TO_ENDED)
        else:
            return None
        self.deed_count += 1
        self.has_meddled |= verb in MEDDLING
        return self._proposal(verb, chosen, engine)

    def edit(self, engine: Engine) -> EditState | None:
        """A state that nobody could have come to by counting, for a key that is in use."""
        objects = engine.machine.state.objects
        held = [of for of, obj in objects.items() if obj.holder is not None]
        layered = [of for of in held or objects if of.service in LAYERS]
        if not layered:
            return None
        of = self._random.choice(layered)
        self.has_meddled = True
        self.deed_count += 1
        names = [name for name in (COUNTER, "a", "b") if self._random.random() < EDITED]
        known = version_of(objects[of].state)
        return EditState(
            object=of,
            values=tuple(self._value(name) for name in names),
            version=self._random.choice((None, known, STALE_VERSION)),
        )

    def patch(self) -> PatchService:
        """Options that change how often everything is replayed, and nothing else."""
        self.deed_count += 1
        inactivity = self._random.choice(INACTIVITIES)
        patch = ServicePatch(inactivity_timeout_ms=inactivity // timedelta(milliseconds=1))
        return PatchService(service=self._random.choice(LAYERS), patch=patch)

    def answer(self, awakeable: str) -> CompleteAwakeable:
        return CompleteAwakeable(awakeable_id=awakeable, result=ANSWER, payload=ANSWER_PAYLOAD)

    def signal(self, of: InvocationId, name: str) -> SendSignal:
        return SendSignal(invocation_id=of, name=name, result=ANSWER, payload=ANSWER_PAYLOAD)

    def _value(self, name: str) -> StateValue:
        payload = str(FAR_AHEAD + self._random.randrange(FAR_AHEAD)).encode()
        return StateValue(name=name, value=ref_of(payload), payload=payload)

    def _proposal(self, verb: str, of: InvocationId, engine: Engine) -> Proposal | None:
        match verb:
            case "cancel":
                return CancelInvocation(invocation_id=of)
            case "kill":
                return KillInvocation(invocation_id=of)
            case "pause":
                return PauseInvocation(invocation_id=of)
            case "resume":
                return ResumeInvocation(invocation_id=of)
            case "resume on the latest":
                return ResumeInvocation(invocation_id=of, revision="latest")
            case "accept":
                return AcceptMismatch(invocation_id=of)
            case "purge":
                return PurgeInvocation(invocation_id=of)
            case "purge journal":
                return PurgeJournal(invocation_id=of)
            case "clean up":
                return CleanUp(purges_max=self._random.choice((1, 500)))
            case "restart":
                # Between reading a counter and writing it, restarting would take back what others
                # have counted since; that is what a person has asked for then.
                old = engine.machine.state.completed.get(of)
                if old is None or old.target.key is not None:
                    first = 1
                else:
                    first = self._random.choice((1, 2, old.entry_count))
                return engine.restart(of, first, "latest", self._random.getrandbits(SEED_BITS))
            case _:
                return self.signal(of, self._random.choice(("news", "noise")))
