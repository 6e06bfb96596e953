"""What a client sees of an invocation's life: called, sent, joined, looked up, failed, ended."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.http import JSON, Raw
from support.served import Served

from nbdurable.core.ids import awakeable_id, parse_invocation_id, random_invocation_id
from nbdurable.errors import InvocationNotFoundError

OFFSET_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00")
EXACT_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")


# -- calls ----------------------------------------------------------------------------------------


def test_a_call_names_its_invocation_and_the_type_of_its_result(served: Served):
    reply = served.post("/Greeter/greet", '"ada"')
    assert (reply.status, reply.body) == (200, b'"hello ada"')
    assert reply.headers["content-type"] == "application/json"
    assert parse_invocation_id(reply.headers["x-restate-id"])
    assert "idempotency-expires" not in reply.headers


def test_bytes_pass_as_they_are(served: Served):
    data = bytes(range(256)) * 40
    reply = served.ingress("POST", "/Greeter/echo", {"content-type": "image/png"}, data)
    assert reply.body == data
    assert reply.headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize(("path", "key"), [("a%2Fb", "a/b"), ("%C3%A4%20%F0%9F%8C%8D", "ä 🌍")])
def test_a_key_is_decoded_and_stays_one(served: Served, path: str, key: str):
    served.post(f"/Counter/{path}/keep", '"x"')
    views = served.wait(served.client.invocations())
    assert key in {view.key for view in views if view.handler == "keep"}


def test_a_handler_is_told_the_headers_and_where_it_was_called(served: Served):
    sent = {"x-mine": "1", "authorization": "Bearer theirs", "accept": "text/html", "te": "gzip"}
    told = served.ingress("GET", "/Greeter/told?x=1", {**sent, "idempotency-key": "told"}).json
    assert told["x-restate-ingress-path"] == "/Greeter/told?x=1"
    assert (told["x-mine"], told["accept"]) == ("1", "text/html")
    # Without a token of ours, an authorization is the handler's affair.
    assert told["authorization"] == "Bearer theirs"
    assert not told.keys() & {"host", "connection", "idempotency-key", "te"}


# -- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [400, 402, 418, 470, 499, 500, 503, 570, 599, 600, 999])
def test_the_code_of_a_terminal_error_is_the_status(served: Served, code: int):
    reply = served.post("/Greeter/fail", f'{{"code": {code}, "message": "no"}}')
    assert reply.status == code
    assert reply.json == {"code": code, "message": "no", "source": "invocation"}
    assert reply.headers["x-restate-error-source"] == "invocation"
    assert parse_invocation_id(reply.headers["x-restate-id"])


@pytest.mark.parametrize("code", [1, 99, 100, 101, 199, 1200, -5])
def test_a_code_that_is_no_final_status_is_told_in_the_body(served: Served, code: int):
    """Restate sends 101 as it is, which breaks its client's connection."""
    reply = served.post("/Greeter/fail", f'{{"code": {code}, "message": "no"}}')
    assert (reply.status, reply.json["code"]) == (500, code)


@pytest.mark.parametrize("code", [200, 204, 304])
def test_a_failure_with_the_code_of_a_success_is_sent_literally(served: Served, code: int):
    reply = served.post("/Greeter/fail", f'{{"code": {code}, "message": "no"}}')
    assert reply.status == code
    assert bool(reply.body) == (code == 200)
    assert reply.headers["x-restate-error-source"] == "invocation"


def test_metadata_of_an_error_travels(served: Served):
    how = '{"code": 409, "message": "no", "metadata": {"hint": "ask \\n again"}}'
    assert served.post("/Greeter/fail", how).json["metadata"] == {"hint": "ask \n again"}


def test_a_traceback_never_leaves(served: Served):
    """Restate sends it once retries are exhausted; what the code looks like is nobody's affair."""
    reply = served.ingress("GET", "/Greeter/crash")
    assert reply.status == 500
    assert reply.json["source"] == "invocation"
    for trace in (b"Traceback", b"conftest", b"raise ", b"a secret"):
        assert trace not in reply.body
    assert "stacktrace" not in reply.json


# -- idempotency ----------------------------------------------------------------------------------


def test_a_repeated_call_gets_the_first_ones_result_and_when_it_expires(served: Served):
    first = served.post("/Greeter/greet", '"ada"', idempotency_key="one")
    again = served.post("/Greeter/greet", '"bob"', idempotency_key="one")
    assert again.body == first.body == b'"hello ada"'
    assert again.headers["x-restate-id"] == first.headers["x-restate-id"]
    assert "idempotency-expires" not in first.headers
    assert OFFSET_TIME.fullmatch(again.headers["idempotency-expires"])


def test_a_failure_is_repeated_too(served: Served):
    how = '{"code": 418, "message": "no"}'
    first = served.post("/Greeter/fail", how, idempotency_key="failed")
    again = served.post("/Greeter/fail", '{"code": 500, "message": "x"}', idempotency_key="failed")
    assert (again.status, again.body) == (first.status, first.body) == (418, first.body)
    assert OFFSET_TIME.fullmatch(again.headers["idempotency-expires"])


def test_an_empty_key_is_a_key(served: Served):
    first, again = (served.post("/Greeter/greet", '"x"', idempotency_key="") for _ in range(2))
    assert first.headers["x-restate-id"] == again.headers["x-restate-id"]


def test_keys_of_different_handlers_and_objects_are_different(served: Served):
    paths = ("/Counter/a/add", "/Counter/b/add", "/Counter/a/keep")
    ids = {served.post(p, "1", idempotency_key="k").headers["x-restate-id"] for p in paths}
    assert len(ids) == 3


def test_twenty_at_once_with_one_key_are_one_execution(served: Served):
    with ThreadPoolExecutor(20) as pool:
        replies = list(
            pool.map(
                lambda _: served.post("/Counter/once/add", "1", idempotency_key="storm"), range(20)
            )
        )
    assert {reply.body for reply in replies} == {b"1"}
    assert len({reply.headers["x-restate-id"] for reply in replies}) == 1
    assert served.ingress("GET", "/Counter/once/get").body == b"1"


def test_a_workflows_run_wants_no_idempotency_key(served: Served):
    reply = served.post("/PaymentWorkflow/keyed/run", '{"amount": 1}', idempotency_key="a")
    assert reply.status == 400
    assert reply.message == (
        "cannot use the idempotency key with workflow handlers. The handler invocation will already"
        " be idempotent by the workflow key itself."
    )


# -- sends ----------------------------------------------------------------------------------------


def test_a_send_is_accepted_once(served: Served):
    first = served.post("/Greeter/greet/send", '"ada"', idempotency_key="sent")
    again = served.post("/Greeter/greet/send", '"ada"', idempotency_key="sent")
    assert (first.status, again.status) == (202, 202)
    invocation_id = first.headers["x-restate-id"]
    assert first.json == {"invocationId": invocation_id, "status": "Accepted"}
    assert again.json == {"invocationId": invocation_id, "status": "PreviouslyAccepted"}
    assert served.ingress("GET", f"/restate/attach/{invocation_id}").body == b'"hello ada"'


@pytest.mark.parametrize(
    ("delay", "ms"),
    [
        ("PT1H", 3_600_000),
        ("90m", 5_400_000),
        ("1h30m", 5_400_000),
        ("P1W", 604_800_000),
        ("1%20day%2C%202%20h", 93_600_000),
        ("1h&delay=5", 3_600_000),
    ],
)
def test_a_delayed_send_says_when_it_will_begin(served: Served, delay: str, ms: int):
    now_ms = served.client.now_ms()
    reply = served.post(f"/Greeter/greet/send?delay={delay}", '"ada"')
    assert EXACT_TIME.fullmatch(reply.json["executionTime"])
    view = served.wait(served.client.invocation(reply.json["invocationId"]))
    assert view.status == "scheduled"
    assert view.wakes_at_ms is not None
    assert 0 <= view.wakes_at_ms - now_ms - ms < 60_000
    assert served.ingress("GET", f"/restate/output/{view.id}").status == 470


def test_no_delay_is_now(served: Served):
    reply = served.post("/Greeter/greet/send?delay=0s", '"ada"')
    assert "executionTime" in reply.json
    attached = served.ingress("GET", f"/restate/attach/{reply.json['invocationId']}")
    assert attached.body == b'"hello ada"'


def test_the_new_spelling_sends_as_well(served: Served):
    reply = served.post("/restate/send/Counter/new/add?delay=1h", "1")
    assert (reply.status, reply.json["status"]) == (202, "Accepted")
    assert "executionTime" in reply.json


# -- scopes ---------------------------------------------------------------------------------------


def test_a_scope_sets_keys_apart(served: Served):
    assert served.post("/restate/scope/eu/call/Counter/scoped/add", "5").body == b"5"
    assert served.post("/Counter/scoped/add", "1").body == b"1"
    sent = served.post("/restate/scope/eu/send/Counter/scoped/add?limit-key=a/b", "1")
    assert sent.status == 202
    assert served.ingress("GET", f"/restate/attach/{sent.json['invocationId']}").body == b"6"


@pytest.mark.parametrize("path", ["/restate/scope/a%20b/call/Greeter/greet", "/Greeter/greet"])
def test_a_scope_or_a_limit_key_without_sense_is_refused(served: Served, path: str):
    reply = served.post(path, '"x"', x_restate_limit_key="a//b")
    assert reply.status == 400


# -- workflows and lookups ------------------------------------------------------------------------


def test_a_workflow_runs_once_per_key_and_is_found_by_it(served: Served):
    path, by_key = "/PaymentWorkflow/order-1", "/restate/workflow/PaymentWorkflow/order-1"
    first = served.post(f"{path}/run/send", '{"amount": 100}')
    again = served.post(f"{path}/run/send", '{"amount": 5}')
    assert (first.json["status"], again.json["status"]) == ("Accepted", "PreviouslyAccepted")
    called = served.post(f"{path}/run", '{"amount": 5}')
    assert called.status == 409
    assert called.json == {
        "code": 409,
        "message": "the workflow method was already invoked",
        "source": "invocation",
    }
    assert called.headers["x-restate-id"] == first.json["invocationId"]
    running = served.ingress("GET", f"{by_key}/output")
    assert (running.status, running.message) == (
        470,
        "the invocation exists but has not completed yet",
    )
    assert served.post(f"{path}/approve", "true").status == 200
    for verb in ("attach", "output"):
        done = served.ingress("GET", f"{by_key}/{verb}")
        assert done.json == {"order": "order-1", "amount": 100, "approved": True}
        assert OFFSET_TIME.fullmatch(done.headers["idempotency-expires"])
    again = served.post(f"{path}/approve", "true")
    assert (again.status, again.message) == (409, "promise was already completed")


def test_a_promise_may_be_resolved_before_the_run(served: Served):
    assert served.post("/PaymentWorkflow/early/approve", "false").status == 200
    assert served.post("/PaymentWorkflow/early/run", '{"amount": 1}').json["approved"] is False


def test_every_way_to_name_an_invocation_finds_the_same(served: Served):
    reply = served.post("/Counter/named/add", "7", idempotency_key="a b")
    invocation_id = reply.headers["x-restate-id"]
    target = (
        '{"target":"idempotentInvocation","service":"Counter","key":"named","handler":"add",'
        '"idempotencyKey":"a b"}'
    )
    assert served.post("/restate/lookup", target).json == {"invocationId": invocation_id}
    by_id = f'{{"target":"invocation","invocationId":"{invocation_id}"}}'
    for verb in ("attach", "output"):
        found = [
            served.ingress("GET", f"/restate/{verb}/{invocation_id}"),
            served.ingress("GET", f"/restate/invocation/{invocation_id}/{verb}"),
            served.ingress("GET", f"/restate/invocation/Counter/named/add/a%20b/{verb}"),
            served.post(f"/restate/{verb}", target),
            served.post(f"/restate/{verb}", by_id),
        ]
        for one in found:
            assert (one.status, one.body) == (200, b"7")
            assert one.headers["x-restate-id"] == invocation_id
            assert OFFSET_TIME.fullmatch(one.headers["idempotency-expires"])


def test_a_workflow_is_looked_up_by_its_key_whether_it_ran_or_not(served: Served):
    target = '{"target":"workflow","workflowName":"PaymentWorkflow","workflowKey":"later"}'
    looked_up = served.post("/restate/lookup", target).json["invocationId"]
    assert served.send("/PaymentWorkflow/later/run", '{"amount": 1}') == looked_up


def test_the_type_of_a_result_is_found_with_it(served: Served):
    sent = served.ingress("POST", "/Greeter/echo/send", {"content-type": "text/plain"}, "plain")
    attached = served.ingress("GET", f"/restate/attach/{sent.json['invocationId']}")
    assert attached.headers["content-type"] == "application/octet-stream"


# -- awakeables -----------------------------------------------------------------------------------


def awakeable_of(served: Served) -> tuple[str, str]:
    """An invocation that waits, and the id of what it waits for, which it has told."""
    invocation_id = served.ingress("GET", "/Greeter/wait_for_it/send").json["invocationId"]
    return invocation_id, served.until(lambda: open_awakeable(served, invocation_id))


def open_awakeable(served: Served, invocation_id: str) -> str | None:
    names = served.wait(served.client.invocation(invocation_id)).open_awakeables
    return names[0] if names else None


@pytest.mark.parametrize("path", ["/restate/awakeables", "/restate/a"])
def test_an_awakeable_is_resolved_with_what_is_sent(served: Served, path: str):
    invocation_id, name = awakeable_of(served)
    resolved = served.ingress("POST", f"{path}/{name}/resolve", {"content-type": "x/y"}, '"ok"')
    assert (resolved.status, resolved.body) == (202, b"")
    # A webhook that is delivered twice is no mistake.
    assert served.ingress("POST", f"{path}/{name}/resolve", JSON, '"no"').status == 202
    assert served.ingress("GET", f"/restate/attach/{invocation_id}").body == b'"got ok"'
    assert served.ingress("POST", f"{path}/{name}/reject", {}, "late").status == 202


def test_an_awakeable_is_resolved_with_nothing(served: Served):
    invocation_id, name = awakeable_of(served)
    assert served.ingress("POST", f"/restate/a/{name}/resolve").status == 202
    assert served.ingress("GET", f"/restate/attach/{invocation_id}").body == b'"got None"'


@pytest.mark.parametrize("reason", ['{"reason":"zz"}', ""])
def test_an_awakeable_is_rejected_with_the_text_that_is_sent(served: Served, reason: str):
    invocation_id, name = awakeable_of(served)
    assert served.ingress("POST", f"/restate/a/{name}/reject", {}, reason).status == 202
    reply = served.ingress("GET", f"/restate/attach/{invocation_id}")
    assert (reply.status, reply.json["code"], reply.message) == (500, 500, reason)


def test_a_reason_that_is_no_text_is_refused(served: Served):
    _, name = awakeable_of(served)
    assert served.ingress("POST", f"/restate/a/{name}/reject", {}, b"\xff").status == 400


def test_an_awakeable_that_never_was_is_not_found(served: Served):
    """Restate says 202, and whoever sent it believes that it was heard."""
    nobody = awakeable_id(random_invocation_id(7), 7, 17)
    reply = served.ingress("POST", f"/restate/awakeables/{nobody}/resolve", {}, "1")
    assert (reply.status, reply.json["source"]) == (404, "ingress")


# -- health, and clients that go ------------------------------------------------------------------


def test_health_names_the_services(served: Served):
    reply = served.ingress("GET", "/restate/health")
    assert sorted(reply.json["services"]) == ["Counter", "Greeter", "PaymentWorkflow", "Private"]


def test_a_client_that_goes_away_cancels_nothing(served: Served):
    body = b'{"amount": 3}'
    head = (
        b"POST /PaymentWorkflow/gone/run HTTP/1.1\r\nhost: localhost\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    )
    target = '{"target":"workflow","workflowName":"PaymentWorkflow","workflowKey":"gone"}'
    invocation_id = served.post("/restate/lookup", target).json["invocationId"]
    with Raw(served.serving.ingress_url) as client:
        client.send(head + body)

        def is_there() -> bool:
            try:
                return bool(served.wait(served.client.invocation(invocation_id)))
            except InvocationNotFoundError:
                return False

        served.until(is_there)
    engine = served.engine.opened.engine
    # Nobody waits for it any more, and it goes on.
    served.until(lambda: engine.ask(lambda: invocation_id not in engine._callers).result())
    assert served.post("/PaymentWorkflow/gone/approve", "true").status == 200
    done = served.ingress("GET", f"/restate/attach/{invocation_id}")
    assert done.json["approved"] is True


@pytest.mark.parametrize(("verb", "message"), [("cancel", "cancelled"), ("kill", "killed")])
def test_whoever_waits_for_what_is_ended_is_told(served: Served, verb: str, message: str):
    replies: list[Any] = []
    key = f"held-{verb}"
    waiting = threading.Thread(
        target=lambda: replies.append(served.ingress("GET", f"/Counter/{key}/hold"))
    )
    waiting.start()

    def held() -> str | None:
        views = served.wait(served.client.invocations())
        return next((v.id for v in views if v.key == key and v.handler == "hold"), None)

    invocation_id = served.until(held)
    served.until(lambda: served.wait(served.client.invocation(invocation_id)).status == "running")
    assert served.admin("PATCH", f"/invocations/{invocation_id}/{verb}").status in (200, 202)
    waiting.join()
    (reply,) = replies
    assert (reply.status, reply.json["code"]) == (409, 409)
    assert message in reply.message
