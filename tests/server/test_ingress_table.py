"""Requests and what a real Restate 1.7.12 answered, one line each.

Recorded from it; where ours differs on purpose, the line stands under `DIFFERENT` with the reason.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from support.served import Served

from nbdurable.core.ids import random_invocation_id

JSON = "application/json"
SHAPES = "bad path, expected either /:service-name/:handler or /:object-name/:object-key/:handler"
CALL_SHAPES = (
    "bad path, expected /restate/call/:service/:handler, /restate/send/:service/:handler,"
    " /restate/scope/:scope/call/:service/:handler, /restate/attach/:invocation_id,"
    " /restate/output/:invocation_id, or /restate/lookup"
)
NO_NOPE = "service 'Nope' not found, make sure to register the service before calling it."
NO_HANDLER = (
    "the service '{}' exists, but the handler '{}' was not found, check that the handler exists in"
    " the latest registered service version."
)
INVALID = "input validation error: "
NOT_EMPTY = f"{INVALID}Expected body and content-type to be empty, but wasn't with content-type"
NOBODY = random_invocation_id(404)
BAD_DELAY = "bad delay query parameter, must be a ISO8601 duration: "


class Pair(NamedTuple):
    """`says` is an ingress error's message, or a prefix of it that ends in `…`; else `body` is."""

    method: str
    path: str
    status: int
    says: str | None = None
    content_type: str | None = None
    sent: str | None = None
    body: bytes | None = None
    source: str = "ingress"


def get(path: str, status: int, says: str | None = None, **more: Any) -> Pair:
    return Pair("GET", path, status, says, **more)


def post(path: str, status: int, says: str | None = None, **more: Any) -> Pair:
    return Pair("POST", path, status, says, **more)


PATHS = [
    get("/", 400, "bad path: /"),
    get("/Greeter", 400, "bad path: /Greeter"),
    get("/Greeter/", 400, "bad path: /Greeter"),
    get("/openapi", 400, "bad path: /openapi"),
    get("/restate", 400, "bad path: /restate"),
    get("/restate/", 400, "bad path: /restate"),
    get("/restate/nope", 404, "not found"),
    get("/Greeter//greet", 400, SHAPES),
    get("/Greeter/k/greet", 400, SHAPES),
    get("/Greeter/greet/send/x", 400, SHAPES),
    get("/Counter/k", 400, SHAPES),
    get("/Counter/k/", 400, SHAPES),
    get("/Counter/k/add/foo", 400, SHAPES),
    get("/Nope/a", 404, NO_NOPE),
    get("/Nope/a/b/c/d/e", 404, NO_NOPE),
    get("/Greeter/nope", 404, NO_HANDLER.format("Greeter", "nope")),
    get("/Greeter/nope/send", 404, NO_HANDLER.format("Greeter", "nope")),
    get("/Counter/k/nope", 404, NO_HANDLER.format("Counter", "nope")),
    get("/restate/call", 400, CALL_SHAPES),
    get("/restate/call/Greeter", 400, CALL_SHAPES),
    get("/restate/call/Nope", 404, NO_NOPE),
    get("/restate/send/Nope/x", 404, NO_NOPE),
    get("/restate/scope/s", 400, CALL_SHAPES),
    post("/restate/call/Greeter/greet/send", 400, CALL_SHAPES, content_type=JSON, sent='"x"'),
    get("/restate/call/Counter/k/add/x", 400, CALL_SHAPES),
    get("/Counter/%ff/get", 400, "bad path, cannot decode key: …"),
    get("/Private/hidden", 400, "the invoked service is not public"),
]
METHODS = [
    Pair("PUT", "/Greeter/greet", 405, "method not allowed"),
    Pair("DELETE", "/Greeter/greet", 405, "method not allowed"),
    Pair("PATCH", "/Counter/k/add", 405, "method not allowed"),
    Pair("PUT", "/nope", 400, "bad path: /nope"),
    Pair("PUT", "/restate/send/Greeter/greet", 405, "method not allowed"),
    post("/restate/health", 405, "method not allowed"),
    get("/restate/lookup", 405, "method not allowed"),
    post(f"/restate/invocation/{NOBODY}/output", 405, "method not allowed"),
    post("/restate/workflow/PaymentWorkflow/k/output", 405, "method not allowed"),
    get("/restate/awakeables/nonsense/resolve", 405, "method not allowed"),
    Pair("OPTIONS", "/Greeter/greet", 200, body=b""),
]
INPUTS = [
    post(
        "/Greeter/greet",
        400,
        f"{INVALID}Content-type 'text/plain' does not match 'application/json'",
        content_type="text/plain",
        sent="x",
    ),
    post(
        "/Greeter/greet",
        400,
        f"{INVALID}Content-type 'text/plain' does not match 'application/json'",
        content_type="text/plain",
    ),
    post(
        "/Greeter/greet",
        400,
        f"{INVALID}Content-type 'Application/JSON' does not match 'application/json'",
        content_type="Application/JSON",
        sent='"x"',
    ),
    post(
        "/Greeter/greet",
        400,
        f"{INVALID}Content-type 'application/vnd.api+json' does not match 'application/json'",
        content_type="application/vnd.api+json",
        sent='"x"',
    ),
    post(
        "/Greeter/greet",
        400,
        f"{INVALID}Content-type 'application/json , foo' does not match 'application/json'",
        content_type="application/json , foo",
        sent='"x"',
    ),
    post("/Greeter/greet", 400, f"{INVALID}Empty content-type", sent='"x"'),
    post("/Greeter/greet", 400, f"{INVALID}Empty body not allowed", content_type=JSON),
    post("/Greeter/greet", 200, body=b'"hello None"'),
    post(
        "/Greeter/greet",
        200,
        content_type="application/json; charset=utf-8",
        sent='"x"',
        body=b'"hello x"',
    ),
    post(
        "/Greeter/wave",
        400,
        f"{NOT_EMPTY} 'Some(\"application/json\")'",
        content_type=JSON,
    ),
    post(
        "/Greeter/wave",
        400,
        f"{NOT_EMPTY} 'Some(\"application/x-www-form-urlencoded\")'",
        content_type="application/x-www-form-urlencoded",
        sent="x",
    ),
    post("/Greeter/wave", 400, f"{NOT_EMPTY} 'None'", sent="x"),
    post("/Greeter/echo", 200, content_type="text/plain", sent="x", body=b"x"),
    post("/Greeter/echo", 400, f"{INVALID}Empty content-type", sent="x"),
    post("/Greeter/echo", 400, f"{INVALID}Empty body not allowed", content_type=JSON),
    post("/Greeter/echo", 200, body=b""),
]
CALLS = [
    post("/Greeter/greet", 200, content_type=JSON, sent='"x"', body=b'"hello x"'),
    post("/Greeter/greet/", 200, content_type=JSON, sent='"x"', body=b'"hello x"'),
    post("/Greeter/greet?x=1", 200, content_type=JSON, sent='"x"', body=b'"hello x"'),
    post("/restate/call/Greeter/greet", 200, content_type=JSON, sent='"x"', body=b'"hello x"'),
    post("/Greeter/wave", 200, body=b""),
    get("/Greeter/wave", 200, body=b""),
    post("/Counter//add", 200, content_type=JSON, sent="1", body=b"1"),
    get("//Counter/k/get", 200, body=b"0"),
    get("/Counter/%zz/get", 200, body=b"0"),
    get("/restate/call/Counter/k/get", 200, body=b"0"),
]
DELAYS = [
    get(
        "/Counter/a%2Fb/get?x=1&delay=1s",
        400,
        "cannot use the delay query parameter with calls. The delay is supported only with sends",
    ),
    *(
        get(f"/Counter/k2/get/send?delay={delay}", 400, f"{BAD_DELAY}…")
        for delay in ("5", "-1s", "", "P1M", "soon", "99999999999h", "1s1h")
    ),
    get("/Greeter/greet?limit-key=a", 400, "limit-key requires a scope to be set"),
]
LOOKUPS = [
    get(f"/restate/invocation/{NOBODY}/output", 404, "invocation not found"),
    get(f"/restate/output/{NOBODY}", 404, "invocation not found"),
    get(f"/restate/invocation/{NOBODY}/attach", 404, "not found", source="invocation"),
    get(f"/restate/attach/{NOBODY}", 404, "not found", source="invocation"),
    get(f"/restate/invocation/{NOBODY}/zzz", 404, "not found"),
    get("/restate/invocation/inv_garbage/output", 400, "bad invocation id 'inv_garbage': …"),
    get("/restate/invocation/inv_garbage", 400, "bad path, expected either /restate/invocation/…"),
    get("/restate/invocation/Greeter/greet/a/output", 404, "invocation not found"),
    get("/restate/invocation/Greeter/greet/a/attach", 404, "not found", source="invocation"),
    get("/restate/invocation/Counter/k/add/a/output", 404, "invocation not found"),
    get("/restate/invocation/Nope/greet/a/output", 404, NO_NOPE),
    get("/restate/workflow/PaymentWorkflow/none/output", 404, "invocation not found"),
    get("/restate/workflow/PaymentWorkflow/none/attach", 404, "not found", source="invocation"),
    get("/restate/workflow/Nope/none/output", 404, "invocation not found"),
    get("/restate/workflow/Nope/none/attach", 404, "not found", source="invocation"),
    get("/restate/workflow/Counter/k9/output", 404, "invocation not found"),
    get("/restate/workflow/PaymentWorkflow/k/zzz", 404, "not found"),
    get("/restate/workflow/PaymentWorkflow/k", 400, "bad path, expected either /restate/workf…"),
    *(
        post("/restate/output", 404, "invocation not found", content_type=JSON, sent=target)
        for target in (
            '{"target":"workflow","workflowName":"PaymentWorkflow","workflowKey":"none"}',
            '{"target":"idempotentInvocation","service":"N","handler":"h","idempotencyKey":"a"}',
            f'{{"target":"invocation","invocationId":"{NOBODY}"}}',
        )
    ),
    post(
        "/restate/lookup",
        400,
        "bad invocation id 'inv_x': …",
        sent='{"target":"invocation","invocationId":"inv_x"}',
    ),
]
AWAKEABLES = [
    post("/restate/a/nonsense/resolve", 400, "bad awakeable id 'nonsense': …", sent="1"),
    post("/restate/awakeables/nonsense/reject", 400, "bad awakeable id 'nonsense': …", sent="1"),
    post("/restate/awakeables/nonsense/zzz", 404, "not found", sent="1"),
    post("/restate/awakeables/nonsense", 400, "bad path, expected either /restate/awakeables/…"),
]
# Restate answers 500 to the first ones, with a backtrace of its own to some; to the last 202.
DIFFERENT = [
    post(
        "/Greeter/greet",
        400,
        f"{INVALID}the body is not JSON that can be read: …",
        content_type=JSON,
        sent="xx",
    ),
    post(
        "/Greeter/greet/send",
        400,
        f"{INVALID}the body is not JSON that can be read: …",
        content_type=JSON,
        sent='{"a":',
    ),
    *(
        post("/restate/lookup", 400, "cannot read body: …", content_type=JSON, sent=sent)
        for sent in ("zz", "{}", "[]", '{"target":"zzz"}', '{"target":"workflow"}')
    ),
    post(
        "/restate/awakeables/sign_1" + "A" * 43 + "/resolve",
        400,
        "bad awakeable id …",
        sent="1",
    ),
]

ALL = [*PATHS, *METHODS, *INPUTS, *CALLS, *DELAYS, *LOOKUPS, *AWAKEABLES, *DIFFERENT]


@pytest.mark.parametrize("pair", ALL, ids=lambda pair: f"{pair.method} {pair.path[:60]}")
def test_it_answers_as_restate_answered(served: Served, pair: Pair):
    headers = {} if pair.content_type is None else {"content-type": pair.content_type}
    reply = served.ingress(pair.method, pair.path, headers, pair.sent)
    assert reply.status == pair.status, reply
    if pair.says is None:
        assert reply.body == pair.body
        assert "x-restate-error-source" not in reply.headers
        assert ("content-type" in reply.headers) == bool(reply.body)
        return
    assert reply.headers["content-type"] == JSON
    assert reply.headers["x-restate-error-source"] == pair.source
    # Who failed says which invocation; who never became one has none to name.
    assert ("x-restate-id" in reply.headers) == (pair.source == "invocation")
    content = reply.json
    assert {**content, "message": ""} == {"code": pair.status, "message": "", "source": pair.source}
    if pair.says.endswith("…"):
        assert content["message"].startswith(pair.says[:-1])
    else:
        assert content["message"] == pair.says


def test_a_head_is_refused_without_a_body(served: Served):
    reply = served.ingress("HEAD", "/Greeter/greet")
    assert (reply.status, reply.body) == (405, b"")
