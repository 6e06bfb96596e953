"""Checkpoints that are short are kept by whoever asked for them, and cost no file."""

from __future__ import annotations

import base64
import json
import os
import pickle
import stat

import pytest

from nbdurable.batch.checkpoint import CheckpointDamagedError, restore, save


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_short_manifest_is_returned_and_no_file_is_written_but_for_what_is_long(tmp_path):
    """A file costs an fsync, three of which took longer than a trivial cell."""
    namespace: dict[str, object] = {"array": pickle.PickleBuffer(bytearray(b"x" * 200_000))}
    first = save(namespace, tmp_path, manifest_bytes_max=4096)
    files = files_in(tmp_path)
    namespace |= {"number": 1, "words": ["some", "words"]}
    second = save(namespace, tmp_path, manifest_bytes_max=4096, durable=first.files)
    assert second.bytes_written == 0
    assert second.bytes_total > first.bytes_total > 200_000
    assert files_in(tmp_path) == files
    restored: dict[str, object] = {}
    restore(restored, tmp_path, second.digest, second.manifest)
    assert (restored["number"], restored["words"]) == (1, ["some", "words"])
    with pytest.raises(CheckpointDamagedError, match=f"{second.digest} is missing"):
        restore({}, tmp_path, second.digest)
    with pytest.raises(CheckpointDamagedError, match="is missing"):
        restore({}, tmp_path, second.digest, str(second.manifest).replace("words", "wordy"))


@pytest.mark.parametrize("many", [["word"] * 1500, [f"word {n}" for n in range(400)]])
def test_what_is_too_long_for_a_manifest_is_a_file(tmp_path, many):
    """A short pickle of a long manifest, and a pickle that is longer itself."""
    namespace: dict[str, object] = {"many": many}
    if many[0] == "word":
        namespace = {f"word_{n}": 1 for n in range(500)}
    saved = save(namespace, tmp_path, manifest_bytes_max=4096)
    restored: dict[str, object] = {}
    restore(restored, tmp_path, saved.digest, saved.manifest)
    assert restored == namespace
    assert sorted(saved.files) == files_in(tmp_path)


def test_names_are_made_durable_unless_this_process_has_done_so(tmp_path, monkeypatch):
    """Of a file that is there, whoever wrote it may have been killed before its name was safe."""
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_mode))
    namespace: dict[str, object] = {"number": 1}

    def folders_synced(durable=()) -> int:
        synced.clear()
        save(namespace, tmp_path, durable=durable)
        return sum(map(stat.S_ISDIR, synced))

    first = save(namespace, tmp_path)
    assert folders_synced() == 1
    assert folders_synced(first.files) == 0
    (tmp_path / files_in(tmp_path)[0]).unlink()
    assert folders_synced(first.files) == 1


def test_what_is_not_to_be_written_is_in_no_manifest(tmp_path):
    """There it would be spelled in base64, and a search for it would find nothing."""

    def refuse(content: bytes | memoryview) -> None:
        if b"hunter2" in bytes(content):
            raise ValueError("holds a secret")

    namespace: dict[str, object] = {"token": "hunter2", "length": 7}
    saved = save(namespace, tmp_path, refuse=refuse, manifest_bytes_max=4096)
    assert [lost.name for lost in saved.tombstones] == ["token"]
    manifest = json.loads(str(saved.manifest))
    assert "hunter2" not in str(saved.manifest)
    assert not [part for part in manifest["held"] if b"hunter2" in base64.b64decode(part)]
