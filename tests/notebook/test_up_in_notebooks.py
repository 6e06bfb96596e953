"""`%durable up`: HTTP to a notebook's engine, and a process that outlives its kernel."""

import json
import os
import signal
import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from nbdurable.server.address import served_at

GREETER = """%%durable_service Greeter
async def greet(ctx, name):
    return f"Hello, {name}!"
"""


def test_a_notebook_says_where_it_is_served_and_how_to_ask(shell, tmp_path):
    """The token's file is named, and not its text: that would be saved with the notebook."""
    shell.run(GREETER)
    told = lines_of(shell.run("%durable up"))
    assert told["by"].startswith("this kernel, and ends with it")
    assert told["serves"] == "Greeter"
    token = (tmp_path / ".nbdurable" / "token").read_text().strip()
    assert token not in str(told)
    assert told["ask"].endswith('"authorization: Bearer $(cat ./.nbdurable/token)"')
    assert call(told["ingress"], token) == "Hello, Ada!"


def test_ports_and_no_token_are_as_they_are_asked_for(shell):
    """So that lines of Restate's documentation work as they stand there."""
    shell.run(GREETER)
    ingress, admin = free_port(), free_port()
    asked = f"%durable up --no-token --ingress 127.0.0.1:{ingress} --admin 127.0.0.1:{admin}"
    told = lines_of(shell.run(asked))
    assert told["ingress"] == f"http://127.0.0.1:{ingress}"
    assert told["ask"] == f"curl http://127.0.0.1:{admin}/services"
    assert call(told["ingress"], None) == "Hello, Ada!"
    # Again, with a token: the ports are free for it.
    told = lines_of(shell.run(asked.replace(" --no-token", "")))
    with pytest.raises(urllib.error.HTTPError, match="401"):
        call(told["ingress"], None)


def test_code_reads_where_without_reading_text(shell):
    """A cell that gives its address to others, such as one that expects a webhook."""
    shell.run(GREETER)
    shell.run("served = %durable up --no-token --ingress 127.0.0.1:0 --admin 127.0.0.1:0")
    assert call(shell.ip.user_ns["served"].ingress, None) == "Hello, Ada!"


def test_a_port_that_is_taken_is_one_line(shell):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert str(port) in shell.refused(f"%durable up --ingress 127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("%durable up --ingres 8080x", "'8080x' is no address; write HOST:PORT"),
        ("%durable up --ingress", "expected one argument"),
        ("%durable up now", "takes no further word 'now'"),
        ("%durable up --detach --no-token", "takes nothing else"),
        ("%durable up --no-token --ingress 0.0.0.0:0", "possible on loopback only"),
    ],
)
def test_what_is_mistyped_gets_one_line(shell, line, said):
    assert said in shell.refused(line)


def test_a_kernel_with_code_keeps_its_journal(shell):
    shell.run(GREETER)
    assert "restart it, and begin with" in shell.refused("%durable up --detach")
    assert shell.run('await Greeter.greet("you")') == "Hello, you!"


def test_a_process_outlives_the_kernel_that_has_detached_it(shell, tmp_path):
    """The kernel joins it; when that is gone, calls are still taken, and wait for their code."""
    folder = tmp_path / ".nbdurable"
    told = lines_of(shell.run("%durable up --detach"))
    keeper = served_at(folder)
    assert keeper is not None
    try:
        assert keeper.pid != os.getpid()
        assert told["by"].startswith(f"process {keeper.pid} (nbdurable up")
        shell.run(GREETER)
        assert shell.run('await Greeter.greet("you")') == "Hello, you!"
        assert shell.refused("%durable up --no-token").endswith("where is for it to say")
        shell.run("%unload_ext nbdurable")
        served = served_at(folder)
        assert served is not None
        assert served.pid == keeper.pid
        token = Path(served.token_file).read_text().strip()
        request = urllib.request.Request(f"{served.admin}/services", headers=bearer(token))  # noqa: S310
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - ours.
            assert "Greeter" in answer.read().decode()
    finally:
        os.kill(keeper.pid, signal.SIGTERM)
        os.waitpid(keeper.pid, 0)


def lines_of(columns):
    lines = repr(columns).splitlines()
    return {line[:9].strip(): line[9:] for line in lines}


def call(ingress, token):
    request = urllib.request.Request(  # noqa: S310 - ours.
        f"{ingress}/Greeter/greet",
        data=json.dumps("Ada").encode(),
        headers={"content-type": "application/json", **({} if token is None else bearer(token))},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - the same.
        return json.loads(answer.read())


def bearer(token):
    return {"authorization": f"Bearer {token}"}


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
