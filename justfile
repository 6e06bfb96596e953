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

# Simulations, and the state machines, for longer than CI runs them: `just sim SEED=7 STEPS=500`.
sim *SETTINGS:
    #!/usr/bin/env python
    import os
    import random
    import subprocess
    import sys

    given = dict(word.split("=", 1) for word in "{{ SETTINGS }}".split())
    seed = given.pop("SEED", str(random.randrange(2**32)))
    steps = given.pop("STEPS", "200")
    if given or not (seed.isdigit() and steps.isdigit()):
        sys.exit("say SEED=<number> and STEPS=<number>")
    print(f"just sim SEED={seed} STEPS={steps}", flush=True)
    simulate = [sys.executable, "-m", "nbdurable.testing", seed]
    machines = [sys.executable, "-m", "pytest", "tests", "-k", "machine", "--timeout=0"]
    for command in (
        # Short storms find most; in long ones things grow old.
        [*simulate, "--seeds", "500"],
        [*simulate, "--seeds", "5", "--steps", steps],
        [*machines, f"--hypothesis-seed={seed}"],
    ):
        profile = {"HYPOTHESIS_PROFILE": "sim", "HYPOTHESIS_STEPS": steps}
        if subprocess.run(command, env={**os.environ, **profile}).returncode:
            sys.exit(1)

# Random programs under load with a kill every few seconds: `just soak 30`.
soak MINUTES="30":
    python tests/soak/soak.py --minutes {{ MINUTES }}

# The tests that drive a real JupyterLab in Chromium.
browser *ARGS:
    python -m pytest -m browser {{ ARGS }}

# Execute the notebooks on a copy.
notebooks:
    python .ci/notebooks.py

# Kill a notebook in every cell and at every boundary; takes some ten minutes.
kills *ARGS:
    python tests/batch/kill_everywhere.py {{ ARGS }}

# The same in the environment that Binder would make.
binder:
    #!/usr/bin/env bash
    set -euo pipefail
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    .ci/binder "$folder"
    PATH="$folder/bin:$PATH" binder/start python .ci/notebooks.py

# Pin what Binder installs: the newest of everything that the notebooks need.
pins:
    #!/usr/bin/env bash
    set -euo pipefail
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    python -m venv "$folder"
    # The command that Binder starts is notebook's, and must be one for this JupyterLab.
    "$folder/bin/python" -m pip install -q '.[demo]' jupyterlab notebook
    head -2 binder/requirements.txt >"$folder/pins"
    "$folder/bin/python" -m pip freeze --exclude nbdurable >>"$folder/pins"
    mv "$folder/pins" binder/requirements.txt

# Each benchmark prints its own numbers; none of them passes or fails.
bench:
    #!/usr/bin/env bash
    set -euo pipefail
    for file in tests/bench/bench_*.py; do
        echo "== $file"
        python "$file"
    done

# Known weaknesses of what is installed: asks PyPI's database, so it needs the network.
audit:
    python -m pip install -q pip-audit
    python -m pip_audit --skip-editable

# What CI runs.
check:
    .ci/run

# Build the wheel and the sdist of a tree that passes.
release: check
    python -m pip install -q build twine
    rm -rf dist
    python -m build
    python -m twine check --strict dist/*
