"""A secret is in none of the files that a run writes: looked for in all of them, in every form."""

from __future__ import annotations

import base64
import logging
import pickle
from urllib.parse import quote

import pytest
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError
from support.projects import Project, texts

from nbdurable.batch.secrets import Secret, Secrets

VALUE = 'hunter2/"q!+=é'
FORMS = (VALUE, quote(VALUE, safe=""), base64.b64encode(VALUE.encode()).decode(), repr(VALUE))
KILL_UNLESS_GO = "import os\nif not os.path.exists('go'): os.kill(os.getpid(), 9)"
SETUP = "from nbdurable import durable\nimport base64, urllib.parse\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NBDURABLE_HOME", raising=False)
    monkeypatch.setenv("TOKEN", VALUE)
    return Project(tmp_path)


def files_with_it(project: Project) -> list[str]:
    """Every file beneath the project that holds the value, as it is or as it may be encoded."""
    needles = [form.encode(encoding) for form in FORMS for encoding in ("utf-8", "utf-16-le")]
    return [
        str(path.relative_to(project.folder))
        for path in project.folder.rglob("*")
        if path.is_file() and any(needle in path.read_bytes() for needle in needles)
    ]


def test_a_secret_is_in_no_file_of_a_run_and_is_there_in_the_next_kernel(project, caplog):
    """Journal, blobs, checkpoints, notebook and log; also while a cell runs, and when it fails."""
    caplog.set_level(logging.INFO, logger="papermill")
    project.write(
        SETUP + "token = durable.secret('secret://TOKEN')\nheader = {'auth': f'Bearer {token}'}\n"
        "big = (token + ' ') * 9000\nlength = len(token)",
        "print(token, repr(str(token)), [token])\n"
        "print(base64.b64encode(token.encode()).decode())\n"
        "print(urllib.parse.quote(token, safe=''))\nstr(token)",
        f"{KILL_UNLESS_GO}\n(len(token), length, type(header).__name__)",
        "raise ValueError(f'bad token {token}')",
    )
    with pytest.raises(DeadKernelError):
        project.run(go=False, log_output=True)
    assert files_with_it(project) == []
    with pytest.raises(PapermillExecutionError) as failed:
        project.run(log_output=True)
    shown = project.output().cells
    code = [cell for cell in shown if cell.cell_type == "code"]
    assert code[1].outputs[0].text == (
        "secret://TOKEN 'secret://TOKEN' [<secret://TOKEN>]\nsecret://TOKEN\nsecret://TOKEN\n"
    )
    length = len(VALUE)
    assert texts(code[2]) == [f"({length}, {length}, 'Tombstone')"]
    assert "bad token secret://TOKEN" in str(failed.value)
    [(run, _)] = project.runs()
    assert run.failure == "cell 4: ValueError: bad token secret://TOKEN"
    assert files_with_it(project) == []
    assert not any(form in caplog.text for form in FORMS)


def test_a_result_that_holds_a_secret_is_refused(project):
    """It would be in the journal for as long as the run is kept."""
    project.write(
        SETUP + "token = durable.secret('TOKEN')",
        "await durable.run('login', lambda: {'with': token + '!'})",
    )
    with pytest.raises(PapermillExecutionError, match="holds the secret TOKEN, which must not"):
        project.run()
    assert files_with_it(project) == []


def test_a_secret_that_is_shown_piece_by_piece_is_hidden_as_well(project):
    """As a progress bar or a logger may write it."""
    project.write(
        SETUP + "import sys, time\ntoken = durable.secret('TOKEN')\n"
        "for piece in (token[:6], token[6:]):\n    print(piece, end='', flush=True)\n"
        "    time.sleep(0.4)",
    )
    done = project.run(log_output=True)
    assert texts(done.cells[0]) == ["secret://TOKEN"]
    assert files_with_it(project) == []


def test_a_secret_that_is_not_there_says_how_to_give_it(project):
    project.write("from nbdurable import durable\ndurable.secret('NOWHERE')")
    with pytest.raises(PapermillExecutionError, match="set the environment variable NOWHERE"):
        project.run()


def test_a_secret_is_a_text_that_shows_and_saves_its_name_only():
    """Libraries take it as they take any other text."""
    secret = Secret("TOKEN", VALUE)
    assert (secret == VALUE, secret.encode() == VALUE.encode()) == (True, True)
    assert repr(secret) == "<secret://TOKEN>"
    assert VALUE.encode() not in pickle.dumps(secret)


def test_the_longest_form_is_hidden_first():
    """One secret may be the beginning of another."""
    secrets = Secrets()
    secrets.know("SHORT", "abcdef")
    secrets.know("LONG", "abcdefgh")
    assert secrets.hidden({"a": ["x abcdefgh abcdef"]}) == {"a": ["x secret://LONG secret://SHORT"]}
