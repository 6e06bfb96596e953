"""What becomes of a tree of futures: the four ways of waiting for several, and their nesting."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbdurable.core.futures import (
    AllCompleted,
    AllSucceeded,
    Completion,
    FirstCompleted,
    FirstSucceeded,
    FutureTree,
    Leaf,
    NamedSignal,
    Node,
    Outcome,
    Signal,
    Stream,
    Watch,
    leaves,
    node,
)

A, B, C = Completion(id=1), Signal(id=17), NamedSignal(name="go", index=0)
KINDS = (FirstCompleted, AllCompleted, FirstSucceeded, AllSucceeded)


def watch(tree: FutureTree, **known: bool) -> Watch:
    names = {"a": A, "b": B, "c": C}
    outcomes = {names[name]: outcome for name, outcome in known.items()}
    return Watch(tree, outcomes.get)


@pytest.mark.parametrize(
    ("kind", "known", "outcome"),
    [
        (FirstCompleted, {}, None),
        (FirstCompleted, {"b": True}, True),
        (FirstCompleted, {"b": False}, False),
        (AllCompleted, {"a": True, "b": False}, None),
        (AllCompleted, {"a": True, "b": False, "c": True}, True),
        (FirstSucceeded, {"a": False, "b": False}, None),
        (FirstSucceeded, {"a": False, "b": True}, True),
        (FirstSucceeded, {"a": False, "b": False, "c": False}, False),
        (AllSucceeded, {"a": True, "b": True}, None),
        (AllSucceeded, {"a": True, "b": False}, False),
        (AllSucceeded, {"a": True, "b": True, "c": True}, True),
    ],
)
def test_the_table_of_outcomes(kind: type[Node], known: dict[str, bool], outcome: Outcome):
    assert watch(kind(of=(A, B, C)), **known).outcome == outcome


def test_a_leaf_that_stands_twice_counts_twice():
    told = watch(AllCompleted(of=(A, AllSucceeded(of=(A, B)))))
    told.settle(A, succeeded=True)
    assert told.outcome is None
    told.settle(B, succeeded=True)
    assert told.outcome is True


def test_what_is_decided_stays_decided():
    """The first to complete is the first for ever, whatever comes later."""
    told = watch(FirstCompleted(of=(A, B)))
    told.settle(A, succeeded=False)
    told.settle(B, succeeded=True)
    assert told.outcome is False


def test_a_gather_of_gathers_is_one_gather():
    """Else a thousand of them would be nested deeper than JSON may be."""
    tree: FutureTree = A
    for _ in range(1_000):
        tree = node(AllCompleted, (tree, B))
    assert isinstance(tree, AllCompleted)
    assert not any(isinstance(child, Node) for child in tree.of)
    assert len(list(leaves(tree))) == 1_001


def test_different_ways_of_waiting_keep_their_levels():
    tree = node(FirstCompleted, (node(AllCompleted, (A, B)), C))
    assert tree == FirstCompleted(of=(AllCompleted(of=(A, B)), C))


def test_a_stream_says_which_futures_were_touched_also_while_nobody_awaited_it():
    order: list[Leaf] = [Completion(id=9)]
    both = AllCompleted(of=(A, B))
    stream = Stream(order, {0: C, 4: both, 2: B}, lambda: both)
    assert not stream.is_touched
    order += [B, Completion(id=8)]
    assert stream.is_touched
    assert stream.take() == [2, 4]
    assert not stream.is_touched
    order += [A, C]
    assert stream.take() == [0, 4]
    assert stream.take() == []


TREES: st.SearchStrategy[FutureTree] = st.recursive(
    st.sampled_from([A, B, C, Completion(id=2), Completion(id=3)]),
    lambda inner: st.builds(
        lambda kind, of: kind(of=tuple(of)),
        st.sampled_from(KINDS),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=12,
)


def slow_outcome(tree: FutureTree, told: list[tuple[Leaf, bool]]) -> tuple[int, bool] | None:
    """The definition, looked up from scratch: when it was decided, and how."""
    if not isinstance(tree, Node):
        return next(((when, ok) for when, (leaf, ok) in enumerate(told) if leaf == tree), None)
    of = [slow_outcome(child, told) for child in tree.of]
    done = [outcome for outcome in of if outcome is not None]
    last = (max(done)[0], True) if len(done) == len(of) else None
    match tree:
        case FirstCompleted():
            return min(done, default=None)
        case AllCompleted():
            return last
        case FirstSucceeded():
            succeeded = min((one for one in done if one[1]), default=None)
            return succeeded or (None if last is None else (last[0], False))
        case _:
            return min((one for one in done if not one[1]), default=None) or last


@given(
    tree=TREES,
    order=st.permutations([A, B, C, Completion(id=2), Completion(id=3)]),
    outcomes=st.lists(st.booleans(), min_size=5, max_size=5),
)
def test_telling_one_by_one_is_what_the_definition_says(
    tree: FutureTree, order: list[Leaf], outcomes: list[bool]
):
    """Counting what is open must agree with looking at everything, at every step."""
    watched = Watch(tree, lambda _: None)
    told: list[tuple[Leaf, bool]] = []
    for leaf, succeeded in zip(order, outcomes, strict=True):
        watched.settle(leaf, succeeded=succeeded)
        told.append((leaf, succeeded))
        decided = slow_outcome(tree, told)
        # Of two that one leaf decides, neither is the first; the definition does not say which.
        if len(set(leaves(tree))) == len(list(leaves(tree))):
            assert watched.outcome == (None if decided is None else decided[1])
    assert watched.outcome is not None
