"""What stands in a notebook where a variable could not be carried into a new kernel.

Owns: the record of a loss (`Lost`), the object put in its place (`Tombstone`), and the sentence
said when somebody touches it. Never pickles, never reads files. `checkpoint.save` records losses,
`checkpoint.restore` puts tombstones in the namespace.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

MODULE_TYPE_NAME = "module"


class LostVariableError(RuntimeError):
    """A variable was touched that no checkpoint could carry into this kernel."""


class CheckpointDamagedError(RuntimeError):
    """A checkpoint cannot be used; the notebook has to be run from its start."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} Nothing was restored. Run without the checkpoint: re-run the notebook from "
            "the start, for instance under another output path."
        )


@dataclass(frozen=True, slots=True)
class Lost:
    """A variable that did not survive, and why.

    `cell` is the number or id of the cell that made it, empty when nobody told us.
    """

    name: str
    type_name: str
    reason: str
    cell: str = ""

    def short(self) -> str:
        origin = f", from cell {self.cell}" if self.cell else ""
        verb = "imported again" if self.type_name == MODULE_TYPE_NAME else "saved"
        return f"{self.name} ({self.type_name}{origin}) could not be {verb}"

    def sentence(self) -> str:
        if self.type_name == MODULE_TYPE_NAME:
            remedy = "Install it, or import it in a cell tagged `setup`."
        else:
            remedy = "Re-create it in a cell tagged `setup`."
        return f"{self.short()}: {self.reason.rstrip('.')}. {remedy}"


class Tombstone:
    """Stands for one lost variable: `repr` tells, every other touch raises.

    Formatting raises too: a lost table name must not end up inside an SQL string unseen.
    """

    __slots__ = ("_lost",)

    def __init__(self, lost: Lost) -> None:
        object.__setattr__(self, "_lost", lost)

    def __repr__(self) -> str:
        return f"<lost: {lost_of(self).short()}>"

    def __reduce__(self) -> tuple[type[Tombstone], tuple[Lost]]:
        # A list that holds a tombstone is worth saving again; only the tombstone is dead.
        return Tombstone, (lost_of(self),)

    def __getattr__(self, name: str) -> NoReturn:
        if name == "__dict__":
            # `dir()` and completion ask for it and accept only this answer.
            raise AttributeError(name)
        raise LostVariableError(lost_of(self).sentence())


def lost_of(tombstone: Tombstone) -> Lost:
    """The record behind a tombstone, without touching it."""
    lost = object.__getattribute__(tombstone, "_lost")
    assert isinstance(lost, Lost)
    return lost


def _touched(self: Tombstone, *_args: object, **_keywords: object) -> NoReturn:
    raise LostVariableError(lost_of(self).sentence())


# Python looks operators up on the type, so `__getattr__` never sees them: each needs a name here.
_BINARY = (
    *("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "pow"),
    *("lshift", "rshift", "and", "xor", "or"),
)
_TOUCHES = [
    *(f"__{prefix}{name}__" for name in _BINARY for prefix in ("", "r", "i")),
    *("__divmod__", "__rdivmod__"),
    *("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__hash__", "__bool__"),
    *("__neg__", "__pos__", "__abs__", "__invert__", "__round__", "__trunc__", "__floor__"),
    *("__ceil__", "__int__", "__float__", "__complex__", "__index__", "__bytes__", "__fspath__"),
    *("__str__", "__format__", "__len__", "__length_hint__", "__contains__", "__iter__"),
    *("__next__", "__reversed__", "__getitem__", "__setitem__", "__delitem__", "__call__"),
    *("__enter__", "__exit__", "__await__", "__aiter__", "__anext__", "__aenter__", "__aexit__"),
    *("__setattr__", "__delattr__", "__instancecheck__", "__subclasscheck__", "__mro_entries__"),
    *("__copy__", "__deepcopy__", "__buffer__", "__array__", "__array_ufunc__"),
]
for _name in _TOUCHES:
    setattr(Tombstone, _name, _touched)
