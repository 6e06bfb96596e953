"""What a run is asked for: read, placed within the project, and given a place for its output."""

from __future__ import annotations

import json

import pytest

from nbdurable.errors import DefinitionError
from nbdurable.runs.request import (
    RunRequest,
    file_name,
    output_of,
    placed,
    read_begun,
    read_request,
)


def test_what_papermill_has_begun_is_nobodys_to_start():
    begun = {"input_path": "in.ipynb", "output_path": "out.ipynb", "parameters": {}}
    assert read_request(json.dumps(begun).encode()) is None
    asked = read_request(b'{"notebook": "in.ipynb", "parameters": {"x": 1}}')
    assert asked == RunRequest(notebook="in.ipynb", parameters={"x": 1})


def test_what_papermill_has_begun_can_be_gone_on_with_where_it_says_how():
    """Older journals do not, and nor does a run of files that are elsewhere."""
    begun = {"input_path": "in.ipynb", "output_path": "out.ipynb", "parameters": {"x": 1}}
    assert read_begun(json.dumps(begun).encode()) is None
    how = {
        "notebook": "in.ipynb",
        "output": "out.ipynb",
        "folder": "elsewhere",
        "kernel": "python3",
    }
    known = read_begun(json.dumps({**begun, "nbdurable": how}).encode())
    assert known is not None
    assert (known.notebook, known.output, known.parameters) == ("in.ipynb", "out.ipynb", {"x": 1})
    assert (known.folder, RunRequest(notebook="a/b.ipynb").folder) == ("elsewhere", "a")


@pytest.mark.parametrize(
    "payload", [b"", b"null", b"[]", b"{", b'{"notebook": 1}', b'{"notebook": "a.ipynb", "x": 1}']
)
def test_what_is_no_request_says_what_one_looks_like(payload):
    with pytest.raises(DefinitionError, match="no notebook run can be made of this input"):
        read_request(payload)


def test_a_path_is_kept_as_it_is_within_the_project(tmp_path):
    for path in ("a/b.ipynb", "./a/b.ipynb", "a/../a/b.ipynb", str(tmp_path / "a" / "b.ipynb")):
        assert placed(path, tmp_path) == "a/b.ipynb"
    for path in ("../b.ipynb", "a/../../b.ipynb", "/b.ipynb", f"{tmp_path}-2/b.ipynb"):
        with pytest.raises(DefinitionError, match="is outside of"):
            placed(path, tmp_path)


def test_each_run_has_an_output_of_its_own():
    asked = RunRequest(notebook="a/report.ipynb")
    assert output_of(asked, "2026-11-22") == "a/report-runs/2026-11-22.ipynb"
    fire = "nightly@2026-11-26T07:00:00+01:00"
    assert output_of(asked, fire) == f"a/report-runs/{fire}.ipynb"
    assert output_of(RunRequest(notebook="a.ipynb", output="b.ipynb"), "k") == "b.ipynb"


def test_no_two_keys_have_a_file_in_common_and_none_leads_elsewhere():
    keys = ["a/b", "a%2Fb", "..", ".", "a", "../a", "%2E.", "x" * 300, "x" * 299, "ä" * 150]
    names = [file_name(key) for key in keys]
    assert len(set(names)) == len(keys)
    for name in names:
        assert "/" not in name
        assert not name.startswith(".")
        assert len(name.encode()) <= 200
