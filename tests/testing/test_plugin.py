"""The plugin in a project of its own: a fresh pytest, with nothing of this suite's settings."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from importlib.metadata import entry_points
from pathlib import Path

# Where the package is on the path and not installed, pytest has to be told.
INSTALLED = bool(entry_points(group="pytest11", name="nbdurable"))
PLUGIN = () if INSTALLED else ("-p", "nbdurable.testing.plugin")

SERVICE = """
import asyncio
from datetime import timedelta
from nbdurable import Context, Service

service = Service("S")
attempts = []

@service.handler()
async def doze(ctx: Context) -> str:
    attempts.append(1)
    await ctx.sleep(timedelta(days=30))
    return await ctx.run_typed("step", lambda: "rested")
"""


def pytest_says(project: Path, test: str, *arguments: str) -> str:
    (project / "test_it.py").write_text(SERVICE + textwrap.dedent(test))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *PLUGIN, *arguments],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def test_plain_and_async_tests_need_no_other_plugin(tmp_path: Path):
    said = pytest_says(
        tmp_path,
        """
        def test_plain(durable_env):
            durable_env.serve(service)
            assert durable_env.run(durable_env.client.service_call(doze, None)) == "rested"

        async def test_async(durable_env, tmp_path):
            durable_env.serve(service)
            assert tmp_path.is_dir()
            assert await durable_env.client.service_call(doze, None) == "rested"

        class TestMethods:
            async def test_of_a_class(self, durable_env):
                durable_env.serve(service)
                assert await durable_env.client.service_call(doze, None) == "rested"
        """,
        "-p",
        "no:asyncio",
    )
    assert "3 passed" in said, said


def test_a_failing_async_test_fails(tmp_path: Path):
    """An async test that nobody awaits would pass, whatever it says."""
    said = pytest_says(
        tmp_path,
        """
        async def test_async(durable_env):
            durable_env.serve(service)
            assert await durable_env.client.service_call(doze, None) == "tired"
        """,
    )
    assert "1 failed" in said, said
    assert "'rested' == 'tired'" in said


def test_one_option_replays_everything(tmp_path: Path):
    said = pytest_says(
        tmp_path,
        """
        def test_replayed(durable_env):
            durable_env.serve(service)
            durable_env.run(durable_env.client.service_call(doze, None))
            assert len(attempts) == 3
        """,
        "--durable-always-replay",
    )
    assert "1 passed" in said, said


def test_a_mark_gives_options(tmp_path: Path):
    said = pytest_says(
        tmp_path,
        """
        import pytest

        @pytest.mark.durable_env(services=[service], always_replay=True)
        def test_marked(durable_env):
            durable_env.run(durable_env.client.service_call(doze, None))
            assert len(attempts) == 3
        """,
        "--strict-markers",
    )
    assert "1 passed" in said, said


def test_the_entry_point_names_the_plugin():
    """Read from the project's own file: an old installation would say what was."""
    declared = Path(__file__).parents[2] / "pyproject.toml"
    assert '[project.entry-points.pytest11]\nnbdurable = "nbdurable.testing.plugin"' in (
        declared.read_text()
    )
    installed = [point for point in entry_points(group="pytest11") if point.name == "nbdurable"]
    assert all(point.value == "nbdurable.testing.plugin" for point in installed)
