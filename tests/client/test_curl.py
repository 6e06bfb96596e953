"""The call that began a run, as somebody would type it into a shell."""

from __future__ import annotations

from pathlib import Path

from support.views import view_of

from nbdurable.client.curl import curl_of

HERE = "http://127.0.0.1:8080/"


def test_a_call_is_one_line_that_a_shell_reads():
    view = view_of(key="it's/new")
    assert curl_of(view, '{\n  "amount": 100\n}', HERE, None) == (
        "curl http://127.0.0.1:8080/Payment/it%27s%2Fnew/run/send --json '{\"amount\": 100}'"
    )
    assert curl_of(view_of(key=None), '"it\'s"', HERE, None).endswith("""--json '"it'"'"'s"'""")


def test_a_call_without_an_argument_is_sent_empty():
    assert curl_of(view_of(), "", HERE, None).endswith("/Payment/order-456/run/send -X POST")


def test_a_token_is_in_no_history():
    """It is read from its file when the line runs."""
    line = curl_of(view_of(), "1", HERE, Path("/home/ada/my project/token"))
    assert "-H \"authorization: Bearer $(cat '/home/ada/my project/token')\"" in line


def test_a_scope_is_said_as_the_ingress_has_it():
    line = curl_of(view_of(scope="eu"), "1", HERE, None)
    assert "/restate/scope/eu/send/Payment/order-456/run " in line


def test_what_is_no_json_is_left_to_the_person():
    assert curl_of(view_of(), "<9 bytes>", HERE, None).endswith("--data-binary @argument")
