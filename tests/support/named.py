"""Tests that prose names, and tests that there are."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent.parent
_NODE = re.compile(r"`([\w/]+\.py)::(\w+)`")


def named_in(text: str) -> set[tuple[str, str]]:
    """As `path/under/tests.py::test_name`, in backticks."""
    return set(_NODE.findall(text))


def collected(files: set[str]) -> set[tuple[str, str]]:
    """What pytest finds in these files, by path and name, whatever the parameters."""
    listing = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *files],
        cwd=TESTS,
        capture_output=True,
        text=True,
        check=False,
    )
    ids = [line.partition("[")[0].split("::") for line in listing.stdout.splitlines()]
    return {(node[0].removeprefix("tests/"), node[-1]) for node in ids if len(node) > 1}


def missing_from(text: str) -> set[tuple[str, str]]:
    """Those that are named and are not there."""
    named = named_in(text)
    files = {path for path, _ in named}
    there = {path for path in files if (TESTS / path).exists()}
    return {(path, name) for path, name in named if path not in there} | (
        {(path, name) for path, name in named if path in there} - collected(there)
    )
