"""Bytes that somebody else wrote, or a disk has harmed: taken for what they are, or refused.

Frames of links, rows of the log, sealed pickles. Each of them may be anything at all; what comes
out is a value of its type or the one error that its callers expect.
"""

from __future__ import annotations

import contextlib
import pickle

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbdurable.core.commands import RunCommand, SetStateCommand
from nbdurable.core.facts import EntryAppended, EpochStarted, InvocationPurged
from nbdurable.core.ids import InvocationId, digest_of
from nbdurable.core.proposals import AppendCommand, AttemptSteps, CompleteRun, Invoke
from nbdurable.core.records import Record, Row, UnknownFactError, checksum, decode, encode
from nbdurable.core.values import ObjectId, PayloadRef, Success, Target
from nbdurable.errors import SerializationError
from nbdurable.invoker import frames
from nbdurable.invoker.seal import MARK, Seal

ONE = InvocationId("inv_1one")
REF = PayloadRef(bytes=1, digest=digest_of(b"1"))
STEPS = AttemptSteps(
    epoch=1,
    invocation_id=ONE,
    seed=1,
    attempt=1,
    steps=(
        AppendCommand(command=RunCommand(completion_id=1, name="step")),
        CompleteRun(completion_id=1, result=Success(value=REF)),
    ),
)
INVOKE = Invoke(
    invocation_id=ONE,
    seed=1,
    target=Target(service="S", handler="h"),
    argument=REF,
    payload=b"1",
)
UP = [
    frames.Hello(protocol=1, version="0", pid=7, program="x"),
    frames.Did(steps=msgspec.Raw(frames.encode(STEPS))),
    frames.Propose(id=1, proposal=msgspec.Raw(frames.encode(INVOKE))),
    frames.Query(id=1, question=b"{}", time_ms=1, rows_max=1, bytes_max=1),
    frames.Attach(id=1, invocation_id=ONE),
    frames.Leave(id=1),
]
DOWN = [
    frames.Welcome(epoch=1, link="here"),
    frames.AssignRevision(service="S", digest="d", revision=1),
    frames.StopAttempt(invocation_id=ONE, attempt=1, why="x"),
    frames.Raised(id=1, name="x", message="y", status=500),
]
# By name, because hypothesis writes out what it has tried.
DEEP = {"lists": b"\x91" * 100_000, "maps": b"\x81\xa1a" * 100_000}


@st.composite
def harmed(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """A few bytes of it changed, left out or put in; or cut; or anything at all."""
    content = bytearray(draw(whole))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(content)))
        content[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(content[: draw(st.integers(0, len(content)))] if draw(st.booleans()) else content)


FRAMES = st.sampled_from([frames.encode(frame) for frame in (*UP, *DOWN, STEPS, INVOKE)])
MESSAGES = harmed(FRAMES) | st.binary(max_size=40) | st.sampled_from([*DEEP])


@given(MESSAGES)
def test_a_message_is_a_frame_or_refused_in_one_way(tried: bytes | str):
    """Whatever else it raised would end the owner's side of the link, or the owner."""
    message = DEEP[tried] if isinstance(tried, str) else tried
    for of in (frames.decode_up, frames.decode_down):
        with contextlib.suppress(msgspec.MsgspecError):
            assert isinstance(of(message), frames.Frame)
    for of_raw in (frames.decode_proposal, frames.decode_steps):
        with contextlib.suppress(msgspec.MsgspecError):
            assert isinstance(of_raw(msgspec.Raw(message)), msgspec.Struct)


@pytest.mark.parametrize("frame", [*UP, *DOWN])
def test_a_frame_comes_back_as_it_was(frame: frames.Frame):
    of = frames.decode_up if frame in UP else frames.decode_down
    assert of(frames.encode(frame)) == frame


# -- the log --------------------------------------------------------------------------------------

ROWS = [
    encode(Record(1, 5, EpochStarted(epoch=1, owner="me", version="0"), None), 1, None),
    encode(Record(2, 5, InvocationPurged(invocation_id=ONE), None), 1, None),
    encode(
        Record(
            3,
            5,
            EntryAppended(
                invocation_id=ONE,
                entry_index=1,
                command=SetStateCommand(key="n", value=REF),
                object=ObjectId(service="Cart", key="ada"),
            ),
            b"1",
        ),
        1,
        b"1",
    ),
]


@given(st.sampled_from(ROWS), st.data())
def test_a_row_that_was_changed_is_never_taken_for_what_was_written(row: Row, data: st.DataObject):
    name = data.draw(st.sampled_from([*Row._fields[:-1]]))
    other = data.draw(st.none() | st.integers(0, 9) | st.text(max_size=9) | st.binary(max_size=9))
    changed = row._replace(**{name: other})
    if name == "payload" and (row.payload is None or not isinstance(other, bytes)):
        return  # Its digest is in the body: only a payload that is there can be wrong.
    if changed == row or (checksum(changed) == row.crc and name != "payload"):
        return  # None and the text "None" are told apart by no column that may be both.
    with pytest.raises(ValueError, match="fact"):
        decode(changed)


@given(st.sampled_from(ROWS), harmed(st.sampled_from([row.body.encode() for row in ROWS])))
def test_a_fact_that_nobody_knows_is_said_to_be_of_a_newer_version(row: Row, body: bytes):
    """With a checksum that is right: as another version would have written it."""
    text = body.decode(errors="replace")
    changed = row._replace(body=text, payload=None)
    changed = changed._replace(crc=checksum(changed))
    with contextlib.suppress(UnknownFactError):
        assert decode(changed).lsn == row.lsn


# -- pickles --------------------------------------------------------------------------------------


class Bomb:
    """What a stranger would send."""

    def __reduce__(self) -> tuple[object, ...]:
        return (pytest.fail, ("it was unpickled",))


@given(harmed(st.sampled_from([pickle.dumps(Bomb()), MARK, MARK + bytes(32), b""])))
def test_no_pickle_is_opened_that_was_not_sealed_here(payload: bytes):
    ours, theirs = Seal(lambda: b"k" * 32), Seal(lambda: b"other" * 8)
    for sealed in (payload, MARK + payload, MARK + bytes(32) + payload, theirs.close(payload)):
        if sealed:
            with pytest.raises(SerializationError, match="was not written by"):
                ours.open(sealed)


@given(st.binary(min_size=1), st.data())
def test_a_seal_that_was_touched_is_broken(payload: bytes, data: st.DataObject):
    seal = Seal(lambda: b"k" * 32)
    sealed = bytearray(seal.close(payload))
    assert seal.open(bytes(sealed)) == payload
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SerializationError):
        seal.open(bytes(sealed))
