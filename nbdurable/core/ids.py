"""Names that never change: invocation ids, awakeable ids, payload digests.

Every id is a pure function of what it names, so that the attempt and the engine reach the same
id without asking each other, and a client can look one up without asking anybody. The one random
ingredient is the seed of an invocation that was started without a key; it is handed in.

Source: restate-semantics.md, 1.2 (awakeable ids) and 1.8 (ids are hashes of the target).
"""

from __future__ import annotations

import base64
from hashlib import blake2b
from typing import Final, NamedTuple, NewType

InvocationId = NewType("InvocationId", str)
Milliseconds = NewType("Milliseconds", int)
Lsn = NewType("Lsn", int)

CANCEL_SIGNAL: Final = 1
# Signals 2 to 16 are reserved by the protocol, so the first awakeable of an invocation is 17.
FIRST_AWAKEABLE_SIGNAL: Final = 17

_INVOCATION_PREFIX: Final = "inv_1"
_AWAKEABLE_PREFIX: Final = "sign_1"
_DEPLOYMENT_PREFIX: Final = "dp_"
_ID_BYTES: Final = 16
_ID_CHARS: Final = 26
_BASE32: Final = frozenset("abcdefghijklmnopqrstuvwxyz234567")
_LIFE_BYTES: Final = 4
_REVISION_DIGITS_MAX: Final = 9


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
    return _AWAKEABLE_PREFIX + base64.urlsafe_b64encode(raw).decode().rstrip("=")


def parse_invocation_id(text: str) -> InvocationId:
    """Raises ValueError when the text is no invocation id, whether there is one or not."""
    if not text.startswith(_INVOCATION_PREFIX):
        raise ValueError(f"bad invocation id {text!r}: it does not begin with {_INVOCATION_PREFIX}")
    encoded = text.removeprefix(_INVOCATION_PREFIX)
    if len(encoded) != _ID_CHARS or not _BASE32.issuperset(encoded):
        raise ValueError(
            f"bad invocation id {text!r}: {_ID_CHARS} letters a to z and digits 2 to 7 follow"
            f" {_INVOCATION_PREFIX}"
        )
    return InvocationId(text)


def deployment_id(service: str, revision: int) -> str:
    """Names the code of one revision, as Restate's ids name an endpoint with its services."""
    return f"{_DEPLOYMENT_PREFIX}{service}_{revision}"


def parse_deployment_id(text: str) -> tuple[str, int]:
    """Service and revision. Raises ValueError when the text is no deployment id."""
    service, _, revision = text.removeprefix(_DEPLOYMENT_PREFIX).rpartition("_")
    if not text.startswith(_DEPLOYMENT_PREFIX) or not service or not _is_number(revision):
        raise ValueError(
            f"bad deployment id {text!r}: it is {_DEPLOYMENT_PREFIX}, a service, _ and a revision,"
            f" e.g. {deployment_id('Greeter', 1)}"
        )
    return service, int(revision)


class AwakeableId(NamedTuple):
    invocation_id: InvocationId
    signal_id: int
    life: bytes

    def is_of(self, seed: int) -> bool:
        """Whether it belongs to the life that has this seed."""
        return self.life == _life(seed)


def parse_awakeable_id(text: str) -> AwakeableId:
    """Raises ValueError when the text is no awakeable id."""
    if not text.startswith(_AWAKEABLE_PREFIX):
        raise ValueError(f"bad awakeable id {text!r}: it does not begin with {_AWAKEABLE_PREFIX}")
    encoded = text.removeprefix(_AWAKEABLE_PREFIX)
    raw = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    if len(raw) != _ID_BYTES + 4 + _LIFE_BYTES:
        raise ValueError(f"bad awakeable id {text!r}: it has {len(raw)} bytes, not 24")
    signal_id = int.from_bytes(raw[_ID_BYTES : _ID_BYTES + 4], "big")
    return AwakeableId(_encode(raw[:_ID_BYTES]), signal_id, raw[_ID_BYTES + 4 :])


def digest_of(payload: bytes) -> str:
    """128 bits of blake2b in hex: what the core compares instead of bytes."""
    return blake2b(payload, digest_size=16).hexdigest()


def _life(seed: int) -> bytes:
    return blake2b(str(seed).encode(), digest_size=_LIFE_BYTES, person=b"life").digest()


def _is_number(text: str) -> bool:
    # What is longer is no revision, and int() takes the longer, the longer it is.
    return 0 < len(text) <= _REVISION_DIGITS_MAX and text.isascii() and text.isdigit()


def _part(text: str | None) -> bytes:
    return b"-" if text is None else b"+" + text.encode()


def _invocation_id(person: bytes, *parts: bytes) -> InvocationId:
    digest = blake2b(digest_size=_ID_BYTES, person=person)
    for part in parts:
        digest.update(len(part).to_bytes(4, "big") + part)
    return _encode(digest.digest())


def _encode(raw: bytes) -> InvocationId:
    text = base64.b32encode(raw).decode().lower().rstrip("=")
    return InvocationId(_INVOCATION_PREFIX + text)


def _raw_id(invocation_id: InvocationId) -> bytes:
    text = invocation_id.removeprefix(_INVOCATION_PREFIX).upper()
    return base64.b32decode(text + "=" * (-len(text) % 8))
