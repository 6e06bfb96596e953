"""How the objects of a notebook are written and rebuilt, where pickle and cloudpickle fall short.

Owns eight differences, and nothing else:

* a function of the notebook is its code, rebuilt with the live namespace as its globals, so that
  it sees what later cells assign (cloudpickle gives it a copy);
* code keeps the name of the cell it was typed in;
* a closure keeps its cells, so that two functions over one `nonlocal` still share it;
* a NumPy view of an array that is a variable stays a view of it;
* what pickle would write as "the name `f` in `__main__`" is rebuilt or refused, because a new
  kernel has no such name yet;
* an exception whose `__init__` takes other arguments than its `args` comes back all the same;
* a weak dictionary is its live items, without which no `singledispatch` function is saved;
* an open text file is refused (cloudpickle would silently turn it into a `StringIO`).

Never touches files. The stream names the `rebuild_*` functions by module and name: moving one is a
change of the checkpoint's format.
"""

from __future__ import annotations

import functools
import importlib
import io
import pickle
import sys
import types
import typing
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import cloudpickle

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

PROTOCOL = 5

# What `reducer_override` may answer, `NotImplemented` or a reduce tuple, has no type in typeshed.
Reduced = Any
# Pickling asks anybody's objects for what only some of them have.
Anybodys = Any

_FUNCTION_ATTRIBUTES = (
    "__name__",
    "__qualname__",
    "__module__",
    "__doc__",
    "__defaults__",
    "__kwdefaults__",
    "__type_params__",
)


class NamespacePickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types.
    """Mutable: the memo of one stream; owned by one thread."""

    def __init__(
        self,
        file: object,
        namespace: dict[str, object],
        arrays: Mapping[int, Array],
        buffer_callback: Callable[[pickle.PickleBuffer], bool],
    ) -> None:
        super().__init__(file, protocol=PROTOCOL, buffer_callback=buffer_callback)
        self._namespace = namespace
        self._arrays = arrays
        self.source_names: set[str] = set()

    def reducer_override(self, obj: Anybodys) -> Reduced:
        # Only the type is asked, never the object: a proxy or a tombstone reacts to `isinstance`.
        kind = type(obj)
        if kind is types.FunctionType:
            return self._function(obj)
        if kind is types.CellType:
            return _cell(obj)
        if kind is types.CodeType:
            # Some versions of cloudpickle write every code as `<dynamic-code>`; the name of its
            # cell is how tracebacks and `inspect` find its lines.
            return rebuild_code, (obj.co_filename, self.dispatch_table[kind](obj))
        if issubclass(kind, type):
            return super().reducer_override(obj)
        if kind is io.TextIOWrapper:
            return _text_file(obj)
        if issubclass(kind, BaseException) and kind.__reduce__ is BaseException.__reduce__:
            return rebuild_exception, (kind, obj.args), obj.__dict__ or None
        if kind in (weakref.WeakKeyDictionary, weakref.WeakValueDictionary):
            return kind, (), None, None, iter(list(obj.items()))
        if self._arrays and (view := _array_view(obj, kind, self._arrays)) is not None:
            return view
        return self._unless_by_name(obj, kind)

    def _function(self, function: types.FunctionType) -> Reduced:
        if function.__globals__ is self._namespace:
            self.source_names.add(function.__code__.co_filename)
            return _function(function, None)
        reduced = super().reducer_override(function)
        if reduced is NotImplemented:
            return reduced
        # An inner function of a library, say a decorator's wrapper: its globals are the library's,
        # not a copy, which also spares us the locks and loggers in them.
        module_name = function.__globals__.get("__name__", "")
        if module_name == "__main__" or module_name in cloudpickle.list_registry_pickle_by_value():
            return reduced
        if getattr(sys.modules.get(module_name), "__dict__", None) is function.__globals__:
            return _function(function, module_name)
        return reduced

    def _unless_by_name(self, obj: Anybodys, kind: type) -> Reduced:
        if kind in self.dispatch_table or not _reduces_itself(kind):
            return NotImplemented
        reduced = obj.__reduce_ex__(PROTOCOL)
        if not isinstance(reduced, str):
            return reduced
        if getattr(obj, "__module__", None) not in ("__main__", self._namespace.get("__name__")):
            return reduced
        if hasattr(obj, "cache_parameters") and hasattr(obj, "__wrapped__"):
            return rebuild_cached, (obj.__wrapped__, obj.cache_parameters())
        if kind is typing.NewType:
            return rebuild_new_type, (obj.__name__, obj.__supertype__, obj.__module__)
        raise pickle.PicklingError(
            f"a {kind.__qualname__} pickles as the name {reduced!r} of this notebook, which a new "
            "kernel does not have"
        )


class LiveNamespace:
    """Stands in the stream for the namespace itself, for a variable that is `globals()`."""

    def __reduce__(self) -> Reduced:
        return rebuild_namespace, ()


class NamespaceUnpickler(pickle.Unpickler):
    """Mutable: the memo of one stream; owned by one thread."""

    def __init__(
        self, file: io.BytesIO, namespace: dict[str, object], buffers: Iterable[bytearray]
    ) -> None:
        super().__init__(file, buffers=buffers)
        self._namespace = namespace

    def find_class(self, module_name: str, global_name: str, /) -> Anybodys:
        # The one place where the stream meets the kernel: nothing in it knows the namespace.
        if module_name == __name__ and global_name == "rebuild_function":
            return self._rebuild_function
        if module_name == __name__ and global_name == "rebuild_namespace":
            return lambda: self._namespace
        return super().find_class(module_name, global_name)

    def _rebuild_function(
        self,
        code: types.CodeType,
        module_name: str | None,
        closure: tuple[types.CellType, ...] | None,
    ) -> types.FunctionType:
        if module_name is None:
            live = self._namespace
        else:
            live = vars(importlib.import_module(module_name))
        return types.FunctionType(code, live, None, None, closure)


def rebuild_code(filename: str, reduced: tuple[Any, ...]) -> types.CodeType:
    make, arguments = reduced
    code: types.CodeType = make(*arguments)
    return code.replace(co_filename=filename)


def rebuild_function(*_arguments: object) -> NoReturn:
    """A name for the stream; `NamespaceUnpickler` puts its own function here."""
    raise pickle.UnpicklingError("A checkpoint is read by nbdurable.batch.checkpoint.restore().")


def rebuild_namespace() -> NoReturn:
    """A name for the stream; `NamespaceUnpickler` puts its own function here."""
    rebuild_function()


def _function(function: types.FunctionType, module_name: str | None) -> Reduced:
    attributes = {
        name: getattr(function, name) for name in _FUNCTION_ATTRIBUTES if hasattr(function, name)
    }
    # From 3.14 on, asking for the annotations runs them, and they may name what is not there.
    late = "__annotate__" if getattr(function, "__annotate__", None) else "__annotations__"
    attributes[late] = getattr(function, late)
    return (
        rebuild_function,
        (function.__code__, module_name, function.__closure__),
        (dict(function.__dict__), attributes),
        None,
        None,
        rebuild_function_state,
    )


def rebuild_function_state(
    function: types.FunctionType, state: tuple[dict[str, object], dict[str, object]]
) -> None:
    own, attributes = state
    function.__dict__.update(own)
    for name, value in attributes.items():
        setattr(function, name, value)


def _cell(cell: types.CellType) -> Reduced:
    # The contents are state, not an argument: a recursive inner function is in its own cell, and
    # the empty cell has to be in the memo before its contents are written.
    try:
        contents = (cell.cell_contents,)
    except ValueError:
        return rebuild_cell, ()
    return rebuild_cell, (), contents, None, None, rebuild_cell_contents


def rebuild_cell() -> types.CellType:
    return types.CellType()


def rebuild_cell_contents(cell: types.CellType, contents: tuple[object]) -> None:
    cell.cell_contents = contents[0]


def _text_file(file: io.TextIOWrapper) -> Reduced:
    if file in (sys.stdin, sys.stdout, sys.stderr):
        # cloudpickle writes the standard streams by name, which is right.
        return NotImplemented
    raise TypeError("cannot pickle '_io.TextIOWrapper' object")


def rebuild_exception(kind: type[BaseException], args: tuple[object, ...]) -> BaseException:
    try:
        return kind(*args)
    # A border: `__init__` is anybody's, and often takes other arguments than it hands on.
    except Exception:  # noqa: BLE001
        return kind.__new__(kind, *args)


def rebuild_cached(function: Callable[..., object], parameters: Mapping[str, Any]) -> object:
    # The cache itself is gone: it may hold what cannot be pickled, and is a cache.
    return functools.lru_cache(**parameters)(function)


def rebuild_new_type(name: str, supertype: Anybodys, module_name: str) -> object:
    new_type = typing.NewType(name, supertype)  # type: ignore[misc]  # The name is from a stream.
    new_type.__module__ = module_name
    return new_type


@functools.cache
def _reduces_itself(kind: type) -> bool:
    """Only a `__reduce__` of its own can answer with a name; a call per object is worth saving."""
    own = {name for base in kind.__mro__ if base is not object for name in vars(base)}
    return not own.isdisjoint(("__reduce__", "__reduce_ex__"))


# --- Views of arrays --------------------------------------------------------------------------


def array_holders(values: Iterable[Anybodys]) -> dict[int, Array]:
    """The variables that are whole arrays, by the identity of the array owning their memory."""
    numpy = sys.modules.get("numpy")
    holders: dict[int, Array] = {}
    if numpy is None:
        return holders
    for value in values:
        if type(value) is not numpy.ndarray or value.dtype.hasobject or not value.size:
            continue
        if value.flags.c_contiguous or value.flags.f_contiguous:
            owner = id(_owner(value))
            if owner not in holders or value.nbytes > holders[owner].nbytes:
                holders[owner] = value
    return holders


def _owner(array: Array) -> Array:
    while type(array.base) is type(array):
        array = array.base
    return array


def _array_view(obj: Anybodys, kind: type, holders: Mapping[int, Array]) -> Reduced:
    if kind is not type(next(iter(holders.values()))) or obj.dtype.hasobject or not obj.size:
        return None
    holder = holders.get(id(_owner(obj)))
    if holder is None or holder is obj:
        return None
    steps = [(size - 1) * stride for size, stride in zip(obj.shape, obj.strides, strict=True)]
    offset = obj.__array_interface__["data"][0] - holder.__array_interface__["data"][0]
    low = offset + sum(step for step in steps if step < 0)
    high = offset + sum(step for step in steps if step > 0) + obj.dtype.itemsize
    if low < 0 or high > holder.nbytes:
        return None
    place = (obj.dtype, obj.shape, obj.strides, offset, bool(obj.flags.writeable))
    return rebuild_array_view, (holder, *place)


def rebuild_array_view(
    holder: Array,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    offset: int,
    writeable: bool,  # noqa: FBT001  # It is called by a stream, which has no keywords.
) -> Array:
    import numpy as np

    # As bytes, because dates have no buffer that `numpy.ndarray` would take.
    whole = holder if holder.flags.c_contiguous else holder.T
    memory = whole.reshape(-1).view(np.uint8)
    view: Array = np.ndarray(shape, dtype, buffer=memory, offset=offset, strides=strides)
    if not writeable:
        view.flags.writeable = False
    return view
