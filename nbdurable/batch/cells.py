"""Which cells of a notebook need not run again: a pure function of notebook and journal.

Owns: the identity of a cell, what is recorded of one execution, and the plan of an attempt. Never
touches a kernel, a file or the engine.

A cell is the digest of its source chained to that of the cell before it: an edit changes the
identity of that cell and of all that follow, and parameters are an injected cell. Every execution
is a step of its own, whose key says where, what and in which attempt. Beginning to run a cell ends
the validity of everything recorded at and after its place, as in a notebook run by hand.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, Protocol

from nbdurable.errors import DefinitionError
from nbdurable.sdk import Serde

SETUP_TAG = "setup"
# The tag by which nbclient passes over a cell.
SKIP_TAG = "skip-execution"
# The one tag that changes what an execution of the same source means for those after it.
ALLOWS_ERRORS_TAG = "raises-exception"
# Steps inside a cell with this tag are done again whenever the cell is.
VOLATILE_TAG = "volatile"
# Steps inside of cells have other keys, and no say in which cells run.
_INNER_PREFIX = "in/"
# How often a cell that raised is run again, and how many seconds each time may take.
RETRIES_TAG = "retries"
TIMEOUT_TAG = "timeout"
LINE_CHARS_MAX = 48
# A kernel that died once while it saved may have been killed by anybody; twice at the same cell,
# it was the saving.
DEATHS_MAX = 2


@dataclass(frozen=True, slots=True)
class Cell:
    """A code cell that runs. `index` is its place in the notebook, `position` among these."""

    index: int
    position: int
    digest: str
    line: str
    is_setup: bool
    is_volatile: bool = False

    @property
    def name(self) -> str:
        """What the journal calls it: its number in the notebook and its first line."""
        return f"cell {self.index + 1}: {self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRecord:
    """What one execution of a cell left behind; the JSON of its step.

    `checkpoint` is the digest of the variables after it; without one, `no_checkpoint` says why.
    `stopped`: the cell ended the notebook on purpose, by `sys.exit()`. `died_saving`: saving the
    variables was going on when it died. `widgets`: states by comm id that the cell changed.
    `manifest` is the checkpoint's, where it was so short that it is kept here and in no file.
    """

    index: int
    digest: str
    attempt: int
    outputs: list[dict[str, Any]]
    execution_count: int | None
    started_at_ms: int
    ended_at_ms: int
    checkpoint: str | None = None
    no_checkpoint: str | None = None
    checkpoint_ms: int = 0
    checkpoint_bytes: int = 0
    tombstones: list[str] = field(default_factory=list)
    timing: dict[str, str] = field(default_factory=dict)
    widgets: dict[str, Any] = field(default_factory=dict)
    stopped: bool = False
    died_saving: bool = False
    manifest: str | None = None


class RecordSerde(Serde[CellRecord]):
    """JSON that reads what a later version wrote: fields unknown here are left out."""

    def serialize(self, obj: CellRecord | None) -> bytes:
        """Write it, `NaN` included: outputs come from the kernel as they are."""
        return b"" if obj is None else json.dumps(asdict(obj), separators=(",", ":")).encode()

    def deserialize(self, buf: bytes) -> CellRecord | None:
        """Read it."""
        known = CellRecord.__dataclass_fields__
        return (
            CellRecord(**{k: v for k, v in json.loads(buf).items() if k in known}) if buf else None
        )


class StepKey(NamedTuple):
    """The key of one execution. `again`: a setup cell that runs before a checkpoint is restored."""

    position: int
    digest: str
    attempt: int
    again: bool = False

    def __str__(self) -> str:
        """`3.<digest>.2`, with `.again` behind it where it is so."""
        return f"{self.position}.{self.digest}.{self.attempt}" + (".again" if self.again else "")

    @classmethod
    def parse(cls, text: str) -> StepKey:
        position, digest, attempt, *rest = text.split(".")
        return cls(int(position), digest, int(attempt), bool(rest))


class Step(Protocol):
    """What the plan needs to know of a recorded step."""

    @property
    def key(self) -> str: ...

    @property
    def payload(self) -> bytes | None: ...


class KnownStep(NamedTuple):
    """A step as another run recorded it."""

    key: str
    payload: bytes | None


@dataclass(frozen=True, slots=True)
class Span:
    """What one call runs, by position: from `first` whatever is recorded, and not past `last`."""

    first: int | None = None
    last: int | None = None


EVERYTHING = Span()


class CellNotFoundError(DefinitionError):
    """Somebody named a cell that is not there, or that nothing runs."""


class Kept(NamedTuple):
    """A finished cell and the step that is its record."""

    cell: Cell
    key: StepKey
    record: CellRecord


@dataclass(frozen=True, slots=True)
class Plan:
    """What an attempt does.

    `kept` is the prefix that does not run again (its setup cells do, if anything is left to run).
    `checkpointed` is how many cells from the start are checkpointed: not the last one, and none
    from where saving the variables kills kernels.
    """

    kept: tuple[Kept, ...]
    left: tuple[Cell, ...]
    checkpointed: int
    notes: tuple[str, ...]

    @property
    def again(self) -> tuple[Cell, ...]:
        """The setup cells that run before the rest."""
        return tuple(kept.cell for kept in self.kept if kept.cell.is_setup) if self.left else ()

    @property
    def checkpoint(self) -> str | None:
        """The variables to begin with."""
        return self.kept[-1].record.checkpoint if self.kept and self.left else None

    def manifest_of(self, checkpoint: str) -> str | None:
        """What is recorded of a checkpoint of a kept cell, besides its digest."""
        records = (kept.record for kept in self.kept)
        return next((each.manifest for each in records if each.checkpoint == checkpoint), None)

    def checkpoint_before(self, cell: Cell) -> str | None:
        """What a setup cell saw when it ran first; None when a setup cell ran just before it."""
        before = self.kept[: cell.position]
        if not before or before[-1].cell.is_setup:
            return None
        return before[-1].record.checkpoint


def cells_of(cells: Sequence[Mapping[str, Any]], kernel_name: str) -> tuple[Cell, ...]:
    """The cells that run, in order. Those nbclient passes over are no part of the chain."""
    digest = _digest("nbdurable.batch/1", kernel_name)
    found: list[Cell] = []
    for index, cell in enumerate(cells):
        tags = cell["metadata"].get("tags", [])
        source = cell["source"]
        if cell["cell_type"] != "code" or not source.strip() or SKIP_TAG in tags:
            continue
        digest = _digest(digest, source, ALLOWS_ERRORS_TAG if ALLOWS_ERRORS_TAG in tags else "")
        line = _first_line(source)
        is_setup, is_volatile = SETUP_TAG in tags, VOLATILE_TAG in tags
        found.append(Cell(index, len(found), digest, line, is_setup, is_volatile))
    return tuple(found)


def tagged(cell: Mapping[str, Any], name: str) -> int:
    """The number of a tag such as `retries=3`; 0 without one, or when it is no number."""
    for tag in cell["metadata"].get("tags", []):
        key, _, value = tag.partition("=")
        if key == name and value.isdecimal():
            return int(value)
    return 0


def position_of(named: str, notebook: Sequence[Mapping[str, Any]], cells: Sequence[Cell]) -> int:
    """The cell of this number, as the output notebook counts from 1, or else of this id or tag.

    Raises:
        CellNotFoundError: None is, or several are, or nothing runs it.
    """
    if named.isdecimal():
        indices = [int(named) - 1] if 0 < int(named) <= len(notebook) else []
    else:
        indices = [
            index
            for index, cell in enumerate(notebook)
            if named == cell.get("id") or named in cell["metadata"].get("tags", [])
        ]
    if len(indices) != 1:
        found = f"{len(indices)} cells have" if indices else "no cell has"
        raise CellNotFoundError(
            f"{found} the number, id or tag {named!r}; the notebook has cells 1 to {len(notebook)}"
        )
    positions = {cell.index: cell.position for cell in cells}
    if indices[0] not in positions:
        raise CellNotFoundError(f"cell {indices[0] + 1} is not code that runs")
    return positions[indices[0]]


def waiting_cell(steps: Iterable[KnownStep]) -> str | None:
    """The digest of the cell that was begun last and has no record."""
    keys = [step for step in steps if not step.key.startswith(_INNER_PREFIX)]
    return StepKey.parse(keys[-1].key).digest if keys and keys[-1].payload is None else None


def adopted(steps: Iterable[KnownStep]) -> list[KnownStep]:
    """Steps of a run that is over, for one that begins with them: as of an attempt before all."""
    return [
        KnownStep(str(key._replace(attempt=0)), step.payload)
        for step in steps
        if not step.key.startswith(_INNER_PREFIX)
        for key in [StepKey.parse(step.key)]
    ]


def plan_of(
    cells: Sequence[Cell],
    steps: Iterable[Step],
    unusable: Collection[str] = (),
    span: Span = EVERYTHING,
) -> Plan:
    """Keep the longest prefix of finished, unchanged cells whose variables can be had.

    Args:
        steps: All recorded ones, in the order they began.
        unusable: Checkpoints that could not be restored.
    """
    current, deaths = _current(steps)
    prefix: list[Kept] = []
    notes: list[str] = []
    for cell in cells:
        key, record = current.get(cell.position, (None, None))
        if key is not None and key.digest != cell.digest:
            notes.append(f"cell {cell.index + 1} was edited")
        if key is None or record is None or key.digest != cell.digest:
            break
        if cell.position == span.first:
            notes.append(f"cell {cell.index + 1} and what follows it is to run again")
            break
        prefix.append(Kept(cell, key, record))
    deadly = [cell.position for cell in cells if deaths[cell.digest] >= DEATHS_MAX]
    # Nothing begins after the last cell, so its variables are never needed.
    checkpointed = min([*deadly, len(cells) - 1])
    if prefix and (len(prefix) == len(cells) or prefix[-1].record.stopped):
        return Plan(tuple(prefix), (), checkpointed, ())
    count = len(prefix)
    while count and not _can_begin_after(prefix[:count], unusable):
        count -= 1
    if count < len(prefix):
        lost = prefix[count:]
        reason = lost[-1].record.no_checkpoint or "its checkpoint cannot be used"
        numbers = _numbers([kept.cell for kept in lost])
        notes.append(f"finished, but run again: {numbers} ({reason})")
    left = cells[count:] if span.last is None else cells[count : span.last + 1]
    return Plan(tuple(prefix[:count]), tuple(left), checkpointed, tuple(notes))


def _current(
    steps: Iterable[Step],
) -> tuple[dict[int, tuple[StepKey, CellRecord | None]], Counter[str]]:
    """What is valid at each position by now, and how often saving after a cell met a death."""
    current: dict[int, tuple[StepKey, CellRecord | None]] = {}
    deaths: Counter[str] = Counter()
    serde = RecordSerde()
    for step in steps:
        if step.key.startswith(_INNER_PREFIX) or (key := StepKey.parse(step.key)).again:
            continue
        record = None if step.payload is None else serde.deserialize(step.payload)
        current = {place: known for place, known in current.items() if place < key.position}
        current[key.position] = key, record
        if record is not None and record.died_saving:
            deaths[key.digest] += 1
    return current, deaths


def _can_begin_after(prefix: Sequence[Kept], unusable: Collection[str]) -> bool:
    checkpoint = prefix[-1].record.checkpoint
    if checkpoint is not None and checkpoint not in unusable:
        return True
    # Setup cells run again anyway, and need nothing before them.
    return all(kept.cell.is_setup for kept in prefix)


def _numbers(cells: Sequence[Cell]) -> str:
    first, last = cells[0].index + 1, cells[-1].index + 1
    return f"cell {first}" if first == last else f"cells {first} to {last}"


def _first_line(source: str) -> str:
    line = next(line.strip() for line in source.splitlines() if line.strip())
    return line if len(line) <= LINE_CHARS_MAX else line[: LINE_CHARS_MAX - 1] + "…"


def _digest(*parts: str) -> str:
    hasher = hashlib.sha256()
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        hasher.update(f"{len(encoded)}:".encode())
        hasher.update(encoded)
    return hasher.hexdigest()
