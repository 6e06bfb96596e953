"""What is installed with nbdurable: bounded, and named in SECURITY.md; nothing else is imported.

Known weaknesses are in databases that must be asked on the day: `just audit`.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NEEDED = [Requirement(line) for line in PROJECT["dependencies"]]
EXTRAS = [
    Requirement(line) for lines in PROJECT["optional-dependencies"].values() for line in lines
]
# Imported where the user's own code has brought it along, and nowhere else.
BROUGHT_BY_USERS = {"jupyter-server", "pandas", "polars", "pytest"}


@pytest.mark.parametrize("needed", NEEDED, ids=lambda needed: needed.name)
def test_what_everybody_installs_is_named_with_who_keeps_it(needed: Requirement):
    """So that nobody adds one without having looked."""
    _, _, section = (ROOT / "SECURITY.md").read_text().partition("## Dependencies")
    assert f"`{needed.name}`" in section


@pytest.mark.parametrize("needed", [*NEEDED, *EXTRAS], ids=str)
def test_every_dependency_comes_from_an_index_and_is_no_older_than_what_we_rely_on(
    needed: Requirement,
):
    if needed.name == PROJECT["name"]:
        return
    assert needed.url is None
    assert {bound.operator for bound in needed.specifier} & {">=", "=="}, "it has no lower bound"
    assert needed.specifier.contains(metadata.version(needed.name), prereleases=True)


def test_nothing_is_imported_that_no_dependency_has_brought():
    """What comes with ipykernel or papermill is theirs to bound, and may be imported."""
    declared = {canonicalize_name(one.name) for one in [*NEEDED, *EXTRAS]}
    theirs = {
        canonicalize_name(Requirement(line).name)
        for one in [*NEEDED, *EXTRAS]
        for line in metadata.requires(one.name) or ()
        if "extra ==" not in line
    }
    known = declared | theirs | BROUGHT_BY_USERS
    packages = metadata.packages_distributions()
    unknown = {
        name: packages.get(name)
        for name in imported_by(ROOT / "nbdurable")
        if not known & {canonicalize_name(one) for one in packages.get(name, ())}
    }
    assert unknown == {}


def imported_by(package: Path) -> set[str]:
    names: set[str] = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module)
    return {name.partition(".")[0] for name in names} - {package.name, *sys.stdlib_module_names}
