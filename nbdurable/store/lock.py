"""Who owns the journal: a `flock` for life, and a note beside it that says who holds it.

The lock is a file of its own, because opening and closing a database file in this process would
drop DuckDB's POSIX lock on it. A forked child must neither keep the lock alive nor release it, nor
write through its parent's descriptors; `on_fork` is how everything with a handle learns of it.

Source: duckdb-journal.md, section 4, hazards A and B.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from nbdurable.errors import JournalHeldError

LOCK_FILE: Final = "lock"
OWNER_FILE: Final = "owner.json"
# To look whether somebody holds the lock takes some microseconds.
_LOOKS_MAX: Final = 3
_LOOK_AGAIN_S: Final = 0.005
PROGRAM_CHARS_MAX: Final = 80

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Forkable(Protocol):
    def abandon_in_child(self) -> None:
        """Called in a forked child. Must not unlock, close or free anything of the parent's."""


_forkables: weakref.WeakSet[Forkable] = weakref.WeakSet()


def on_fork(handle: Forkable) -> None:
    """Have `handle` abandoned in every child forked from now on. Holds it weakly."""
    _forkables.add(handle)


def let_go_in_child(descriptors: Iterable[int]) -> None:
    """Sockets of the parent's: whoever is at their other end must notice when the parent ends.

    They are not closed, because objects of the parent's name them still, and would close whatever
    has got their numbers since.
    """
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for descriptor in descriptors:
        if descriptor >= 0:
            os.dup2(nothing, descriptor, inheritable=False)
    os.close(nothing)


def _abandon_all_in_child() -> None:
    for handle in list(_forkables):
        handle.abandon_in_child()


os.register_at_fork(after_in_child=_abandon_all_in_child)


class Holder(NamedTuple):
    """Who owns a journal. `program` is what a person knows it by."""

    pid: int
    host: str
    program: str
    since: datetime


class OwnerLock:
    """Mutable: a descriptor while held. `identity` is the (device, inode) that is locked."""

    def __init__(self, folder: Path, now_ms: Callable[[], int]) -> None:
        self.identity: tuple[int, int] | None = None
        self._folder = folder
        self._now_ms = now_ms
        self._descriptor: int | None = None
        self._announced = False
        on_fork(self)

    @property
    def is_held(self) -> bool:
        return self._descriptor is not None

    def acquire(self) -> None:
        """Take the lock or say who has it. Writes nothing but an empty `lock` file.

        Raises:
            JournalHeldError: Another process, or another engine of this one, has it.
        """
        assert self._descriptor is None, "the lock is held already"
        path = self._folder / LOCK_FILE
        looks = 0
        while self._descriptor is None:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                locked, named = os.fstat(descriptor), path.stat()
            except BlockingIOError:
                os.close(descriptor)
                looks += 1
                if looks < _LOOKS_MAX:
                    # Whoever asks `is_held` holds it for a moment.
                    time.sleep(_LOOK_AGAIN_S)
                    continue
                raise JournalHeldError(_refusal(self._folder)) from None
            except FileNotFoundError:
                os.close(descriptor)
                continue
            # Somebody may have replaced the file between the two calls: then our lock is on a file
            # that nobody else will ever look at.
            if (locked.st_dev, locked.st_ino) != (named.st_dev, named.st_ino):
                os.close(descriptor)
                continue
            self.identity = (locked.st_dev, locked.st_ino)
            self._descriptor = descriptor

    def announce(self, **more: object) -> None:
        """Say who we are in `owner.json`; `more` is what others need to reach us (address, token).

        Not part of `acquire`, because a journal that is refused must be left as it was found.
        """
        assert self._descriptor is not None, "only the owner announces itself"
        boot_id = _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else None
        note = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "started_at_ms": self._now_ms(),
            "program": _program(),
            "boot_id": boot_id,
            **more,
        }
        write_private(self._folder / OWNER_FILE, _text(note))
        self._announced = True

    def release(self) -> None:
        if self._descriptor is None:
            return
        if self._announced and self._still_named():
            (self._folder / OWNER_FILE).unlink(missing_ok=True)
        # Closing releases; an explicit unlock would do the same to a parent's lock after a fork.
        os.close(self._descriptor)
        self._descriptor = None
        self._announced = False

    def abandon_in_child(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        self._announced = False

    def _still_named(self) -> bool:
        """False when the folder was moved or replaced: the note there is then somebody else's."""
        try:
            named = (self._folder / LOCK_FILE).stat()
        except OSError:
            return False
        return (named.st_dev, named.st_ino) == self.identity


def is_held(folder: Path) -> bool:
    """Whether somebody owns the journal right now. Creates nothing."""
    try:
        descriptor = os.open(folder / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def holder_of(folder: Path) -> Holder | None:
    """What the last owner says of itself. Whether it lives is for `is_held` to say."""
    try:
        note = json.loads((folder / OWNER_FILE).read_text(encoding="utf-8"))
        since = datetime.fromtimestamp(note["started_at_ms"] / 1000, tz=UTC).astimezone()
        program = program_of(note["program"]) or "python"
        return Holder(int(note["pid"]), str(note["host"]), program, since)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_private(path: Path, content: bytes) -> None:
    """Replace a file in one step, readable by its owner only, durable when this returns."""
    # Two threads of one process may write it at once: then the last one counts, and it is whole.
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        # On a full disk what there is of it would only be in the way.
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make names durable, not only contents: DuckDB syncs its files but never their folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _program() -> list[str]:
    """What a person knows this process by. Jupyter names the notebook, whose argv says nothing."""
    # What a kernel has started inherits the name and is no notebook.
    is_kernel = "ipykernel.kernelapp" in sys.modules
    notebook = os.environ.get("JPY_SESSION_NAME") if is_kernel else None
    return ["notebook", Path(notebook).name] if notebook else sys.argv


def program_of(words: list[str]) -> str:
    """Without the folders that its script is in; cut, because it may have any number of words."""
    script, *rest = words or [""]
    named = Path(script)
    # Of `python -m package` the script says nothing, and its folder everything.
    name = named.parent.name if named.name == "__main__.py" else named.name
    return " ".join((name, *rest))[:PROGRAM_CHARS_MAX].strip()


def _text(note: dict[str, object]) -> bytes:
    return json.dumps(note, indent=1, default=str).encode() + b"\n"


def _refusal(folder: Path) -> str:
    way_out = (
        "One process owns a journal at a time. Work there; or end it (shut that kernel down) and "
        "try again; or use another folder: NBDURABLE_HOME, or open(path=...)."
    )
    holder = holder_of(folder)
    if holder is None:
        return f"The journal {folder} is held by a process that is just taking it. {way_out}"
    since = f"since {holder.since:%Y-%m-%d %H:%M:%S}"
    if holder.pid == os.getpid() and holder.host == socket.gethostname():
        return (
            f"The journal {folder} is already open in this process (pid {holder.pid}), {since}. Use"
            " the engine that has it, or close that one first."
        )
    return (
        f"The journal {folder} is held by process {holder.pid} on {holder.host}"
        f" ({holder.program}), {since}. {way_out}"
    )
