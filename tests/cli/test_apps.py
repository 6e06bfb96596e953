"""What `--app` names."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import pytest

from nbdurable.cli.apps import load_services
from nbdurable.cli.exits import Refusal
from nbdurable.deploy.endpoint import App

MODULE = """
import nbdurable
from nbdurable import Service, Workflow
one, two = Service("One"), Workflow("Two")
same = one
both = [one, two]
nothing = 3
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    (tmp_path / "app_of_two.py").write_text(MODULE)
    return tmp_path


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ("app_of_two.py", ["One", "Two"]),
        ("app_of_two", ["One", "Two"]),
        ("./app_of_two.py:two", ["Two"]),
        ("app_of_two:both", ["One", "Two"]),
    ],
)
def test_a_file_or_a_module_and_perhaps_a_name_in_it(spec: str, names: list[str]) -> None:
    assert [service.name for service in load_services(spec)] == names


def test_an_app_is_taken_whole(folder: Path) -> None:
    """It says which services belong together, and what their values go through."""
    (folder / "app_whole.py").write_text(f"{MODULE}\napp = nbdurable.app([two])\n")
    app = load_services("app_whole.py")
    assert isinstance(app, App)
    assert [service.name for service in app] == ["Two"]


@pytest.mark.parametrize(
    ("spec", "taught"),
    [
        ("nowhere.py", "no file nowhere.py"),
        ("no_such_module", "no module 'no_such_module'"),
        ("app_of_two:three", "has no 'three'"),
        ("app_of_two:nothing", "is no service"),
        ("json", "defines no Service"),
    ],
)
def test_what_is_not_there_is_said(spec: str, taught: str) -> None:
    with pytest.raises(click.UsageError, match=taught):
        load_services(spec)


def test_an_error_of_the_module_is_shown_from_the_users_line_on(folder: Path) -> None:
    (folder / "app_broken.py").write_text("import app_of_two\n1 / 0\n")
    with pytest.raises(Refusal) as refused:
        load_services("app_broken.py")
    shown = str(refused.value)
    assert "app_broken.py cannot be imported" in shown
    assert 'app_broken.py", line 2' in shown
    assert "ZeroDivisionError" in shown
    assert "importlib" not in shown
    assert "apps.py" not in shown
