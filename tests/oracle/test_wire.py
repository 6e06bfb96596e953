"""The codec of the protocol: what is written is read back, and nothing is dropped in silence."""

from __future__ import annotations

from oracle.wire import FIELDS, Frame, decode, encode


def test_frames_are_read_back():
    """A length of more than one byte, a number of more than one byte, and nested messages."""
    said = {
        "service": "Echo",
        "handler": "say",
        "argument": b"x" * 300,
        "headers": [{"key": "a", "value": "b"}, {"key": "c", "value": ""}],
        "completion_id": 70_000,
    }
    frames = [Frame("Call", said), Frame("End", {}), Frame("SleepNotification", {"void": {}})]
    assert list(decode(b"".join(encode(*frame) for frame in frames))) == frames


def test_a_field_without_a_name_is_kept_under_its_number():
    """A newer SDK may say more than the table knows; that shows in a comparison."""
    stream = encode("Run", {"completion_id": 1, "name": "n"})
    known = FIELDS["Run"].pop(12)
    try:
        assert list(decode(stream)) == [Frame("Run", {"completion_id": 1, "field 12": b"n"})]
    finally:
        FIELDS["Run"][12] = known
