"""One process at a time is at a run, and a lock goes with its process however that ends."""

from __future__ import annotations

import subprocess
import sys

from nbdurable.runs import lock


def test_a_run_is_taken_once_and_another_is_free(tmp_path):
    held = lock.take(tmp_path, "k")
    assert held is not None
    assert lock.take(tmp_path, "k") is None
    other = lock.take(tmp_path, "k2")
    assert other is not None
    lock.let_go(held)
    lock.let_go(other)
    again = lock.take(tmp_path, "k")
    assert again is not None
    lock.let_go(again)


def test_it_is_held_by_the_process_that_inherits_it_until_that_is_gone(tmp_path):
    held = lock.take(tmp_path, "k")
    assert held is not None
    child = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(held,)
    )
    lock.let_go(held)
    assert lock.take(tmp_path, "k") is None
    child.kill()
    child.communicate()
    again = lock.take(tmp_path, "k")
    assert again is not None
    lock.let_go(again)


def test_what_runs_that_are_gone_have_left_is_removed(tmp_path):
    """But not under the hands of a process that is still at one."""
    held = lock.take(tmp_path, "busy")
    assert held is not None
    for key in ("gone", "kept"):
        free = lock.take(tmp_path, key)
        assert free is not None
        lock.let_go(free)
    folder = lock.folder_of(tmp_path)
    (folder / "gone.log").write_text("it said this")
    assert lock.forget_gone(tmp_path, ["kept"]) == 2
    assert sorted(path.name for path in folder.iterdir()) == ["busy.lock", "kept.lock"]
    lock.let_go(held)
