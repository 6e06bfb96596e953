"""Random lives of a project: links come with code and slots, and go, while invocations run.

Every decision is checked against all invariants, among them: nobody runs more than its slots allow,
nobody who could run waits, and folding the facts gives the same state.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec
from hypothesis import event, example, given
from hypothesis import strategies as st
from room import GREET, Room, add, counter, error, greeter, payment, run_of, value

from nbdurable.core.commands import OutputCommand, SleepCommand
from nbdurable.core.futures import Completion
from nbdurable.core.manifest import ServiceManifest
from nbdurable.core.proposals import FailAttempt, ResumeInvocation, Suspend

STEPS = 40
KEYS = "abc"


class Project:
    """Mutable: the links that are open, and how many there have been."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.room = Room(greeter(), counter(), payment(), link="first")
        self.open = ["first"]
        self.opened = 1

    def happenings(self) -> list[Callable[[], None]]:
        possible = [self.link_opens, self.is_called, self.is_called, self.is_called]
        if self.open:
            possible += [self.code_is_loaded, self.link_closes]
        if any(inv.status == "running" for inv in self.room.state.live()):
            possible += [self.attempt_ends, self.attempt_ends]
        if self.room.state.live():
            possible.append(self.timer_fires)
        return [*possible, self.owner_dies] if self.random.random() < 0.1 else possible

    def link_opens(self) -> None:
        self.opened += 1
        link = f"link {self.opened}"
        self.open.append(link)
        self.room.open_link(link, slots=self.random.choice((None, 1, 2)))
        self.code_is_loaded(link)

    def code_is_loaded(self, link: str = "") -> None:
        service = self.random.choice(self.services(self.random.choice(("v1", "v2"))))
        keys = (self.random.choice(KEYS),) if self.random.random() < 0.3 else None
        again = self.random.random() < 0.3
        link = link or self.random.choice(self.open)
        self.room.load(service, link=link, keys=keys, again=again)

    def link_closes(self) -> None:
        link = self.random.choice(self.open)
        self.open.remove(link)
        self.room.close_link(link)

    def is_called(self) -> None:
        key = self.random.choice(KEYS)
        target = self.random.choice((GREET, add(key), run_of(key)))
        home = self.random.choice((None, "elsewhere", *self.open))
        self.room.decide(msgspec.structs.replace(self.room.invocation(target), link=home))

    def attempt_ends(self) -> None:
        running = [inv for inv in self.room.state.live() if inv.status == "running"]
        inv = self.random.choice(running)
        match self.random.choice(("returns", "fails", "suspends")):
            case "returns":
                self.room.append(inv.id, OutputCommand(result=value()), b"1")
            case "fails":
                self.room.steps(inv.id, FailAttempt(error=error()))
            case "suspends":
                sleep = inv.completion_count + 1
                wake_up = SleepCommand(completion_id=sleep, wake_up_at_ms=self.room.now_ms)
                self.room.append(inv.id, wake_up)
                waits = Suspend(waiting_for=Completion(id=sleep), notification_count=0)
                self.room.steps(inv.id, waits)

    def timer_fires(self) -> None:
        self.room.now_ms += 100_000
        for inv in self.room.state.live():
            for completion_id in [*inv.sleeping, *([0] if inv.next_retry_at_ms else [])]:
                self.room.fire(inv.id, completion_id)

    def owner_dies(self) -> None:
        self.open = []
        self.room.restart()

    def services(self, digest: str) -> list[ServiceManifest]:
        return [make(digest=digest) for make in (greeter, counter, payment)]


@given(seed=st.integers(0, 2**32))
# A link that ran some keys of one revision gets another for all of them: it runs all of both.
@example(seed=359)
def test_links_may_come_and_go_in_any_order(seed: int):
    """And once all code is there for good, everybody comes to an end."""
    project = Project(seed)
    for _ in range(STEPS):
        project.random.choice(project.happenings())()
    event(f"links {min(project.opened, 6)}")
    room = project.room
    for service in project.services("v3"):
        room.load(service, link="last")
    for _ in range(STEPS * 10):
        live = room.state.live()
        if not live:
            break
        project.timer_fires()
        for inv in live:
            if inv.status == "running":
                room.append(inv.id, OutputCommand(result=value()), b"1")
            elif inv.status == "paused":
                room.decide(ResumeInvocation(invocation_id=inv.id, revision="latest"))
    assert room.state.live() == []
    assert room.state.occupied == {}
