"""Record what a real Restate server answers: `python tests/server/record.py`.

Starts it from npm, serves the services of conftest.py to it, plays the requests below, and writes
`recorded/*.json`, which test_recorded.py holds against ours, and against that server again.
"""

from __future__ import annotations

import functools
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent))

from exchanges import Conversations, Exchange, Player, write
from support.cluster import RestateServer
from support.npm import installed
from support.served import SERVICES

import nbdurable
from nbdurable.deploy.serving import Endpoint

JSON = {"content-type": "application/json"}
KEYED = {"idempotency-key": "once"}
SQL = {**JSON, "accept": "application/json"}
NOBODY = "inv_1gBp0U2ICvCB2e0XMnzuPQ8WzWRvB0yQbB"
VERBS = ("cancel", "kill", "pause", "resume", "purge", "purge-journal", "restart-as-new")


def said(line: str, **more: Any) -> Exchange:
    """Without a body."""
    return Exchange(line, **more)


def sent(line: str, body: str, **more: Any) -> Exchange:
    return Exchange(line, **{"headers": JSON, **more}, body=body)


def is_so(status: str, name: str = "{inv_0}") -> Exchange:
    """Ask until an invocation is in this status."""
    query = f"select status from sys_invocation where id = '{name}'"
    body = f'{{"query": "{query}"}}'
    return Exchange(
        "POST admin /query", headers=SQL, body=body, until={"rows": [{"status": status}]}
    )


def napping() -> list[Exchange]:
    return [sent("POST ingress /Greeter/nap/send", "3600"), is_so("running")]


def verb(name: str, query: str = "") -> Exchange:
    return said(f"PATCH admin /invocations/{{inv_0}}/{name}{query}")


ATTACH, OUTPUT = (
    said(f"GET ingress /restate/invocation/{{inv_0}}/{how}") for how in ("attach", "output")
)
GREETED = sent("POST ingress /Greeter/greet/send", '"ada"')

INGRESS: Conversations = {
    "a call and a send": [
        sent("POST ingress /Greeter/greet", '"ada"'),
        sent("POST ingress /Greeter/greet/send", '"ada"'),
        ATTACH,
        OUTPUT,
        sent("POST ingress /restate/call/Greeter/greet", '"ada"'),
        sent("POST ingress /restate/send/Greeter/greet", '"ada"'),
        said("GET ingress /Greeter/wave"),
        said("POST ingress /Greeter/wave"),
        said("GET ingress /Greeter/wave/send"),
        said("GET ingress /Counter/fresh/get"),
        sent("POST ingress /Greeter/echo", "\u00ff", headers={"content-type": "text/plain"}),
        sent("POST ingress /Greeter/echo/send", "x", headers={"content-type": "text/plain"}),
    ],
    "keys": [
        sent("POST ingress /Counter/a%2Fb/add", "1"),
        sent("POST ingress /Counter/a%2Fb/add", "1"),
        said("GET ingress /Counter/a%2fb/get"),
        said("GET ingress /Counter/a+b/get"),
        sent("POST ingress /Counter/%C3%BC/add", "2"),
        said("GET ingress /Counter/%C3%BC/get"),
    ],
    "idempotency": [
        sent("POST ingress /Counter/idem/add", "1", headers={**JSON, **KEYED}),
        sent("POST ingress /Counter/idem/add", "2", headers={**JSON, **KEYED}),
        sent("POST ingress /Counter/idem/add/send", "2", headers={**JSON, **KEYED}),
        said("GET ingress /restate/invocation/Counter/idem/add/once/output"),
        said("GET ingress /restate/invocation/Counter/idem/add/once/attach"),
        said("GET ingress /restate/invocation/Counter/other/add/once/output"),
        sent(
            "POST ingress /restate/output",
            '{"target":"idempotentInvocation","service":"Counter","key":"idem","handler":"add",'
            '"idempotencyKey":"once"}',
        ),
        said("GET ingress /Counter/idem/get"),
    ],
    "failures": [
        sent("POST ingress /Greeter/fail", f'{{"message": "no tea", "code": {code}}}')
        for code in (400, 404, 409, 418, 500, 503, 599)
    ]
    + [
        sent(
            "POST ingress /Greeter/fail",
            '{"message": "no tea", "code": 418, "metadata": {"why": "coffee"}}',
        ),
        sent("POST ingress /Greeter/fail", '{"message": "odd", "code": 1200}'),
        sent("POST ingress /Greeter/fail/send", '{"message": "no tea", "code": 418}'),
        ATTACH,
        OUTPUT,
        said("POST ingress /Greeter/crash"),
    ],
    "delays": [
        *(
            sent(f"POST ingress /Greeter/greet/send?delay={delay}", '"ada"')
            for delay in ("10ms", "PT0.01S", "0.01s", "1%20ms", "0s")
        ),
        sent("POST ingress /Greeter/greet/send?delay=1h", '"ada"', headers={**JSON, **KEYED}),
        said("GET ingress /restate/invocation/Greeter/greet/once/output"),
    ],
    "a workflow": [
        said("GET ingress /restate/workflow/PaymentWorkflow/order/output"),
        sent("POST ingress /PaymentWorkflow/order/run/send", '{"amount": 1}'),
        sent("POST ingress /PaymentWorkflow/order/run/send", '{"amount": 2}'),
        sent("POST ingress /PaymentWorkflow/order/run", '{"amount": 2}'),
        said("GET ingress /restate/workflow/PaymentWorkflow/order/output"),
        sent("POST ingress /PaymentWorkflow/order/approve", "true"),
        said("GET ingress /restate/workflow/PaymentWorkflow/order/attach"),
        said("GET ingress /restate/workflow/PaymentWorkflow/order/output"),
        sent("POST ingress /PaymentWorkflow/order/approve", "false"),
        sent("POST ingress /PaymentWorkflow/order/run/send", '{"amount": 1}'),
        sent("POST ingress /PaymentWorkflow/order/run", '{"amount": 2}'),
        sent("POST ingress /PaymentWorkflow/x/run", "{}", headers={**JSON, **KEYED}),
        sent(
            "POST ingress /restate/lookup",
            '{"target":"workflow","workflowName":"PaymentWorkflow","workflowKey":"order"}',
        ),
    ],
    "an awakeable": [
        said("POST ingress /Greeter/wait_for_it/send"),
        said("GET ingress /Counter/awakeable/has_kept", until=True),
        said("GET ingress /Counter/awakeable/kept"),
        sent("POST ingress /restate/awakeables/{sign_1}/resolve", '"it"'),
        sent("POST ingress /restate/awakeables/{sign_1}/resolve", '"again"'),
        said("GET ingress /restate/awakeables/{sign_1}/resolve"),
        ATTACH,
        sent("POST ingress /restate/a/{sign_1}/reject", "too late", headers={}),
    ],
    "nobody": [
        said(f"GET ingress /restate/invocation/{NOBODY}/output"),
        said(f"GET ingress /restate/invocation/{NOBODY}/attach"),
        said("GET ingress /restate/health"),
    ],
}

ADMIN: Conversations = {
    "the server": [
        said("GET admin /health"),
        said("GET admin /version"),
        said("GET admin /cluster-health"),
        said("GET admin /subscriptions"),
        said("GET admin /nope"),
        said("GET admin /services/"),
        said("PUT admin /services/Greeter"),
    ],
    "services": [
        said("GET admin /services"),
        *(
            said(f"GET admin /services/{name}")
            for name in ("Greeter", "Counter", "PaymentWorkflow", "Private", "Nope")
        ),
        said("GET admin /services/Greeter/handlers"),
        said("GET admin /services/Counter/handlers/add"),
        said("GET admin /services/Counter/handlers/nope"),
        said("GET admin /services/Nope/handlers"),
        said("GET admin /services/Nope/openapi"),
    ],
    "a patch": [
        sent("PATCH admin /services/Private", '{"public": true}'),
        said("GET ingress /Private/hidden", until="seen"),
        sent("PATCH admin /services/Private", '{"public": false}'),
        sent("PATCH admin /services/Private", '{"inactivity_timeout": "5m", "public": null}'),
        sent("PATCH admin /services/Private", '{"idempotency_retention": "1h"}'),
        sent("PATCH admin /services/Private", "{}"),
        sent("PATCH admin /services/Private", '{"public": "yes"}'),
        sent("PATCH admin /services/Private", '{"inactivity_timeout": "soon"}'),
        sent("PATCH admin /services/Private", "{"),
        sent("PATCH admin /services/Private", "{}", headers={}),
        sent("PATCH admin /services/Nope", '{"public": true}'),
    ],
    "state": [
        sent("POST ingress /Counter/edited/add", "1"),
        sent(
            "POST admin /services/Counter/state",
            '{"object_key": "edited", "new_state": {"count": [52, 49]}}',
        ),
        said("GET ingress /Counter/edited/get", until=41),
        sent(
            "POST admin /services/Counter/state",
            '{"object_key": "edited", "new_state": {}, "version": null}',
        ),
        said("GET ingress /Counter/edited/get", until=0),
        sent("POST admin /services/Greeter/state", '{"object_key": "k", "new_state": {}}'),
        sent("POST admin /services/Nope/state", '{"object_key": "k", "new_state": {}}'),
        sent("POST admin /services/Counter/state", '{"new_state": {}}'),
        sent(
            "POST admin /services/Counter/state",
            '{"object_key": "k", "new_state": {"a": [256]}}',
        ),
        sent("POST admin /services/Counter/state", "{"),
        sent("POST admin /services/Counter/state", "{}", headers={}),
    ],
    "deployments": [
        said("GET admin /services/Greeter"),
        said("GET admin /deployments"),
        said("GET admin /deployments/{dp}"),
        said("GET admin /deployments/dp_nope"),
        said("GET admin /deployments/dp_11nGQpCRmau6ypL82KH2TnP"),
        said("DELETE admin /deployments/{dp}"),
        sent("POST admin /deployments", '{"uri": "http://127.0.0.1:1/"}'),
        sent("POST admin /deployments", "{"),
        sent("POST admin /deployments", "{}"),
    ],
    "orders to nobody": [
        *(
            said(f"PATCH admin /invocations/{whom}/{name}")
            for name in VERBS
            for whom in (NOBODY, "nope")
        ),
        said(f"GET admin /invocations/{NOBODY}"),
        said(f"PATCH admin /invocations/{NOBODY}/zzz"),
        said(f"DELETE admin /invocations/{NOBODY}"),
    ],
    "cancel a running one": [
        *napping(),
        verb("cancel"),
        ATTACH,
        verb("cancel"),
        verb("kill"),
        verb("pause"),
        verb("resume"),
        verb("purge"),
        OUTPUT,
        verb("purge"),
    ],
    "kill a running one": [*napping(), verb("kill"), ATTACH, OUTPUT, verb("kill")],
    "cancel a scheduled one": [
        sent("POST ingress /Greeter/greet/send?delay=1h", '"ada"'),
        is_so("scheduled"),
        OUTPUT,
        verb("pause"),
        verb("resume"),
        verb("restart-as-new"),
        verb("purge"),
        verb("cancel"),
        OUTPUT,
        verb("cancel"),
    ],
    "kill a scheduled one": [
        sent("POST ingress /Greeter/greet/send?delay=1h", '"ada"'),
        verb("kill"),
        ATTACH,
        verb("kill"),
    ],
    "cancel a queued one": [
        sent("POST ingress /Counter/queue/add/send", "0"),
        ATTACH,
        said("POST ingress /Counter/queue/hold/send"),
        is_so("running", "{inv_1}"),
        sent("POST ingress /Counter/queue/add/send", "1"),
        is_so("pending", "{inv_2}"),
        said("PATCH admin /invocations/{inv_2}/purge"),
        said("PATCH admin /invocations/{inv_2}/cancel"),
        said("GET ingress /restate/invocation/{inv_2}/output"),
        said("PATCH admin /invocations/{inv_1}/kill"),
        said("GET ingress /Counter/queue/get"),
    ],
    "pause and resume": [
        *napping(),
        verb("pause"),
        is_so("paused"),
        verb("pause"),
        verb("purge"),
        OUTPUT,
        verb("resume"),
        is_so("running"),
        verb("resume", "?deployment=nope"),
        verb("kill"),
    ],
    "cancel a paused one": [
        *napping(),
        verb("pause"),
        is_so("paused"),
        verb("cancel"),
        ATTACH,
    ],
    "a live one is kept": [
        *napping(),
        verb("purge"),
        verb("purge-journal"),
        verb("restart-as-new"),
        said("DELETE admin /invocations/{inv_0}?mode=kill"),
        ATTACH,
    ],
    "a completed one": [
        GREETED,
        ATTACH,
        verb("kill"),
        verb("restart-as-new"),
        said("GET ingress /restate/invocation/{inv_1}/attach"),
        verb("restart-as-new", "?from=0"),
        verb("restart-as-new", "?from=x"),
        verb("restart-as-new", "?deployment=zz"),
        verb("purge-journal"),
        OUTPUT,
        verb("restart-as-new"),
        verb("purge-journal"),
        said("DELETE admin /invocations/{inv_0}?mode=purge"),
        said("DELETE admin /invocations/{inv_0}?mode=zzz"),
    ],
    "a workflow is not restarted": [
        sent("POST ingress /PaymentWorkflow/again/approve", "true"),
        sent("POST ingress /PaymentWorkflow/again/run/send", '{"amount": 1}'),
        said("GET ingress /restate/workflow/PaymentWorkflow/again/attach"),
        said("PATCH admin /invocations/{inv_0}/restart-as-new"),
        said("PATCH admin /invocations/{inv_0}/purge"),
        said("GET ingress /restate/workflow/PaymentWorkflow/again/output"),
    ],
    "sql": [
        GREETED,
        ATTACH,
        sent(
            "POST admin /query",
            '{"query": "select target, target_service_name, target_handler_name,'
            " target_service_ty, status, completion_result, invoked_by, retry_count"
            " from sys_invocation where id = '{inv_0}'\"}",
            headers=SQL,
        ),
        sent(
            "POST admin /query",
            '{"query": "select index, entry_type, name from sys_journal'
            " where id = '{inv_0}' order by index\"}",
            headers=SQL,
        ),
        sent("POST admin /query", '{"query": "selec"}', headers=SQL),
        sent("POST admin /query", '{"query": "delete from sys_invocation"}', headers=SQL),
        sent("POST admin /query", '{"query": "select * from nope"}', headers=SQL),
        sent("POST admin /query", "{}", headers=SQL),
        said("GET admin /query"),
    ],
}

FILES = {"ingress.json": INGRESS, "admin.json": ADMIN}


def recorded(program: Callable[[str], Path], folder: Path) -> dict[str, Conversations]:
    """What a server that is started for it answers, by file."""
    with (
        RestateServer(program, folder) as server,
        Endpoint(nbdurable.app(SERVICES), port=0) as endpoint,
    ):
        server.register(endpoint.url)
        return {
            file: {about: _played(server, asked) for about, asked in conversations.items()}
            for file, conversations in FILES.items()
        }


def _played(server: RestateServer, asked: list[Exchange]) -> list[Exchange]:
    player = Player(server.ingress_url, server.admin_url)
    return [msgspec.structs.replace(one, answer=player.play(one)) for one in asked]


def main() -> None:
    with tempfile.TemporaryDirectory() as programs, tempfile.TemporaryDirectory() as folder:
        program = functools.cache(lambda name: installed(name, Path(programs)))
        for file, conversations in recorded(program, Path(folder)).items():
            write(file, conversations)


if __name__ == "__main__":
    main()
