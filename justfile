# For convenience; neither the README nor `.ci/run` needs it.

export PIP_DISABLE_PIP_VERSION_CHECK := "1"

[private]
default:
    @just --list --unsorted

# Install the package and everything the recipes below need.
setup:
    python -m pip install -e '.[dev]'

# Format, and fix what can be fixed safely.
fmt:
    ruff format .
    ruff check --fix .

# ruff, mypy, import-linter.
lint:
    ruff format --check .
    ruff check .
    mypy --strict nbdurable
    lint-imports

# All tests, or those named: `just test tests/core -k cancel`.
test *ARGS:
    python -m pytest {{ ARGS }}

# The state machines for longer than CI runs them: `just sim SEED=7 STEPS=500`.
sim *SETTINGS:
    #!/usr/bin/env python
    import random
    import sys

    import pytest
    from hypothesis import settings

    given = dict(word.split("=", 1) for word in "{{ SETTINGS }}".split())
    seed = given.pop("SEED", str(random.randrange(2**32)))
    steps = int(given.pop("STEPS", "200"))
    if given:
        sys.exit(f"unknown: {', '.join(given)}; say SEED=<number> and STEPS=<number>")
    print(f"just sim SEED={seed} STEPS={steps}")
    settings.register_profile("sim", deadline=None, max_examples=500, stateful_step_count=steps)
    sys.exit(pytest.main([
        "tests",
        "-k", "state_machine or machine or simulation",
        "--hypothesis-profile=sim",
        f"--hypothesis-seed={seed}",
        "--timeout=0",
    ]))

# The tests that drive a real JupyterLab in Chromium.
browser *ARGS:
    python -m pytest -m browser {{ ARGS }}

# Execute the notebooks on a copy.
notebooks:
    python .ci/notebooks.py

# Each benchmark prints its own numbers; none of them passes or fails.
bench:
    #!/usr/bin/env bash
    set -euo pipefail
    for file in tests/bench/bench_*.py; do
        echo "== $file"
        python "$file"
    done

# What CI runs.
check:
    .ci/run

# Build the wheel and the sdist of a tree that passes.
release: check
    python -m pip install -q build twine
    rm -rf dist
    python -m build
    python -m twine check --strict dist/*
