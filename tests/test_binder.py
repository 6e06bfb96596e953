"""What Binder would make of this repository: the packages asked for, and a page that is there."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
BINDER = ROOT / "binder"


def test_every_dependency_is_pinned_within_its_bounds():
    """Nothing else is installed, so what is not pinned is missing in the image."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    demo = project["optional-dependencies"]["demo"]
    asked = [*project["dependencies"], *demo, "jupyterlab", "notebook"]
    pins = pinned()
    unmet = [one for one in map(Requirement, asked) if not is_met(one, pins)]
    assert unmet == [], "run `just pins`"


def test_the_page_it_opens_at_is_there():
    """That of the badge, and that of a server without one."""
    said = [
        *re.findall(r"urlpath=lab/tree/([^)]*)", (ROOT / "README.md").read_text()),
        *re.findall(r"/lab/tree/([^\"]*)", (BINDER / "postBuild").read_text()),
    ]
    assert len(said) == 2
    assert all((ROOT / path).is_file() for path in said), said


def test_what_is_started_is_what_binder_asks_for():
    """With its words and its exit code, or there is no server, or one that never ends."""
    words = ["sh", "-c", 'echo "$0 $1"; exit 7', "a  b", "c"]
    started = subprocess.run(
        [BINDER / "start", *words], capture_output=True, text=True, check=False, timeout=60
    )
    assert (started.stdout, started.stderr, started.returncode) == ("a  b c\n", "", 7)


def pinned() -> dict[str, str]:
    """Versions by canonical name; a line that pins nothing is an error here."""
    lines = (BINDER / "requirements.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pins}


def is_met(asked: Requirement, pins: dict[str, str]) -> bool:
    version = pins.get(canonicalize_name(asked.name))
    return version is not None and asked.specifier.contains(version)
