"""The package as a whole: what importing it costs, and that its public names are what it says."""

from __future__ import annotations

import builtins
import subprocess
import sys

import pytest

import nbdurable

HEAVY = ("duckdb", "IPython", "papermill", "nbformat", "ipywidgets", "asyncio", "msgspec")


def modules_after(code: str) -> set[str]:
    """The modules of a fresh interpreter after it has run this code."""
    shown = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"],
        check=True,
        capture_output=True,
        text=True,
    )
    return set(shown.stdout.split())


def test_importing_nbdurable_imports_nothing_heavy() -> None:
    """A script pays for duckdb when it opens a journal, not when it imports us."""
    assert set() == modules_after("import nbdurable") & set(HEAVY)


def test_the_papermill_engine_can_be_loaded_without_the_engine() -> None:
    """Papermill imports every registered engine, whichever one is used."""
    loaded = modules_after("import nbdurable.batch.engine")
    assert set() == loaded & {"duckdb", "IPython", "nbdurable.engine.loop"}


def test_a_client_of_another_machine_is_had_without_the_engine() -> None:
    """What calls a server needs none, and would wait twice as long for its first line."""
    loaded = modules_after("import nbdurable; nbdurable.connect")
    assert set() == loaded & {"duckdb", "nbdurable.client.engine"}


@pytest.mark.parametrize("name", nbdurable.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(nbdurable, name) is not None


def test_public_names_are_sorted_and_unique() -> None:
    """So that a reader finds one, and a merge cannot add it twice."""
    assert sorted(set(nbdurable.__all__)) == nbdurable.__all__


def test_importing_all_names_hides_nothing_of_pythons() -> None:
    """Cells begin with `from nbdurable import *`; `open` and `logging` were ours from then on."""
    hidden = {*dir(builtins), *sys.stdlib_module_names} & set(nbdurable.__all__)
    # A module that few know, and the name that handlers of the official SDK import.
    assert hidden == {"select"}
    assert {"open", "logging"} <= set(dir(nbdurable))
    assert nbdurable.open.__module__.startswith("nbdurable.")


def test_an_unknown_name_is_refused_as_python_does() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nope'"):
        _ = nbdurable.nope
