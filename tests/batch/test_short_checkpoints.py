"""Checkpoints that are short are kept by whoever asked for them, and cost no file."""

from __future__ import annotations

import base64
import json
import os
import pickle
import stat

import nbformat
import pytest

from nbdurable.batch.blobs import BlobFolder
from nbdurable.batch.checkpoint import CheckpointDamagedError, restore, save
from nbdurable.batch.client import DurableClient
from nbdurable.batch.manager import TrueManager
from nbdurable.batch.workflow import Restore


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


def test_what_an_older_nbdurable_cannot_restore_has_a_format_of_its_own(tmp_path):
    """It shall say that it is too old, and not that a file is missing."""
    namespace: dict[str, object] = {"number": 1}
    kept = str(save(namespace, tmp_path, manifest_bytes_max=4096).manifest)
    filed = (tmp_path / save(namespace, tmp_path).digest).read_text()
    # With no part in it: they are all in files now.
    without = str(save(namespace, tmp_path, manifest_bytes_max=4096).manifest)
    assert ["held" in json.loads(text) for text in (kept, without, filed)] == [True, False, False]
    assert [json.loads(text)["format"] for text in (kept, without, filed)] == [2, 2, 1]
    newer = kept.replace('"format":2', '"format":3')
    with pytest.raises(CheckpointDamagedError, match="format 3 and this nbdurable reads up to 2"):
        restore({}, tmp_path, BlobFolder(tmp_path).hold(newer.encode()), newer)


@pytest.mark.parametrize(
    ("manifest", "word"), [(None, "restore"), ("{}", "restore a checkpoint of format 2")]
)
def test_what_is_in_no_file_is_asked_for_by_another_word(manifest, word, monkeypatch):
    """The kernel's nbdurable may be older, and would look for a file; of this word it says so."""
    asked = []

    def answer(_client, request):
        asked.append(request["ask"])
        return {"notes": [], "tombstones": []}

    monkeypatch.setattr(DurableClient, "_ask", answer)
    notebook = nbformat.v4.new_notebook(metadata={"papermill": {}})
    client = DurableClient(TrueManager(notebook, progress_bar=False), kernel_name="python3")
    client._blobs = "blobs"
    assert client._restore(Restore("1-a", manifest)) is None
    assert asked == [word]
