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
    Watch,
    depth_of,
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
    assert depth_of(tree) == 2
    assert len(list(leaves(tree))) == 1_001


def test_different_ways_of_waiting_keep_their_levels():
    tree = node(FirstCompleted, (node(AllCompleted, (A, B)), C))
    assert tree == FirstCompleted(of=(AllCompleted(of=(A, B)), C))
    assert depth_of(tree) == 3


TREES: st.SearchStrategy[FutureTree] = st.recursive(
    st.sampled_from([A, B, C, Completion(id=2), Completion(id=3)]),
    lambda inner: st.builds(
        lambda kind, of: kind(of=tuple(of)),
        st.sampled_from(KINDS),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=12,
)


def slow_outcome(tree: FutureTree, told: dict[Leaf, bool]) -> Outcome:
    """The definition, looked up from scratch; without the memory of what was first."""
    if not isinstance(tree, Node):
        return told.get(tree)
    of = [slow_outcome(child, told) for child in tree.of]
    done = [outcome for outcome in of if outcome is not None]
    match tree:
        case FirstCompleted():
            return done[0] if done else None
        case AllCompleted():
            return True if len(done) == len(of) else None
        case FirstSucceeded():
            return True if True in of else False if len(done) == len(of) else None
        case _:
            return False if False in of else True if len(done) == len(of) else None


@given(
    tree=TREES,
    order=st.permutations([A, B, C, Completion(id=2), Completion(id=3)]),
    outcomes=st.lists(st.booleans(), min_size=5, max_size=5),
)
def test_telling_one_by_one_is_done_when_the_definition_is(
    tree: FutureTree, order: list[Leaf], outcomes: list[bool]
):
    """Counting what is open must agree with looking at everything, at every step."""
    watched, told = Watch(tree, lambda _: None), {}
    for leaf, succeeded in zip(order, outcomes, strict=True):
        watched.settle(leaf, succeeded=succeeded)
        told[leaf] = succeeded
        assert (watched.outcome is None) == (slow_outcome(tree, told) is None)
        assert watched.outcome is not None or Watch(tree, told.get).outcome is None
    assert watched.outcome is not None
