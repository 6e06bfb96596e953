"""Whatever a client sends, it is the client who is told what is wrong with it: never a 500.

Requests are put together from words that mean something and words that do not, so that many get
past the first check. All handlers here end, whatever they are given.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.http import Reply, ask

import nbdurable
from nbdurable import (
    BytesSerde,
    Context,
    ObjectContext,
    ObjectSharedContext,
    ServeOptions,
    Service,
    VirtualObject,
    Workflow,
    WorkflowContext,
    WorkflowSharedContext,
)
from nbdurable.store.memory import MemoryStore
from nbdurable.wiring import DurableEngine, SyncDurableEngine

REQUESTS = 300

service, obj, flow = Service("S"), VirtualObject("O"), Workflow("W")


@service.handler()
async def same(ctx: Context, value: Any) -> Any:
    return value


@service.handler(accept="*/*", input_serde=BytesSerde(), output_serde=BytesSerde())
async def raw(ctx: Context, data: bytes) -> bytes:
    return data


@service.handler()
async def void(ctx: Context) -> None: ...


@obj.handler()
async def keep(ctx: ObjectContext, value: Any) -> Any:
    ctx.set("value", value)
    return value


@obj.handler(kind="shared")
async def kept(ctx: ObjectSharedContext) -> Any:
    return await ctx.get("value")


@flow.main()
async def run(ctx: WorkflowContext, value: Any) -> Any:
    return value


@flow.handler()
async def peek(ctx: WorkflowSharedContext) -> str:
    return ctx.key()


# -- what is sent -------------------------------------------------------------------------------

ODD = st.one_of(
    st.text(max_size=8).map(lambda text: quote(text, safe="")),
    st.binary(max_size=6).map(quote),
    st.sampled_from(
        ["%", "%zz", "%ff", "%00", "..", ".", "", "%2F", "a%2Fb", "x" * 5000, "~", ";"]
    ),
)
# More that are there than that are not: what is not is a 404 before anything else is looked at.
NAMES = st.sampled_from(["S", "S", "O", "O", "W", "W", "s", "Nope", "restate", "ingress"])
HANDLERS = st.sampled_from(["same", "raw", "void", "keep", "kept", "run", "peek", "nope", "send"])
KEYS = st.one_of(st.sampled_from(["ada", "bob", "a b"]).map(quote), ODD)
# The first is of an invocation that has ended, see `standing`; the others of none.
IDS = st.sampled_from(
    [
        "ENDED",
        "ENDED",
        "ENDED",
        "inv_1nothing",
        "inv_",
        "inv_garbage",
        "sign_1nothing",
        "prom_1x",
        "dp_1x",
        "x",
    ]
)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
BODIES = st.one_of(
    st.none(),
    st.binary(max_size=20),
    JSON_VALUES.map(lambda value: json.dumps(value).encode()),
    st.sampled_from(
        [
            b"[" * 100_000,
            b"\xff\xfe",
            b"{",
            b'"\\ud800"',
            b"NaN",
            b"1e999999",
            b"[%s]" % (b"7" * 5_000),
        ]
    ),
)
HEADER_VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=12)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "content-type": st.one_of(
            st.sampled_from(["application/json", "application/json; charset=x", "a/b", "", "*/*"]),
            HEADER_VALUES,
        ),
        "idempotency-key": HEADER_VALUES,
        "x-restate-limit-key": HEADER_VALUES,
        "accept": HEADER_VALUES,
        "traceparent": HEADER_VALUES,
        "x-mine": HEADER_VALUES,
    },
)
# What the admin API wants to be told before it reads a body.
AS_JSON = HEADERS.map(lambda headers: {**headers, "content-type": "application/json"})
METHODS = st.sampled_from(
    ["GET", "POST", "POST", "POST", "PUT", "DELETE", "PATCH", "PATCH", "HEAD", "OPTIONS", "TRACE"]
)
QUERIES = st.one_of(
    st.just(""),
    st.sampled_from(
        [
            "?delay=1ms",
            "?delay=PT0S",
            "?delay=5",
            "?delay=-1s",
            "?delay=%ff",
            "?delay",
            "?limit-key=a",
        ]
    ),
    st.text(max_size=8).map(lambda text: f"?{quote(text)}"),
)


def path_of(*segments: st.SearchStrategy[str] | str) -> st.SearchStrategy[str]:
    parts = [st.just(one) if isinstance(one, str) else one for one in segments]
    return st.tuples(*parts).map(lambda words: "/" + "/".join(words))


VERBS = st.sampled_from(["attach", "output", "resolve", "reject", "nope"])
INGRESS_PATHS = st.one_of(
    path_of(NAMES, HANDLERS),
    path_of(NAMES, KEYS, HANDLERS),
    path_of(NAMES, KEYS, HANDLERS, "send"),
    path_of("restate", st.sampled_from(["call", "send"]), NAMES, KEYS, HANDLERS),
    path_of("restate", "scope", KEYS, st.sampled_from(["call", "send"]), NAMES, HANDLERS),
    path_of("restate", "invocation", IDS, VERBS),
    path_of("restate", "invocation", NAMES, HANDLERS, KEYS, VERBS),
    path_of("restate", "workflow", NAMES, KEYS, VERBS),
    path_of("restate", st.sampled_from(["awakeables", "a"]), IDS | ODD, VERBS),
    path_of("restate", st.sampled_from(["attach", "output", "lookup", "health", "x"])),
    st.lists(ODD, max_size=6).map(lambda words: "/" + "/".join(words)),
)
INVOCATION_VERBS = st.sampled_from(
    ["cancel", "kill", "pause", "resume", "purge", "purge-journal", "restart-as-new", "x"]
)
ADMIN_PATHS = st.one_of(
    path_of("invocations", IDS | ODD, INVOCATION_VERBS),
    path_of("invocations", IDS | ODD),
    path_of("services", NAMES, st.sampled_from(["state", "handlers", "openapi", "x"])),
    path_of("services", NAMES | ODD),
    path_of("services", NAMES, "handlers", HANDLERS),
    path_of("deployments", IDS | ODD),
    path_of(st.sampled_from(["services", "deployments", "health", "version", "query", "openapi"])),
    st.lists(ODD, max_size=5).map(lambda words: "/" + "/".join(words)),
)
# Half of them with the method that their path takes: any other is a 405 and goes no further.
INGRESS_REQUESTS = st.one_of(
    st.tuples(METHODS, INGRESS_PATHS),
    st.tuples(st.just("POST"), path_of(NAMES, HANDLERS)),
    st.tuples(st.just("POST"), path_of(NAMES, KEYS, HANDLERS)),
    st.tuples(st.just("GET"), path_of("restate", "invocation", IDS, VERBS)),
)
ADMIN_REQUESTS = st.one_of(
    st.tuples(METHODS, ADMIN_PATHS),
    st.tuples(st.just("PATCH"), path_of("invocations", IDS, INVOCATION_VERBS)),
    st.tuples(st.sampled_from(["GET", "PATCH"]), path_of("services", NAMES)),
    st.tuples(st.just("POST"), path_of("services", NAMES, "state")),
    st.tuples(st.just("POST"), st.just("/query")),
)
ADMIN_QUERIES = st.one_of(
    QUERIES,
    st.sampled_from(
        ["?from=1", "?from=x", "?from=-1", "?deployment=latest", "?deployment=dp_x", "?mode=Kill"]
    ),
)
ADMIN_BODIES = st.one_of(
    BODIES,
    st.fixed_dictionaries(
        {},
        optional={
            "public": JSON_VALUES,
            "idempotency_retention": st.sampled_from(["1s", "x", "", "-1s"]) | JSON_VALUES,
            "object_key": st.text(max_size=5) | JSON_VALUES,
            "new_state": st.dictionaries(st.text(max_size=3), st.lists(st.integers(-1, 300)))
            | JSON_VALUES,
            "version": JSON_VALUES,
            "query": st.sampled_from(
                [
                    "select 1",
                    "select * from sys_invocation",
                    "drop table x",
                    "select",
                    "select 1; select 2",
                    "\x00",
                    "select cast('x' as int)",
                ]
            )
            | JSON_VALUES,
        },
    ).map(lambda content: json.dumps(content).encode()),
)


# -- and what comes back --------------------------------------------------------------------------


class Standing:
    """What is served, and the id of an invocation that has ended."""

    def __init__(self, engine: SyncDurableEngine, serving: nbdurable.Serving) -> None:
        self.serving = serving
        client = engine.opened.client
        self.ended = client.wait(client.service_send(same, 1)).invocation_id
        client.wait(client.attach(self.ended))

    def ask(self, url: str, method: str, path: str, **rest: Any) -> Reply:
        return ask(url, method, path.replace("ENDED", self.ended), **rest)


@pytest.fixture(scope="module")
def standing() -> Iterator[Standing]:
    with SyncDurableEngine(
        DurableEngine(services=[service, obj, flow], store=MemoryStore())
    ) as engine:
        serving = nbdurable.serve(engine.opened, ServeOptions(has_token=False))
        serving.start()
        try:
            yield Standing(engine, serving)
        finally:
            serving.close()


fuzzed = settings(
    max_examples=REQUESTS,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@fuzzed
@given(INGRESS_REQUESTS, QUERIES, HEADERS, BODIES)
def test_the_ingress_never_answers_500(
    standing: Standing,
    request_: tuple[str, str],
    query: str,
    headers: dict[str, str],
    body: bytes | None,
):
    url = standing.serving.ingress_url
    method, path = request_
    reply = standing.ask(url, method, path + query, headers=headers, body=body)
    assert reply.status < 500, reply
    if reply.status >= 400 and reply.body:
        assert reply.json["code"] == reply.status
        assert reply.json["message"]
        assert reply.headers["x-restate-error-source"] == reply.json["source"]


@fuzzed
@given(ADMIN_REQUESTS, ADMIN_QUERIES, HEADERS | AS_JSON, ADMIN_BODIES)
def test_the_admin_api_never_answers_500(
    standing: Standing,
    caplog: pytest.LogCaptureFixture,
    request_: tuple[str, str],
    query: str,
    headers: dict[str, str],
    body: bytes | None,
):
    """501 is what says that nothing is registered or removed by an address."""
    url = standing.serving.admin_url
    method, path = request_
    with caplog.at_level(logging.ERROR):
        reply = standing.ask(url, method, path + query, headers=headers, body=body)
    assert reply.status < 500 or reply.status == 501, reply
    assert not caplog.records


def test_after_all_that_it_serves_as_before(standing: Standing):
    said = {"content-type": "application/json"}
    # It may have been told that it is private.
    public = ask(standing.serving.admin_url, "PATCH", "/services/S", said, b'{"public": true}')
    assert public.status == 200
    reply = ask(standing.serving.ingress_url, "POST", "/S/same", said, b'"still here"')
    assert (reply.status, reply.json) == (200, "still here")
