"""The journal's folder: its names, who may read it, what makes it unusable.

Nothing here opens a database file. Opening and closing one in this process would drop DuckDB's
lock on it, and with the lock, acknowledged commits (duckdb-journal.md, section 4, hazard A).
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Final, NamedTuple

from nbdurable.errors import (
    JournalDamagedError,
    JournalGoneError,
    JournalVersionError,
    StoreError,
)
from nbdurable.store.lock import LOCK_FILE, sync_folder, write_private

FORMAT_VERSION: Final = 2

BASE_FILE: Final = "base.duckdb"
HOT_FILE: Final = "hot.duckdb"
FORMAT_FILE: Final = "format.json"
BLOBS_FOLDER: Final = "blobs"
SPILL_FOLDER: Final = "tmp"
# By the name each is attached under.
DATABASES: Final = {"base": BASE_FILE, "hot": HOT_FILE}
DATABASE_FILES: Final = (BASE_FILE, HOT_FILE)

# A database is made under another name and renamed when complete: half a file is never opened.
UNFINISHED: Final = ".new"

# Locks and fsync of these do not hold what a journal needs. 9p and virtiofs are not among them:
# they are how containers and virtual machines see a disk of their own host.
_NETWORK_FILE_SYSTEMS: Final = frozenset(
    {
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "davfs",
        "gfs",
        "gfs2",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "ocfs2",
        "orangefs",
        "smb3",
        "smbfs",
    }
    | {
        f"fuse.{driver}"
        for driver in (
            "ceph-fuse",
            "cephfs",
            "davfs2",
            "gcsfuse",
            "glusterfs",
            "goofys",
            "juicefs",
            "mount-s3",
            "rclone",
            "s3fs",
            "smbnetfs",
            "sshfs",
        )
    }
)

NOTHING_MODIFIED: Final = "Nothing was modified."
_WAY_OUT = (
    f"{NOTHING_MODIFIED} `nbdurable doctor --repair --dry-run` says how far it can be read, and "
    "without --dry-run copies it aside and makes it anew of that; or restore it from a backup, or "
    "move it away to begin a new journal."
)


class Format(NamedTuple):
    """What `format.json` says. Units: created_at_ms – milliseconds since the epoch."""

    version: int
    journal_id: str
    created_at_ms: int


def network_file_system(folder: str, mountinfo: str) -> str | None:
    """The type of the network file system that holds `folder`, None if it is not on one.

    A type that is not known is taken for a local one: refusing a good disk is the worse mistake.

    Args:
        folder: Absolute and free of symbolic links.
        mountinfo: Text of `/proc/self/mountinfo`.
    Source: proc(5), "/proc/[pid]/mountinfo".
    """
    best_length, best_type = -1, ""
    for line in mountinfo.splitlines():
        mount, _, file_system = line.partition(" - ")
        fields, types = mount.split(" "), file_system.split(" ")
        if len(fields) < 5:  # noqa: PLR2004 - proc(5): the mount point is the fifth field.
            continue
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
        holds = folder == point or folder.startswith(point.rstrip("/") + "/")
        # Of two mounts on one point the later covers the earlier.
        if holds and len(point) >= best_length:
            best_length, best_type = len(point), types[0]
    return best_type if best_type in _NETWORK_FILE_SYSTEMS else None


def refuse_network(folder: Path) -> None:
    mountinfo = Path("/proc/self/mountinfo")
    if not mountinfo.exists():
        return
    found = network_file_system(str(folder), mountinfo.read_text(errors="surrogateescape"))
    if found is not None:
        raise StoreError(
            f"{folder} is on a network file system ({found}), where locks and fsync do not hold "
            "what a journal promises. Nothing was created. Set NBDURABLE_HOME to a folder on a "
            "local disk."
        )


def prepare_folder(folder: Path) -> None:
    """Make the folder if there is none. A folder of other things is refused, not taken over."""
    if not folder.exists():
        folder.mkdir(mode=0o700, parents=True)
        folder.chmod(0o700)
        sync_folder(folder.parent)
        return
    if not folder.is_dir():
        raise StoreError(f"{folder} is a file; a journal is a folder. Name another place for it.")
    if any((folder / name).exists() for name in (FORMAT_FILE, *DATABASE_FILES)):
        return
    # A token is made anew by whoever serves a journal in the moment that somebody deletes it.
    ours = (LOCK_FILE, "owner.json", "token", FORMAT_FILE, ".gitignore", *DATABASE_FILES)
    others = [
        entry.name
        for entry in folder.iterdir()
        if not entry.name.startswith(ours) and entry.name not in (BLOBS_FOLDER, SPILL_FOLDER)
    ]
    if others:
        raise StoreError(
            f"{folder} holds files that are no journal ({', '.join(sorted(others)[:3])}). Nothing "
            "was created. Name a folder that is empty or does not exist."
        )


def read_format(folder: Path) -> Format | None:
    """What the journal says of itself; None in a folder where no journal was begun.

    Raises:
        JournalVersionError: A newer version wrote it.
        JournalDamagedError: It cannot be read, or it is missing beside a database.
    """
    path = folder / FORMAT_FILE
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        present = [name for name in DATABASE_FILES if (folder / name).exists()]
        if present:
            raise damaged(path, f"it is missing, though {present[0]} is there") from None
        return None
    try:
        note = json.loads(text)
        version, journal_id = int(note["format"]), str(note["journal_id"])
        created_at_ms, created_by = int(note["created_at_ms"]), str(note["created_by"])
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(path, f"it cannot be read ({type(error).__name__}: {error})") from error
    if version > FORMAT_VERSION:
        raise JournalVersionError(
            f"The journal {folder} has format {version}, made by {created_by}; this nbdurable "
            f"reads formats up to {FORMAT_VERSION}. Nothing was modified. Install a "
            "newer nbdurable, or name another folder for a new journal."
        )
    return Format(version, journal_id, created_at_ms)


def write_format(folder: Path, begun: Format, created_by: str) -> None:
    """Begin a journal. Written first, so that databases without it are known to be a damage."""
    note = {
        "format": begun.version,
        "journal_id": begun.journal_id,
        "created_at_ms": begun.created_at_ms,
        "created_by": created_by,
    }
    write_private(folder / FORMAT_FILE, json.dumps(note, indent=1).encode() + b"\n")


def furnish(folder: Path) -> None:
    """What a journal has besides its databases. A journal in git would leak its payloads."""
    ignore = folder / ".gitignore"
    if not ignore.exists():
        write_private(ignore, b"*\n")
    (folder / BLOBS_FOLDER).mkdir(mode=0o700, exist_ok=True)


def make_private(folder: Path) -> None:
    """The folder keeps strangers out; the modes of the files are a second door.

    DuckDB creates files with the process's umask. That is not ours to change, not even for a
    moment: other threads create files too.
    """
    folder.chmod(0o700)
    for name in DATABASE_FILES:
        (folder / name).chmod(0o600)
        wal = wal_of(folder / name)
        if wal.exists():
            wal.chmod(0o600)


def wal_of(database: Path) -> Path:
    return database.with_name(database.name + ".wal")


def damaged(path: Path, found: str) -> JournalDamagedError:
    return JournalDamagedError(f"{path} is damaged: {found}. {_WAY_OUT}")


class FileWatch:
    """Mutable: the files' identities as they were opened. Tells whether they still are the ones.

    A deleted file goes on working for whoever has it open, so DuckDB would go on acknowledging
    commits that nobody can ever read. Costs about 5 us per commit.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        # Held for life, so that no other folder can get its inode number.
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._paths = [self._folder, *(str(folder / n) for n in (*DATABASE_FILES, LOCK_FILE))]
        self._known = [_identity(path) for path in self._paths]
        self._wal = str(wal_of(folder / HOT_FILE))
        self._known_wal: tuple[int, int] | None = None

    def check(self) -> None:
        """Raises JournalGoneError when a file or the folder is not the one that was opened."""
        try:
            for path, known in zip(self._paths, self._known, strict=True):
                if _identity(path) != known:
                    raise self._gone(f"{path} was replaced")
            if self._known_wal and _identity(self._wal) != self._known_wal:
                raise self._gone(f"{self._wal} was replaced")
        except FileNotFoundError as error:
            raise self._gone(f"{error.filename} is not there any more") from None

    def check_commit(self) -> int:
        """As `check`, after a commit to hot. Returns the size of its write-ahead log in bytes."""
        self.check()
        try:
            wal = os.stat(self._wal)  # noqa: PTH116 - a tenth of the cost of Path on every commit.
        except FileNotFoundError:
            raise self._gone(f"{self._wal} is not there any more") from None
        if self._known_wal is None:
            # A new one after each checkpoint, with the process's umask and a name not yet durable.
            os.chmod(self._wal, 0o600)  # noqa: PTH101 - the same.
            os.fsync(self._descriptor)
            self._known_wal = (wal.st_dev, wal.st_ino)
        return wal.st_size

    def expect_new_wal(self) -> None:
        """A checkpoint removes the write-ahead log; the next commit makes another."""
        self._known_wal = None

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def _gone(self, what: str) -> JournalGoneError:
        return JournalGoneError(
            f"The journal {self._folder} was deleted or replaced while process {os.getpid()} was "
            f"using it: {what}. What was acknowledged before is lost with it, unless it was only "
            "moved. Stop this process; if the folder was moved, move it back, and start again."
        )


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)  # noqa: PTH116 - a tenth of the cost of Path on every commit.
    return status.st_dev, status.st_ino
