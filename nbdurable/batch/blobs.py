"""A folder of content-addressed files: `<length in bytes>-<xxh3_128 hex>`.

Owns: writing a file so that it is whole or absent, and reading it so that it is right or an error.
Never knows what is inside. The hash finds accidents, not attackers: that is what the 0700 folder
is for.
"""

from __future__ import annotations

import io
import os
import re
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import NewType

import xxhash

from nbdurable.batch.tombstone import CheckpointDamagedError

BlobName = NewType("BlobName", str)

# Written and hashed piece by piece, so that one copy of a piece exists and not one of the buffer.
PIECE_BYTES = 4 * 1024 * 1024

_NAME = re.compile(r"(0|[1-9][0-9]{0,17})-[0-9a-f]{32}")


class BlobFolder:
    """Mutable: counts the bytes of one save or one restore; owned by one thread.

    Args:
        durable: Blobs that this process has seen to be durable.
    """

    def __init__(self, folder: Path, durable: Collection[str] = ()) -> None:
        self._folder = folder
        self._durable = frozenset(durable)
        self._sizes: dict[BlobName, int] = {}
        self._filed: set[BlobName] = set()
        self._is_durable = True
        self._held: dict[str, bytes] = {}
        self.bytes_written = 0

    @property
    def bytes_total(self) -> int:
        """Bytes of every distinct blob named so far, new or already there, filed or held."""
        return sum(self._sizes.values())

    @property
    def filed(self) -> tuple[str, ...]:
        """What has been put so far: files, durable once `sync` has returned."""
        return tuple(self._filed)

    def create(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def refuse_strangers(self) -> None:
        """A pickle is code: refuse a folder in which somebody else could have put one."""
        if os.name != "posix" or not self._folder.exists():
            return
        status = self._folder.stat()
        if status.st_uid not in (os.getuid(), 0) or status.st_mode & 0o022:
            raise PermissionError(
                f"{self._folder} holds checkpoints, which are code, and other users can write to "
                "it, so it was not read. Make it yours alone: `chmod 700` and `chown` it."
            )

    def put(self, content: bytes | bytearray | memoryview) -> BlobName:
        """Store the bytes unless they are there, and name them."""
        view = memoryview(content).cast("B")
        name = _name(view.nbytes, xxhash.xxh3_128_hexdigest(view))
        if not self._has(name):
            name = self._write(view)
            self.bytes_written += view.nbytes
            self._is_durable = False
        # Whoever has written it may have been killed before its name was durable.
        self._is_durable = self._is_durable and name in self._durable
        self._sizes[name] = view.nbytes
        self._filed.add(name)
        return name

    def hold(self, content: bytes) -> BlobName:
        """Name bytes that somebody else keeps; `get` returns them here."""
        name = _name(len(content), xxhash.xxh3_128_hexdigest(content))
        self._sizes[name] = len(content)
        self._held[name] = content
        return name

    def has(self, content: bytes) -> bool:
        """Whether there is a file of these bytes."""
        return self._has(_name(len(content), xxhash.xxh3_128_hexdigest(content)))

    def get(self, name: str) -> bytearray:
        """The bytes of a blob, in a fresh writable buffer.

        A new buffer for each call, because two arrays that were equal were still two arrays.

        Raises:
            CheckpointDamagedError: Missing, of another length, or of another content.
        """
        if not _NAME.fullmatch(name):
            message = f"The checkpoint names a blob {name!r}, which is no name of ours."
            raise CheckpointDamagedError(message)
        if name in self._held:
            return bytearray(self._held[name])
        path = self._folder / name
        expected_bytes = int(name.partition("-")[0])
        try:
            with path.open("rb", buffering=0) as file:
                actual_bytes = os.fstat(file.fileno()).st_size
                content = bytearray(actual_bytes if actual_bytes == expected_bytes else 0)
                filled = _fill(file, content)
        except FileNotFoundError:
            raise CheckpointDamagedError(f"The checkpoint file {path} is missing.") from None
        except OSError as error:
            message = f"The checkpoint file {path} cannot be read ({error.strerror})."
            raise CheckpointDamagedError(message) from error
        if actual_bytes != expected_bytes or filled != expected_bytes:
            raise CheckpointDamagedError(
                f"The checkpoint file {path} is damaged: it has {actual_bytes} bytes and was "
                f"written with {expected_bytes}."
            )
        if _name(expected_bytes, xxhash.xxh3_128_hexdigest(content)) != name:
            raise CheckpointDamagedError(
                f"The checkpoint file {path} is damaged: its content no longer has the hash it "
                "is named by."
            )
        return content

    def sync(self) -> None:
        """Make the names durable; called once, before a digest is handed out."""
        if os.name != "posix" or self._is_durable:
            return
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _has(self, name: BlobName) -> bool:
        try:
            return (self._folder / name).stat().st_size == int(name.partition("-")[0])
        except FileNotFoundError:
            return False

    def _write(self, view: memoryview) -> BlobName:
        # Hashed again while written: a thread of the notebook may change an array under us, and
        # the name has to be that of the bytes on disk.
        hasher = xxhash.xxh3_128()
        descriptor, temporary = tempfile.mkstemp(dir=self._folder, prefix=".", suffix=".part")
        try:
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                for start in range(0, view.nbytes, PIECE_BYTES):
                    piece = memoryview(bytes(view[start : start + PIECE_BYTES]))
                    hasher.update(piece)
                    while piece:
                        piece = piece[file.write(piece) :]
                os.fsync(file.fileno())
            name = _name(view.nbytes, hasher.hexdigest())
            Path(temporary).replace(self._folder / name)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        return name


def _name(content_bytes: int, digest: str) -> BlobName:
    return BlobName(f"{content_bytes}-{digest}")


def _fill(file: io.FileIO, content: bytearray) -> int:
    filled = 0
    with memoryview(content) as view:
        # One read call of Linux moves at most 2 GiB, so a big frame takes several.
        while filled < len(view) and (read := file.readinto(view[filled:])):
            filled += read
    return filled
