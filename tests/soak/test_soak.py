"""The soak of `soak.py`, as short as a test may be; `just soak MINUTES=30` is the real one."""

from __future__ import annotations

from pathlib import Path

import pytest
from soak import soak

# With the calm at its end this takes two minutes.
STORM_S = 105.0
SEED = 20261126


@pytest.mark.kill
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_random_programs_survive_kills_and_end_as_their_model_says(tmp_path: Path):
    report = soak(tmp_path, SEED, STORM_S)
    print(report)
    assert report.kills >= 2
    assert report.programs > 20
