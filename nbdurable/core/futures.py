"""What an attempt can wait for, as a tree, and when such a tree is satisfied.

A leaf is a completion id or a signal id. Nothing is journaled for a combinator: its outcome
follows from the order of the notifications, which is journaled.

Source: restate-semantics.md, 1.3 (suspension condition of protocol V7).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from nbdurable.core.values import Value


class Completion(Value, frozen=True, kw_only=True, tag="completion"):
    id: int


class Signal(Value, frozen=True, kw_only=True, tag="signal"):
    id: int


Leaf = Completion | Signal


class FirstCompleted(Value, frozen=True, kw_only=True, tag="first"):
    of: tuple[Completion | Signal | FirstCompleted | AllCompleted, ...]


class AllCompleted(Value, frozen=True, kw_only=True, tag="all"):
    of: tuple[Completion | Signal | FirstCompleted | AllCompleted, ...]


FutureTree = Completion | Signal | FirstCompleted | AllCompleted


def is_satisfied(tree: FutureTree, known: Collection[Leaf]) -> bool:
    match tree:
        case FirstCompleted(of=of):
            return any(is_satisfied(child, known) for child in of)
        case AllCompleted(of=of):
            return all(is_satisfied(child, known) for child in of)
        case _:
            return tree in known


def leaves(tree: FutureTree) -> Iterator[Leaf]:
    match tree:
        case FirstCompleted(of=of) | AllCompleted(of=of):
            for child in of:
                yield from leaves(child)
        case _:
            yield tree
