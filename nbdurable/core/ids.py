"""Names that never change: invocation ids, awakeable ids, payload digests.

Every id is a pure function of what it names, so that the attempt and the engine reach the same
id without asking each other, and a client can look one up without asking anybody. The one random
ingredient is the seed of an invocation that was started without a key; it is handed in.

An id has the shape that Restate's have, because Restate's tools read it: a version, then numbers
of 64 and 128 bits in base 62.

Source: restate-semantics.md, 1.2 (awakeable ids) and 1.8 (ids are hashes of the target).
"""

from __future__ import annotations

import base64
from hashlib import blake2b, md5
from typing import Final, NamedTuple, NewType

InvocationId = NewType("InvocationId", str)
Milliseconds = NewType("Milliseconds", int)
Lsn = NewType("Lsn", int)

CANCEL_SIGNAL: Final = 1
# Signals 2 to 16 are reserved by the protocol, so the first awakeable of an invocation is 17.
FIRST_AWAKEABLE_SIGNAL: Final = 17

_INVOCATION_PREFIX: Final = "inv_1"
AWAKEABLE_PREFIX: Final = "sign_1"
_DEPLOYMENT_PREFIX: Final = "dp_1"
# 64 bits, then 128.
_SHORT_BYTES: Final = 8
_ID_BYTES: Final = 24
_SHORT_CHARS: Final = 11
_LONG_CHARS: Final = 22
_ID_CHARS: Final = _SHORT_CHARS + _LONG_CHARS
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
# Two digits at once: every invocation has an id, and Python divides slowly.
_PAIRS: Final = tuple(high + low for high in _DIGITS for low in _DIGITS)
_BASE_SQUARED: Final = len(_PAIRS)
_VALUES: Final = {digit: value for value, digit in enumerate(_DIGITS)}
_LIFE_BYTES: Final = 4


def random_invocation_id(seed: int) -> InvocationId:
    """The id of an invocation that nothing but its seed tells apart."""
    return _invocation_id(b"seed", str(seed).encode())


def keyed_invocation_id(
    service: str,
    key: str | None,
    handler: str,
    idempotency_key: str | None,
    scope: str | None = None,
) -> InvocationId:
    """The id of an idempotent call, or of a workflow's run (which has no idempotency key)."""
    parts = (service, key, handler, idempotency_key, *(() if scope is None else (scope,)))
    return _invocation_id(b"keyed", *(_part(part) for part in parts))


def child_invocation_id(parent_seed: int, command_index: int) -> InvocationId:
    """The id of a call without a key: unique, because the parent's seed is never used again."""
    return _invocation_id(b"child", f"{parent_seed}/{command_index}".encode())


def child_seed(parent_seed: int, command_index: int) -> int:
    digest = blake2b(f"{parent_seed}/{command_index}".encode(), digest_size=8, person=b"seed")
    return int.from_bytes(digest.digest(), "big") >> 1


def awakeable_id(invocation_id: InvocationId, seed: int, signal_id: int) -> str:
    """Names one awakeable of one life: a key that runs again after a purge makes others."""
    raw = _raw_id(invocation_id) + signal_id.to_bytes(4, "big") + _life(seed)
    return AWAKEABLE_PREFIX + base64.urlsafe_b64encode(raw).decode().rstrip("=")


def parse_invocation_id(text: str) -> InvocationId:
    """Raises ValueError when the text is no invocation id, whether there is one or not."""
    if not text.startswith(_INVOCATION_PREFIX):
        raise ValueError(f"bad invocation id {text!r}: it does not begin with {_INVOCATION_PREFIX}")
    encoded = text.removeprefix(_INVOCATION_PREFIX)
    if len(encoded) != _ID_CHARS or not _VALUES.keys() >= set(encoded):
        raise ValueError(
            f"bad invocation id {text!r}: {_ID_CHARS} letters and digits follow"
            f" {_INVOCATION_PREFIX}"
        )
    short, long = _number(encoded[:_SHORT_CHARS]), _number(encoded[_SHORT_CHARS:])
    if short.bit_length() > 64 or long.bit_length() > 128:  # noqa: PLR2004 - see the module.
        raise ValueError(f"bad invocation id {text!r}: it is too large a number")
    return InvocationId(text)


def deployment_id(service: str, revision: int) -> str:
    """Names the code of one revision, as Restate's ids name an endpoint with its services.

    Made of nothing that SQL has not: `md5_number(service || '/' || revision)` in base 62.
    """
    named = md5(f"{service}/{revision}".encode(), usedforsecurity=False)
    # DuckDB reads the digest from its least significant byte.
    return _DEPLOYMENT_PREFIX + _base62(int.from_bytes(named.digest(), "little"), _LONG_CHARS)


class AwakeableId(NamedTuple):
    invocation_id: InvocationId
    signal_id: int
    life: bytes

    def is_of(self, seed: int) -> bool:
        """Whether it belongs to the life that has this seed."""
        return self.life == _life(seed)


def parse_awakeable_id(text: str) -> AwakeableId:
    """Raises ValueError when the text is no awakeable id."""
    if not text.startswith(AWAKEABLE_PREFIX):
        raise ValueError(f"bad awakeable id {text!r}: it does not begin with {AWAKEABLE_PREFIX}")
    encoded = text.removeprefix(AWAKEABLE_PREFIX)
    raw = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    if len(raw) != _ID_BYTES + 4 + _LIFE_BYTES:
        raise ValueError(
            f"bad awakeable id {text!r}: it has {len(raw)} bytes, not {_ID_BYTES + 4 + _LIFE_BYTES}"
        )
    signal_id = int.from_bytes(raw[_ID_BYTES : _ID_BYTES + 4], "big")
    return AwakeableId(_encode(raw[:_ID_BYTES]), signal_id, raw[_ID_BYTES + 4 :])


def digest_of(payload: bytes) -> str:
    """128 bits of blake2b in hex: what the core compares instead of bytes."""
    return blake2b(payload, digest_size=16).hexdigest()


def _life(seed: int) -> bytes:
    return blake2b(str(seed).encode(), digest_size=_LIFE_BYTES, person=b"life").digest()


def _part(text: str | None) -> bytes:
    return b"-" if text is None else b"+" + text.encode()


def _invocation_id(person: bytes, *parts: bytes) -> InvocationId:
    digest = blake2b(digest_size=_ID_BYTES, person=person)
    for part in parts:
        digest.update(len(part).to_bytes(4, "big") + part)
    return _encode(digest.digest())


def _encode(raw: bytes) -> InvocationId:
    short = _base62(int.from_bytes(raw[:_SHORT_BYTES], "big"), _SHORT_CHARS)
    long = _base62(int.from_bytes(raw[_SHORT_BYTES:], "big"), _LONG_CHARS)
    return InvocationId(_INVOCATION_PREFIX + short + long)


def _raw_id(invocation_id: InvocationId) -> bytes:
    text = invocation_id.removeprefix(_INVOCATION_PREFIX)
    short, long = _number(text[:_SHORT_CHARS]), _number(text[_SHORT_CHARS:])
    return short.to_bytes(_SHORT_BYTES, "big") + long.to_bytes(_ID_BYTES - _SHORT_BYTES, "big")


def _base62(number: int, width: int) -> str:
    pairs = []
    for _ in range(0, width, 2):
        number, value = divmod(number, _BASE_SQUARED)
        pairs.append(_PAIRS[value])
    assert number == 0, "the width is that of the largest number"
    pairs.reverse()
    return "".join(pairs)[-width:]


def _number(text: str) -> int:
    number = 0
    for digit in text:
        number = number * len(_DIGITS) + _VALUES[digit]
    return number
