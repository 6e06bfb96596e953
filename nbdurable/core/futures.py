"""What an attempt can wait for, as a tree, and what has become of such a tree.

A leaf is a completion or a signal. Nothing is journaled for a combinator: its outcome follows from
the order of the notifications, which is journaled.

    FirstCompleted   done when one is          AllCompleted    done when all are
    FirstSucceeded   ... has succeeded,        AllSucceeded    ... have succeeded,
                     or all have failed                        or one has failed

Source: restate-semantics.md, 1.3 (the suspension condition of protocol V7).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from nbdurable.core.values import Value


class Completion(Value, frozen=True, kw_only=True, tag="completion"):
    id: int


class Signal(Value, frozen=True, kw_only=True, tag="signal"):
    """A numbered signal: 1 is a cancellation, 17 and up are awakeables."""

    id: int


class NamedSignal(Value, frozen=True, kw_only=True, tag="named"):
    """The n-th signal of a name (from 0): each wait takes the next one, whenever it came."""

    name: str
    index: int


Leaf = Completion | Signal | NamedSignal


class Node(Value, frozen=True, kw_only=True):
    """Several futures as one."""

    of: tuple[
        Completion
        | Signal
        | NamedSignal
        | FirstCompleted
        | AllCompleted
        | FirstSucceeded
        | AllSucceeded,
        ...,
    ]


class FirstCompleted(Node, frozen=True, kw_only=True, tag="first"):
    pass


class AllCompleted(Node, frozen=True, kw_only=True, tag="all"):
    pass


class FirstSucceeded(Node, frozen=True, kw_only=True, tag="first-succeeded"):
    pass


class AllSucceeded(Node, frozen=True, kw_only=True, tag="all-succeeded"):
    pass


FutureTree = Leaf | FirstCompleted | AllCompleted | FirstSucceeded | AllSucceeded
Outcome = bool | None
"""Of a future: True it succeeded, False it failed, None neither yet."""

# A tree is written as JSON, which is nested as deep as it is. Restate's bound is 1,000 (RT0025).
DEPTH_MAX = 200


def node(
    kind: type[FirstCompleted | AllCompleted | FirstSucceeded | AllSucceeded],
    of: tuple[FutureTree, ...],
) -> FutureTree:
    """Combine, without a level for what says the same: a gather of gathers is one gather."""
    flat: list[FutureTree] = []
    for child in of:
        flat += child.of if type(child) is kind else [child]
    # Of one, all but this come to what the one comes to; this succeeds even if the one failed.
    if len(flat) == 1 and kind is not AllCompleted:
        return flat[0]
    return kind(of=tuple(flat))


def leaves(tree: FutureTree) -> Iterator[Leaf]:
    rest = [tree]
    while rest:
        here = rest.pop()
        if isinstance(here, Node):
            rest += reversed(here.of)
        else:
            yield here


class Watch:
    """How far one tree has come. Mutable; each leaf is told once, when it has an outcome.

    Every outcome costs as many steps as it changes nodes, so a gather of 10,000 futures is not
    looked through 10,000 times.
    """

    __slots__ = ("_above", "_open", "_places", "outcome", "tree")

    def __init__(self, tree: FutureTree, outcome_of: Callable[[Leaf], Outcome]) -> None:
        self.tree = tree
        self.outcome: Outcome = None
        if not isinstance(tree, Node):
            # Most wait for one thing, and many sleep for days: no tables for these.
            self.outcome = outcome_of(tree)
            return
        # By place in the tree: the node's kind, its parent's place, how many children are open.
        self._above: list[tuple[type[Node] | None, int]] = []
        self._open: list[int] = []
        self._places: dict[Leaf, list[int]] = {}
        settled: list[tuple[int, bool]] = []
        rest: list[tuple[FutureTree, int]] = [(tree, -1)]
        while rest:
            here, parent = rest.pop()
            place = len(self._above)
            if isinstance(here, Node):
                self._above.append((type(here), parent))
                self._open.append(len(here.of))
                rest += [(child, place) for child in reversed(here.of)]
                if not here.of:
                    settled.append((place, True))
                continue
            self._above.append((None, parent))
            self._open.append(0)
            outcome = outcome_of(here)
            if outcome is None:
                self._places.setdefault(here, []).append(place)
            else:
                settled.append((place, outcome))
        for place, outcome in settled:
            self._settle(place, succeeded=outcome)

    def __eq__(self, other: object) -> bool:
        same_tree = isinstance(other, Watch) and self.tree == other.tree
        return same_tree and isinstance(other, Watch) and self.outcome == other.outcome

    __hash__ = None  # type: ignore[assignment] # Mutable.

    def __repr__(self) -> str:
        return f"<Watch {self.tree}: {self.outcome}>"

    def settle(self, leaf: Leaf, *, succeeded: bool) -> None:
        if not isinstance(self.tree, Node):
            if leaf == self.tree:
                self.outcome = succeeded
            return
        for place in self._places.pop(leaf, ()):
            self._settle(place, succeeded=succeeded)

    def _settle(self, place: int, *, succeeded: bool) -> None:
        while True:
            parent = self._above[place][1]
            if parent < 0:
                self.outcome = succeeded
                return
            if self._open[parent] == 0:
                return
            kind = self._above[parent][0]
            self._open[parent] -= 1
            is_last = self._open[parent] == 0
            if kind is AllCompleted:
                decided, succeeded = is_last, True
            elif kind is AllSucceeded:
                decided = is_last or not succeeded
            elif kind is FirstSucceeded:
                decided = is_last or succeeded
            else:
                decided = True
            if not decided:
                return
            self._open[parent] = 0
            place = parent


class Stream:
    """Futures awaited one after another: a wait costs what settles in it, however many are open.

    Mutable. It reads on in `order`, the leaves as they settle, also those that did while something
    else was awaited. Futures are known by the place the caller gave them; one that was touched
    need not be settled, for it may be several.
    """

    def __init__(
        self,
        order: Sequence[Leaf],
        futures: Mapping[int, FutureTree],
        rest: Callable[[], FutureTree],
    ) -> None:
        # What is open by now, as a tree: made when an invocation suspends on it, and not before.
        self.rest = rest
        self._order = order
        self._read_count = len(order)
        self._touched: list[int] = []
        self._places: dict[Leaf, list[int]] = {}
        for place, tree in futures.items():
            for leaf in leaves(tree):
                self._places.setdefault(leaf, []).append(place)

    @property
    def is_touched(self) -> bool:
        while self._read_count < len(self._order):
            self._touched += self._places.pop(self._order[self._read_count], ())
            self._read_count += 1
        return bool(self._touched)

    def take(self) -> list[int]:
        """The places of those touched since the last time, lowest first."""
        places = sorted(set(self._touched)) if self.is_touched else []
        self._touched.clear()
        return places

    def waits_for(self, leaf: Leaf) -> bool:
        return leaf in self._places


def outcome(tree: FutureTree, outcome_of: Callable[[Leaf], Outcome]) -> Outcome:
    return Watch(tree, outcome_of).outcome
