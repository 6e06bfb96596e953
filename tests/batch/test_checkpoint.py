"""A notebook's variables in a second kernel.

Most claims are asked of two real processes, because a test inside one process lies: there the
classes, modules and globals of the first kernel are still around.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pickle
import random
import subprocess
import sys
import threading
import types
import weakref
from pathlib import Path

import pytest

from nbdurable.batch import checkpoint
from nbdurable.batch.checkpoint import (
    CheckpointDamagedError,
    Lost,
    LostVariableError,
    Tombstone,
    restore,
    save,
)

ROOT = Path(__file__).parents[2]

# Runs cells in the real `__main__`, as a kernel does, and keeps its own names out of it.
KERNEL = """
import json, linecache, sys
for number, line in enumerate(sys.stdin, start=1):
    kind, source = json.loads(line)
    try:
        if kind == "ask":
            answer = eval(source, main)
        else:
            name = f"<cell {number}>"
            linecache.cache[name] = (len(source), None, source.splitlines(True), name)
            answer = exec(compile(source, name, "exec"), main)
        print(json.dumps([True, answer]), flush=True)
    except Exception as error:
        print(json.dumps([False, f"{type(error).__name__}: {error}"]), flush=True)
"""

NOTEBOOK = """
import functools, io, random, sqlite3, threading, typing
import xml.dom.minidom
from abc import ABC, abstractmethod
from collections import namedtuple
from dataclasses import dataclass, field
from enum import Enum
import numpy as np, pandas as pd

frame = pd.DataFrame({"x": np.arange(50_000.0), "word": ["a", "b"] * 25_000})
same_frame = frame
drawer = {"frame": frame}
samples = np.arange(20_000)
window = samples[10:20]
backwards = samples[::-1]
days = np.arange(20_000).astype("M8[D]")
week = days[:7]
twin_one, twin_two = np.zeros(20_000), np.zeros(20_000)
_private = "mine"

rate = 2
def priced(amount):
    '''What it costs.'''
    return amount * rate
def set_rate(value):
    global rate
    rate = value
def even(n): return True if n == 0 else odd(n - 1)
def odd(n): return False if n == 0 else even(n - 1)
def counter():
    count = 0
    def increase():
        nonlocal count
        count += 1
    def current():
        return count
    return increase, current
increase, current = counter()
def factorials():
    def factorial(n): return 1 if n == 0 else n * factorial(n - 1)
    return factorial
factorial = factorials()
def doubled(function):
    @functools.wraps(function)
    def wrapper(*args): return 2 * function(*args)
    return wrapper
@doubled
def decorated(amount): return amount * rate
@functools.lru_cache(maxsize=64)
def fibonacci(n): return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)
@functools.singledispatch
def kind_of(value): return "something"
@kind_of.register
def _kind_of_int(value: int): return "number"
partial = functools.partial(priced, 10)
functions = {"priced": [priced, lambda amount: amount * rate]}
UserId = typing.NewType("UserId", int)

class Shape(ABC):
    corners = 0
    @abstractmethod
    def area(self): ...
    @classmethod
    def made(cls, *args): return cls(*args)
    @property
    def priced_area(self): return self.area() * rate
class Square(Shape):
    corners = 4
    def __init__(self, side):
        super().__init__()
        self.side = side
    def area(self): return self.side ** 2
square = Square(3)
area_of_square = square.area
@dataclass(frozen=True)
class Rule:
    name: str
    test: object = field(default=lambda amount: amount > rate)
rules = {Rule("more than the rate")}
class Colour(Enum):
    RED = 1
red = Colour.RED
Point = namedtuple("Point", "x y")
point = Point(1, 2)
class Refused(Exception):
    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")
        self.code = code
refusals = [Refused(7, "no")]
everything = globals()

lock = threading.Lock()
generator = (n for n in range(3))
connection = sqlite3.connect(":memory:")
opened = open(__import__("os").devnull)
async def coroutine_function(): ...
coroutine = coroutine_function()
desk = {"lock": lock, "frame": frame}
class Singleton:
    def __reduce__(self): return "singleton"
singleton = Singleton()
random.seed(1); np.random.seed(1)
"""


class Kernel:
    """Mutable: a process with a notebook's namespace; owned by one test or module."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "exec(__import__('sys').argv.pop(), {'main': globals()})",
                KERNEL,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )

    def run(self, cell):
        return self._say("run", cell)

    def ask(self, expression):
        return self._say("ask", expression)

    def save(self, blobs, manifest_bytes_max=0):
        module = "__import__('nbdurable.batch.checkpoint', fromlist=['save'])"
        return self.ask(
            f"__import__('dataclasses').asdict({module}.save("
            f"globals(), __import__('pathlib').Path({str(blobs)!r}), "
            f"cells={{'connection': '5'}}, manifest_bytes_max={manifest_bytes_max}))"
        )

    def restore(self, blobs, digest, manifest=None):
        module = "__import__('nbdurable.batch.checkpoint', fromlist=['save'])"
        return self.ask(
            f"__import__('dataclasses').asdict({module}.restore("
            f"globals(), __import__('pathlib').Path({str(blobs)!r}), {digest!r}, {manifest!r}))"
        )

    def _say(self, kind, source):
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([kind, source]) + "\n")
        self._process.stdin.flush()
        fine, answer = json.loads(self._process.stdout.readline())
        if not fine:
            raise RuntimeError(answer)
        return answer

    def kill(self):
        self._process.kill()
        self._process.communicate()


class Data:
    def __init__(self, buffer):
        self.buffer = buffer


@contextlib.contextmanager
def kernel(folder):
    process = Kernel(folder)
    try:
        yield process
    finally:
        process.kill()


@pytest.fixture(scope="module", params=[0, 1024 * 1024], ids=["in files", "manifest kept"])
def story(tmp_path_factory, request):
    """A notebook run and saved in one kernel, which was killed, and restored in another."""
    folder = tmp_path_factory.mktemp("story")
    with kernel(folder) as first:
        first.run(NOTEBOOK)
        saved = first.save(folder / "blobs", request.param)
        drawn = first.ask("[random.random(), float(np.random.random())]")
    with kernel(folder) as second:
        restored = second.restore(folder / "blobs", saved["digest"], saved["manifest"])
        yield types.SimpleNamespace(
            ask=second.ask, run=second.run, saved=saved, restored=restored, drawn=drawn
        )


# --- What is shared stays shared ---------------------------------------------------------------


def test_two_names_for_one_frame_are_one_frame_after_restore(story):
    """Or a later in-place change would reach one name and not the other."""
    assert story.ask("[same_frame is frame, drawer['frame'] is frame, frame.shape]") == [
        True,
        True,
        [50_000, 2],
    ]


def test_a_view_of_an_array_still_writes_into_the_array(story):
    """NumPy itself pickles a view as a copy; then `window[0] = 1` would silently change nothing."""
    story.run("window[0] = -1")
    assert story.ask("int(samples[10])") == -1
    assert story.ask("int(backwards[-11])") == -1


def test_a_view_of_dates_is_a_view_of_dates(story):
    """Dates have no buffer of their own kind, so they take another way."""
    story.run("week[0] = np.datetime64('2026-11-22')")
    assert story.ask("str(days[0])") == "2026-11-22"


def test_equal_arrays_that_were_two_stay_two_and_writable(story):
    """They share one file, and must not come to share one memory."""
    story.run("twin_one[0] = 1")
    assert story.ask("float(twin_two[0])") == 0.0


def test_a_variable_that_is_the_namespace_is_the_new_namespace(story):
    """A `g = globals()` would otherwise drag the whole kernel along, or fail."""
    assert story.ask("everything is globals()") is True


# --- Functions live in the notebook ------------------------------------------------------------


def test_a_function_sees_what_a_later_cell_assigns_to_its_global(story):
    """The rule of every notebook; a copy of the globals would keep the old rate for ever."""
    story.run("rate = 3")
    assert story.ask("[priced(10), functions['priced'][0](10), functions['priced'][1](10)]") == [
        30,
        30,
        30,
    ]
    assert story.ask("[partial(), decorated(10), square.priced_area]") == [30, 60, 27]
    story.run("rate = 2")


def test_a_function_that_assigns_a_global_assigns_the_notebooks(story):
    """The other direction of the same rule."""
    story.run("set_rate(5)")
    assert story.ask("rate") == 5
    story.run("set_rate(2)")


def test_mutually_recursive_functions_call_each_other(story):
    """And redefining one is seen by the other."""
    assert story.ask("even(10)") is True
    story.run("original, odd = odd, lambda n: 'redefined'")
    assert story.ask("even(1)") == "redefined"
    story.run("odd = original")


def test_two_closures_keep_sharing_their_nonlocal(story):
    """Plain cloudpickle gives each function its own copy of the cell."""
    story.run("increase(); increase()")
    assert story.ask("current()") == 2


def test_a_closure_that_calls_itself_is_rebuilt(story):
    """It sits in its own cell: the pickle has a cycle."""
    assert story.ask("factorial(5)") == 120


def test_a_cached_function_is_rebuilt_not_looked_up_by_name(story):
    """Pickle writes it as "`fibonacci` in `__main__`", which a new kernel does not have."""
    assert story.ask("[fibonacci(30), fibonacci.cache_parameters()['maxsize']]") == [832040, 64]


def test_a_single_dispatch_function_keeps_its_registry(story):
    """Its wrapper belongs to functools, and its cache is a weak dictionary."""
    assert story.ask("[kind_of(1), kind_of('')]") == ["number", "something"]


def test_a_restored_function_has_its_name_its_docstring_and_its_source(story):
    """A traceback through it shows lines, though this kernel never compiled the cell."""
    assert story.ask("[priced.__name__, priced.__doc__]") == ["priced", "What it costs."]
    assert "return amount * rate" in story.ask("__import__('inspect').getsource(priced)")


# --- Classes -----------------------------------------------------------------------------------


def test_an_instance_is_still_an_instance_of_its_class(story):
    """Class and instance travel in one pickle, so there is one class."""
    assert (
        story.ask("[isinstance(square, Square), isinstance(square, Shape), type(square) is Square]")
        == [True] * 3
    )
    assert story.ask(
        "[square.area(), area_of_square(), Square.made(2).area(), Square.corners]"
    ) == [9, 9, 4, 4]


def test_dataclasses_enums_named_tuples_and_new_types_work_on(story):
    """Each of them builds classes or functions in its own way."""
    assert story.ask("[rule.test(3) for rule in rules]") == [True]
    assert story.ask("Rule('more than the rate', next(iter(rules)).test) in rules") is True
    assert story.ask("[red is Colour.RED, Colour(1) is red]") == [True, True]
    assert story.ask("[point.x + point.y, isinstance(point, Point), UserId(4)]") == [3, True, 4]


def test_an_exception_with_another_signature_comes_back(story):
    """Pickle calls it with its `args`, fails, and would take the whole checkpoint with it."""
    assert story.ask("[type(refusals[0]) is Refused, str(refusals[0]), refusals[0].code]") == [
        True,
        "7: no",
        7,
    ]


# --- What cannot be saved ----------------------------------------------------------------------


def test_what_cannot_be_pickled_is_a_tombstone_and_the_rest_survives(story):
    """One lock must not cost a frame; and a container of a lock is lost as a whole."""
    expected = {"lock", "generator", "connection", "opened", "coroutine", "desk", "singleton"}
    assert expected == {lost["name"] for lost in story.saved["tombstones"]}
    assert story.saved["tombstones"] == story.restored["tombstones"]
    assert story.ask("[_private, frame.x.sum()]") == ["mine", 1249975000.0]


def test_a_touched_tombstone_says_what_it_was_and_what_to_do(story):
    """The sentence is the product: the reader has a notebook in front of them."""
    with pytest.raises(RuntimeError) as caught:
        story.ask("connection.execute('select 1')")
    assert str(caught.value) == (
        "LostVariableError: connection (sqlite3.Connection, from cell 5) could not be saved: "
        "cannot pickle 'sqlite3.Connection' object. Re-create it in a cell tagged `setup`."
    )
    assert story.ask("repr(connection)") == (
        "<lost: connection (sqlite3.Connection, from cell 5) could not be saved>"
    )


def test_an_object_pickled_by_its_name_in_the_notebook_is_refused_when_saving(story):
    """Found out when restoring, it would be too late for everything else."""
    (lost,) = [lost for lost in story.saved["tombstones"] if lost["name"] == "singleton"]
    assert "the name 'singleton' of this notebook" in lost["reason"]


@pytest.mark.parametrize(
    "touch",
    [
        lambda it: it.anything,
        lambda it: it(),
        list,
        len,
        bool,
        lambda it: it + 1,
        lambda it: 1 + it,
        lambda it: -it,
        lambda it: it == 1,
        lambda it: it < 1,
        lambda it: it[0],
        lambda it: 0 in it,
        lambda it: it.__enter__(),
        hash,
        str,
        lambda it: f"table {it}",
        lambda it: setattr(it, "x", 1),
        os.fspath,
        lambda it: isinstance(1, it),
        lambda it: it.__array_interface__,
    ],
)
def test_every_touch_of_a_tombstone_raises(touch):
    """A touch that goes unnoticed computes something wrong."""
    with pytest.raises(LostVariableError, match="could not be saved"):
        touch(Tombstone(Lost("conn", "sqlite3.Connection", "cannot pickle it")))


def test_a_tombstone_can_be_displayed_and_listed():
    """`%whos`, completion and the last line of a cell look at everything."""
    tombstone = Tombstone(Lost("conn", "sqlite3.Connection", "cannot pickle it"))
    assert repr([tombstone]) == "[<lost: conn (sqlite3.Connection) could not be saved>]"
    assert "__add__" in dir(tombstone)
    assert not isinstance(tombstone, str)


def test_a_tombstone_stays_one_through_a_second_checkpoint(tmp_path):
    """With its first reason, alone and inside a list."""
    first: dict[str, object] = {"lock": threading.Lock(), "number": 1}
    second: dict[str, object] = {}
    restore(second, tmp_path, save(first, tmp_path).digest)
    second["held"] = [second["lock"]]
    third: dict[str, object] = {}
    restored = restore(third, tmp_path, save(second, tmp_path).digest)
    assert restored.tombstones == (
        Lost("lock", "_thread.lock", "cannot pickle '_thread.lock' object"),
    )
    assert repr(third["lock"]) == repr(third["held"][0])


def test_a_tombstone_does_not_replace_what_a_setup_cell_made(tmp_path):
    """The runner may run `setup` cells before it restores."""
    digest = save({"lock": threading.Lock()}, tmp_path).digest
    namespace: dict[str, object] = {"lock": "made again"}
    assert restore(namespace, tmp_path, digest).tombstones == ()
    assert namespace == {"lock": "made again"}


def test_many_lost_names_around_one_big_list_are_all_found(tmp_path, monkeypatch):
    """The search for them is bounded, and goes on when the bound is reached."""
    monkeypatch.setattr("nbdurable.batch.namespace_pickle.PROBE_BYTES_MAX", 100_000)
    shared = [str(n) for n in range(20_000)]
    namespace: dict[str, object] = {"shared": shared}
    namespace |= {f"lost_{n}": [shared, threading.Lock()] for n in range(5)}
    namespace |= {f"kept_{n}": [shared] for n in range(5)}
    saved = save(namespace, tmp_path)
    assert [f"lost_{n}" for n in range(5)] == [lost.name for lost in saved.tombstones]
    assert saved.variable_count == 6


# --- Bytes -------------------------------------------------------------------------------------


def test_an_unchanged_array_costs_no_bytes_the_second_time(tmp_path):
    """A checkpoint follows every cell; 5 MB for each would fill the disk."""
    numpy = importlib.import_module("numpy")
    namespace: dict[str, object] = {"array": numpy.random.default_rng(1).random(655_360)}
    first = save(namespace, tmp_path)
    namespace["number"] = 1
    second = save(namespace, tmp_path)
    assert first.bytes_written == first.bytes_total > 5_000_000
    assert second.bytes_written < 5_000
    assert second.bytes_total > 5_000_000


def test_unchanged_text_costs_no_bytes_when_a_later_variable_is_new(tmp_path):
    """Strings are inside the stream, so the stream is cut between variables."""
    namespace: dict[str, object] = {"words": [f"word {n}" for n in range(50_000)], "n": 1}
    save(namespace, tmp_path)
    namespace |= {"n": 2, "more": ["new"]}
    assert save(namespace, tmp_path).bytes_written < 5_000


def test_the_same_namespace_saved_twice_writes_nothing(tmp_path):
    """Equal content has an equal name, down to the manifest."""
    namespace: dict[str, object] = {"number": 1, "random": random}
    first = save(namespace, tmp_path)
    second = save(namespace, tmp_path)
    assert first.digest == second.digest
    assert second.bytes_written == 0


@pytest.mark.parametrize("others", [{}, {"lock": threading.Lock()}])
def test_a_save_keeps_nothing_of_the_users_alive(tmp_path, others):
    """A pickler in a cycle held every value and buffer until the collector came, 200 ms later."""
    content = bytearray(200_000)
    data = Data(pickle.PickleBuffer(content))
    gone = weakref.ref(data)
    gc.disable()
    try:
        save({"data": data, **others}, tmp_path)
        data.buffer.release()
        del data
        assert gone() is None
        content.append(1)
    finally:
        gc.enable()


def test_files_are_for_this_user_only_and_no_temporary_is_left(tmp_path):
    """Pickles are code, and hold the user's data."""
    blobs = tmp_path / "blobs"
    save({"data": b"x" * 100_000}, blobs)
    assert blobs.stat().st_mode & 0o777 == 0o700
    assert {0o600} == {path.stat().st_mode & 0o777 for path in blobs.iterdir()}
    assert not [path for path in blobs.iterdir() if path.name.startswith(".")]


# --- Names, modules, surroundings ----------------------------------------------------------------


def test_ipythons_own_names_are_left_out_and_the_users_private_ones_kept(tmp_path):
    """Histories hold every output; `_private` is the user's."""
    of_ipython = "_ __ ___ _i _ii _iii _i3 _3 _dh _exit_code get_ipython __name__ __builtins__"
    history: list[str] = []
    outputs: dict[int, object] = {}
    namespace: dict[str, object] = dict.fromkeys(of_ipython.split(), 1)
    namespace |= {"_ih": history, "In": history, "_oh": outputs, "Out": outputs}
    namespace |= {"open": open, "exit": exit, "secret": 1}
    namespace |= {"_private": 1, "_index": 2, "quit": "the user's"}
    restored: dict[str, object] = {}
    restore(restored, tmp_path, save(namespace, tmp_path, skip={"secret"}).digest)
    assert restored == {"_private": 1, "_index": 2, "quit": "the user's"}


def test_modules_are_imported_again_with_the_parts_that_were_loaded(story):
    """`import xml.dom.minidom` binds `xml`; without its parts `xml.dom` would be missing."""
    assert story.ask("[np.__name__, xml.dom.minidom.__name__]") == ["numpy", "xml.dom.minidom"]


def test_a_module_that_cannot_be_imported_becomes_a_tombstone(tmp_path, monkeypatch):
    """The other variables are still good; only what uses the module fails, and says why."""
    (tmp_path / "passing_by.py").write_text("answer = 42\n")
    monkeypatch.syspath_prepend(tmp_path)
    namespace: dict[str, object] = {"p": __import__("passing_by"), "number": 1}
    digest = save(namespace, tmp_path / "blobs").digest
    (tmp_path / "passing_by.py").unlink()
    monkeypatch.delitem(sys.modules, "passing_by")
    restored: dict[str, object] = {}
    restore(restored, tmp_path / "blobs", digest)
    assert restored["number"] == 1
    with pytest.raises(
        LostVariableError, match=r"p \(module\) could not be imported again: ModuleNo"
    ):
        _ = restored["p"].answer


def test_random_generators_continue_their_sequence(story):
    """Drawn in the first kernel after it was saved, and drawn again in the second."""
    assert story.drawn == story.ask("[random.random(), float(np.random.random())]")


def test_torch_is_kept_when_it_was_imported(tmp_path, monkeypatch):
    """A stand-in, because torch weighs 800 MB; it has the three calls we make."""

    class State(list):
        def tolist(self):
            return list(self)

    torch = types.ModuleType("torch")
    torch.state = State([1, 2, 250])
    torch.uint8 = "uint8"
    torch.cuda = types.SimpleNamespace(is_initialized=lambda: False)
    torch.get_rng_state = lambda: torch.state
    torch.set_rng_state = lambda state: setattr(torch, "state", state)
    torch.tensor = lambda values, dtype: State(values)
    monkeypatch.setitem(sys.modules, "torch", torch)
    digest = save({}, tmp_path).digest
    torch.state = State([0, 0, 0])
    assert restore({}, tmp_path, digest).notes == ()
    assert torch.state == [1, 2, 250]


def test_a_generator_that_cannot_be_set_is_said_and_not_raised(tmp_path, monkeypatch):
    """A random sequence is not worth a notebook."""
    digest = save({"number": 1}, tmp_path).digest

    def refuse(_state):
        raise ValueError("state of another version")

    monkeypatch.setattr(random, "setstate", refuse)
    namespace: dict[str, object] = {}
    (note,) = restore(namespace, tmp_path, digest).notes
    assert note == (
        "The generator of random does not continue where it was: "
        "ValueError: state of another version."
    )
    assert namespace == {"number": 1}


def test_the_working_directory_and_added_paths_come_back(tmp_path, monkeypatch):
    """Notebooks begin with `os.chdir` and `sys.path.insert`, and import their own files."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.setattr(sys, "path", ["/put/in/front", *sys.path, "/put/at/the/end"])
    monkeypatch.chdir(work)
    digest = save({}, tmp_path / "blobs").digest
    monkeypatch.setattr(sys, "path", sys.path[1:-1])
    monkeypatch.chdir(tmp_path)
    assert restore({}, tmp_path / "blobs", digest).notes == ()
    assert work == Path.cwd()
    assert (sys.path[0], sys.path[-1]) == ("/put/in/front", "/put/at/the/end")


def test_a_missing_working_directory_is_said_and_not_raised(tmp_path, monkeypatch):
    """The data are good all the same."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    digest = save({}, tmp_path / "blobs").digest
    monkeypatch.chdir(tmp_path)
    work.rmdir()
    (note,) = restore({}, tmp_path / "blobs", digest).notes
    assert note == (
        f"The working directory {work} was not entered (No such file or directory): now {tmp_path}."
    )


# --- Damage ------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    namespace: dict[str, object] = {"text": ["word"] * 10, "array": bytearray(b"x" * 200_000)}
    namespace["array"] = pickle.PickleBuffer(namespace["array"])
    return save(namespace, tmp_path).digest


def blobs_in(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


@pytest.mark.parametrize("which", range(4))
def test_a_missing_blob_is_named_and_nothing_is_restored(tmp_path, saved, which):
    """Every file is read before anything is touched."""
    path = blobs_in(tmp_path)[which]
    path.unlink()
    namespace: dict[str, object] = {"mine": 1}
    with pytest.raises(CheckpointDamagedError) as caught:
        restore(namespace, tmp_path, saved)
    assert str(caught.value) == (
        f"The checkpoint file {path} is missing. Nothing was restored. Run without the "
        "checkpoint: re-run the notebook from the start, for instance under another output path."
    )
    assert namespace == {"mine": 1}


@pytest.mark.parametrize("which", range(4))
@pytest.mark.parametrize("damage", ["flipped", "cut"])
def test_a_damaged_blob_is_named_and_nothing_is_restored(tmp_path, saved, which, damage):
    """A wrong byte in a frame is worse than no frame."""
    path = blobs_in(tmp_path)[which]
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    else:
        del content[-1]
    path.write_bytes(content)
    namespace: dict[str, object] = {"mine": 1}
    with pytest.raises(CheckpointDamagedError, match=f"{path.name} is damaged"):
        restore(namespace, tmp_path, saved)
    assert namespace == {"mine": 1}


def test_a_blob_cut_short_is_written_again_by_the_next_save(tmp_path):
    """The name alone does not prove the file."""
    namespace: dict[str, object] = {"text": "word"}
    digest = save(namespace, tmp_path).digest
    for path in blobs_in(tmp_path):
        path.write_bytes(path.read_bytes()[:-1])
    assert save(namespace, tmp_path).digest == digest
    restored: dict[str, object] = {}
    restore(restored, tmp_path, digest)
    assert restored == namespace


def test_a_digest_that_is_a_path_is_refused(tmp_path):
    """A name from a journal must not lead out of the folder."""
    with pytest.raises(CheckpointDamagedError, match="no name of ours"):
        restore({}, tmp_path, "../../etc/passwd")


def test_a_folder_others_can_write_to_is_refused(tmp_path, saved):
    """Whoever writes there runs code in this kernel."""
    tmp_path.chmod(0o777)
    with pytest.raises(PermissionError, match="chmod 700"):
        restore({}, tmp_path, saved)


def test_another_python_is_told_before_a_pickle_is_loaded(tmp_path, monkeypatch):
    """Code objects differ between versions, and may crash rather than raise."""
    digest = save({"number": 1}, tmp_path).digest
    monkeypatch.setattr(checkpoint, "_python", lambda: "3.99")
    with pytest.raises(CheckpointDamagedError, match=r"saved by Python 3\.1\d and this kernel is"):
        restore({}, tmp_path, digest)


def test_a_variable_that_cannot_be_rebuilt_is_named_and_nothing_is_restored(tmp_path):
    """A library changed between two kernels; half a namespace would compute half a result."""
    folder = tmp_path / "lib"
    folder.mkdir()
    (folder / "shrinking.py").write_text("class Model: ...\n")
    with kernel(folder) as first:
        first.run("import shrinking\nnumber = 1\nmodel = shrinking.Model()\nlater = 2")
        digest = first.save(tmp_path / "blobs")["digest"]
    (folder / "shrinking.py").write_text("pass_ = 1\n")
    (tmp_path / "elsewhere").mkdir()
    with kernel(folder) as second:
        second.run(f"__import__('os').chdir({str(tmp_path / 'elsewhere')!r})\nnumber = 'mine'")
        with pytest.raises(RuntimeError, match="CheckpointDamagedError: The variable `model`"):
            second.restore(tmp_path / "blobs", digest)
        assert second.ask("number") == "mine"
        assert second.ask("'later' in globals() or 'shrinking' in globals()") is False
        assert second.ask("__import__('os').getcwd()") == str(tmp_path / "elsewhere")


def test_importing_checkpoint_needs_neither_engine_nor_pickle_libraries():
    """It is imported in every kernel; what it needs is loaded by the first save or restore."""
    heavy = ["cloudpickle", "xxhash", "numpy", "duckdb", "IPython", "nbdurable.engine"]
    source = (
        f"import sys, nbdurable.batch.checkpoint; print([m for m in {heavy} if m in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", source],
        capture_output=True,
        check=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert answer.stdout == "[]\n"
