"""The admin API: what is registered and how, the state of keys, what people do to invocations."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from support.http import JSON, Reply
from support.served import Served, counter

from nbdurable.core.ids import random_invocation_id

NOBODY = random_invocation_id(404)
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)")


@pytest.fixture(scope="module")
def patched(make_served: Callable[..., Served]) -> Served:
    """One whose services may be changed without any other test being the wiser."""
    return make_served()


def send_json(served: Served, method: str, path: str, content: Any) -> Reply:
    return served.admin(method, path, JSON, json.dumps(content))


def message_of(reply: Reply) -> str:
    content = reply.json
    assert content.keys() == {"message", "restate_code"}, content
    return str(content["message"])


# -- health and versions --------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "/v2", "/v3", "/v4"])
def test_the_versions_that_the_official_cli_knows_are_served(served: Served, prefix: str):
    health = served.admin("GET", f"{prefix}/health")
    assert (health.status, health.body) == (200, b"")
    version = served.admin("GET", f"{prefix}/version").json
    assert (version["min_admin_api_version"], version["max_admin_api_version"]) == (2, 4)
    assert version["ingress_endpoint"] == f"{served.serving.ingress_url}/"
    # Without this object the CLI warns, and speaks no version at all.
    assert version["features"] == {}
    assert served.admin("GET", f"{prefix}/services").status == 200


@pytest.mark.parametrize(("prefix", "status"), [("/v1", 400), ("/v0", 400), ("/v5", 404)])
def test_other_versions_are_not(served: Served, prefix: str, status: int):
    reply = served.admin("GET", f"{prefix}/health")
    assert reply.status == status
    assert "versions between V2 and V4" in message_of(reply)


@pytest.mark.parametrize("path", ["/nope", "/v4/nope", "/services/Greeter/nope", "/v4", "/"])
def test_what_is_nowhere_is_not_found(served: Served, path: str):
    assert served.admin("GET", path).status == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/services"), ("GET", f"/invocations/{NOBODY}"), ("POST", "/v4/health")],
)
def test_another_method_is_not_allowed(served: Served, method: str, path: str):
    reply = served.admin(method, path)
    assert reply.status == 405
    assert "allow" in reply.headers
    assert f"does not take {method}" in message_of(reply)


def test_all_methods_of_a_path_are_allowed(served: Served):
    reply = served.admin("DELETE", "/services/Greeter")
    assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD, PATCH")


def test_kafka_is_empty(served: Served):
    assert served.admin("GET", "/subscriptions").json == {"subscriptions": []}
    assert served.admin("GET", "/kafka-clusters").json == {"clusters": []}
    assert served.admin("GET", "/cluster-health").status == 200


@pytest.mark.parametrize(
    ("method", "path"), [("PUT", "/limits/rules"), ("POST", "/limits/rules/bulk-delete")]
)
def test_rules_are_not_set_by_http(served: Served, method: str, path: str):
    reply = send_json(served, method, path, {})
    assert reply.status == 501
    assert "scope_concurrency" in message_of(reply)


# -- services -------------------------------------------------------------------------------------


def test_services_are_listed_with_what_the_cli_needs(served: Served):
    listed = served.admin("GET", "/services").json["services"]
    assert [service["name"] for service in listed] == [s.name for s in served.services]
    for service in listed:
        assert service.keys() >= {"name", "ty", "handlers", "deployment_id", "revision", "public"}
        for handler in service["handlers"]:
            assert handler.keys() >= {"name", "input_description", "output_description"}


def test_a_service_is_described(served: Served):
    service = served.admin("GET", "/services/Greeter").json
    assert (service["ty"], service["revision"], service["public"]) == ("Service", 1, True)
    assert (service["documentation"], service["metadata"]) == ("Says hello.", {"team": "hello"})
    assert service["journal_retention"] == "30d"
    assert service["inactivity_timeout"] == "1m"
    assert service["retry_policy"] == {
        "initial_interval": "500ms",
        "exponentiation_factor": 2.0,
        "max_attempts": 70,
        "max_interval": "1m",
        "on_max_attempts": "Pause",
    }
    handlers = {handler["name"]: handler for handler in service["handlers"]}
    assert handlers["greet"] == {
        "name": "greet",
        "documentation": "Say hello.",
        "public": True,
        "input_description": "JSON string",
        "output_description": "JSON string",
        "input_json_schema": {"type": "string"},
        "output_json_schema": {"type": "string"},
    }
    assert handlers["wave"]["input_description"] == handlers["wave"]["output_description"] == "none"
    assert handlers["echo"]["input_description"] == "*/*"
    assert handlers["echo"]["output_description"] == "application/octet-stream"
    # What differs from its service is said of the handler.
    assert handlers["crash"]["retry_policy"]["max_attempts"] == 1


def test_kinds_have_restates_names(served: Served):
    kinds = {
        name: (service["ty"], {h["name"]: h["ty"] for h in service["handlers"]})
        for name in ("Counter", "PaymentWorkflow")
        if (service := served.admin("GET", f"/services/{name}").json)
    }
    assert kinds["Counter"][0] == "VirtualObject"
    assert (kinds["Counter"][1]["add"], kinds["Counter"][1]["get"]) == ("Exclusive", "Shared")
    assert kinds["PaymentWorkflow"] == ("Workflow", {"run": "Workflow", "approve": "Shared"})
    workflow = served.admin("GET", "/services/PaymentWorkflow").json
    assert workflow["workflow_completion_retention"] == "30d"
    assert "state_retention" not in workflow


def test_handlers_are_listed_and_described(served: Served):
    handlers = served.admin("GET", "/services/Counter/handlers").json["handlers"]
    one = served.admin("GET", "/services/Counter/handlers/add").json
    assert one in handlers
    assert (one["name"], one["ty"]) == ("add", "Exclusive")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/services/Nope", "The requested service 'Nope' does not exist"),
        ("/services/Nope/handlers", "The requested service 'Nope' does not exist"),
        ("/services/Nope/openapi", "The requested service 'Nope' does not exist"),
        (
            "/services/Counter/handlers/zz",
            "The requested handler 'zz' on service 'Counter' does not exist",
        ),
        ("/deployments/dp_nope", "The requested deployment 'dp_nope' does not exist"),
    ],
)
def test_what_is_not_registered_is_not_found(served: Served, path: str, message: str):
    reply = served.admin("GET", path)
    assert (reply.status, message_of(reply)) == (404, message)


# -- patches --------------------------------------------------------------------------------------

CLI_PATCH = dict.fromkeys(
    (
        "public",
        "idempotency_retention",
        "workflow_completion_retention",
        "journal_retention",
        "inactivity_timeout",
        "abort_timeout",
    )
)


def test_a_patch_changes_what_it_names_and_leaves_what_is_null(patched: Served):
    before = patched.admin("GET", "/services/Greeter").json
    reply = send_json(
        patched, "PATCH", "/services/Greeter", {**CLI_PATCH, "idempotency_retention": "2h"}
    )
    assert reply.status == 200
    assert reply.json == {**before, "idempotency_retention": "2h"}
    options = {"journal_retention": "3days", "inactivity_timeout": "PT5M", "abort_timeout": "90s"}
    changed = send_json(patched, "PATCH", "/services/Greeter", options).json
    assert (changed["idempotency_retention"], changed["journal_retention"]) == ("2h", "3d")
    assert (changed["inactivity_timeout"], changed["abort_timeout"]) == ("5m", "1m 30s")


def test_a_service_made_private_is_closed_at_once_and_opened_again(patched: Served):
    assert patched.post("/Counter/p/add", "1").status == 200
    reply = send_json(patched, "PATCH", "/services/Counter", {"public": False})
    assert (reply.status, reply.json["public"]) == (200, False)
    refused = patched.post("/Counter/p/add", "1")
    assert (refused.status, refused.message) == (400, "the invoked service is not public")
    assert patched.post("/Counter/p/add/send", "1").status == 400
    send_json(patched, "PATCH", "/services/Counter", {"public": True})
    assert patched.post("/Counter/p/add", "1").body == b"2"


@pytest.mark.parametrize(
    ("path", "content", "status"),
    [
        ("/services/Nope", {"public": True}, 404),
        ("/services/Greeter", {"workflow_completion_retention": "1h"}, 400),
        ("/services/Greeter", {"inactivity_timeout": "5"}, 422),
        ("/services/Greeter", {"public": "x"}, 422),
        ("/services/Greeter", [], 422),
    ],
)
def test_a_patch_without_sense_is_refused(patched: Served, path: str, content: Any, status: int):
    reply = send_json(patched, "PATCH", path, content)
    assert reply.status == status
    assert message_of(reply)


@pytest.mark.parametrize(("content_type", "body", "status"), [("", "{}", 415), ("x", "{}", 415)])
def test_only_json_is_read(patched: Served, content_type: str, body: str, status: int):
    """A form of another page can send other types without asking first."""
    headers = {"content-type": content_type} if content_type else {}
    assert patched.admin("PATCH", "/services/Greeter", headers, body).status == status
    assert patched.admin("POST", "/services/Counter/state", headers, body).status == status


# -- deployments ----------------------------------------------------------------------------------


def test_each_revision_is_a_deployment(patched: Served):
    before = patched.admin("GET", "/services/Counter").json
    patched.wait(patched.client.register(counter, digest="another"))
    service = patched.admin("GET", "/services/Counter").json
    assert (service["revision"], before["revision"]) == (2, 1)
    listed = patched.admin("GET", "/deployments").json["deployments"]
    ids = {deployment["id"] for deployment in listed}
    assert {service["deployment_id"], before["deployment_id"]} <= ids
    assert len(ids) == len(listed)
    for deployment in listed:
        assert RFC_3339.fullmatch(deployment["created_at"])
        assert deployment["uri"].startswith("nbdurable://")
        assert deployment.keys() >= {
            "protocol_type",
            "http_version",
            "min_protocol_version",
            "max_protocol_version",
        }
    one = patched.admin("GET", f"/deployments/{before['deployment_id']}").json
    assert [s["name"] for s in one["services"]] == ["Counter"]
    assert one["services"][0]["handlers"]


def test_nothing_is_registered_by_an_address(served: Served):
    body = {"uri": "http://localhost:9080/", "dry_run": True, "force": False}
    reply = send_json(served, "POST", "/deployments", body)
    assert reply.status == 501
    assert "live in the processes" in message_of(reply)


def test_no_deployment_has_to_be_removed(served: Served):
    deployment_id = served.admin("GET", "/services/Counter").json["deployment_id"]
    reply = served.admin("DELETE", f"/deployments/{deployment_id}?force=true")
    assert reply.status == 501
    assert served.admin("DELETE", "/deployments/dp_1nope").status == 404


# -- state ----------------------------------------------------------------------------------------


def edit(served: Served, key: str, state: dict[str, Any], **more: Any) -> Reply:
    content = {"object_key": key, "new_state": state, **more}
    return send_json(served, "POST", "/services/Counter/state", content)


def show(served: Served, key: str) -> Any:
    return served.admin("GET", f"/services/Counter/state?object_key={key}").json


def test_an_edit_replaces_all_state_of_a_key(served: Served):
    served.post("/Counter/edited/add", "1")
    served.post("/Counter/edited/keep", '"x"')
    reply = edit(served, "edited", {"count": [52, 49]})
    assert (reply.status, reply.body) == (202, b"")
    assert served.post("/Counter/edited/add", "1").body == b"42"
    assert show(served, "edited")["state"] == {"count": [52, 50]}
    assert edit(served, "edited", {}).status == 202
    assert served.ingress("GET", "/Counter/edited/get").body == b"0"


def test_a_text_is_its_bytes(served: Served):
    assert edit(served, "text", {"count": "7"}).status == 202
    assert served.ingress("GET", "/Counter/text/get").body == b"7"


@pytest.mark.parametrize("version", [None, "x" * 43, "AAA"])
def test_a_version_that_others_have_made_is_taken_as_none(served: Served, version: str | None):
    """The official CLI makes its own, which says nothing to us."""
    assert edit(served, "cli", {"count": [49]}, version=version).status == 202


def test_an_edit_of_state_that_has_changed_since_is_a_conflict(served: Served):
    """Restate says 202 and drops it."""
    version = show(served, "seen")["version"]
    assert edit(served, "seen", {"count": [49]}, version=version).status == 202
    reply = edit(served, "seen", {"count": [50]}, version=version)
    assert reply.status == 409
    assert "has changed since it was read" in message_of(reply)
    assert served.ingress("GET", "/Counter/seen/get").body == b"1"


def test_an_edit_waits_for_the_lock(served: Served):
    sent = served.ingress("GET", "/Counter/locked/hold/send").json["invocationId"]
    served.until(lambda: served.wait(served.client.invocation(sent)).status == "running")
    assert edit(served, "locked", {"count": [57]}).status == 202
    assert show(served, "locked")["state"] == {}
    assert edit(served, "locked", {}, version=show(served, "locked")["version"]).status == 409
    served.admin("PATCH", f"/invocations/{sent}/kill")
    assert served.ingress("GET", "/Counter/locked/get").body == b"9"


@pytest.mark.parametrize(
    ("path", "content", "status"),
    [
        ("/services/Greeter/state", {"object_key": "k", "new_state": {}}, 400),
        ("/services/Nope/state", {"object_key": "k", "new_state": {}}, 404),
        ("/services/Counter/state", {"new_state": {}}, 422),
        ("/services/Counter/state", {"object_key": "k", "new_state": {"a": [256]}}, 422),
        ("/services/Counter/state", {"object_key": "k", "new_state": {"a": [-1]}}, 422),
        ("/services/Counter/state", {"object_key": "k", "new_state": {"a": 1}}, 422),
        ("/services/Counter/state", {"object_key": "k", "new_state": {}, "version": 5}, 422),
    ],
)
def test_an_edit_without_sense_is_refused(served: Served, path: str, content: Any, status: int):
    reply = send_json(served, "POST", path, content)
    assert reply.status == status
    assert message_of(reply)


def test_a_key_that_is_no_text_is_nobody_s(served: Served):
    reply = served.admin("GET", "/services/Counter/state?object_key=%ff")
    assert reply.status == 400
    assert "not UTF-8" in message_of(reply)


def test_state_is_shown_of_a_key(served: Served):
    assert served.admin("GET", "/services/Counter/state").status == 400
    assert served.admin("GET", "/services/Nope/state?object_key=k").status == 404
    assert show(served, "never")["state"] == {}


# -- invocations ----------------------------------------------------------------------------------


def verb(served: Served, invocation_id: str, name: str, query: str = "") -> Reply:
    return served.admin("PATCH", f"/invocations/{invocation_id}/{name}{query}")


VERBS = ("cancel", "kill", "pause", "resume", "purge", "purge-journal", "restart-as-new")


@pytest.mark.parametrize("name", VERBS)
def test_nothing_is_done_to_nobody(served: Served, name: str):
    reply = verb(served, NOBODY, name)
    assert reply.status == 404
    assert message_of(reply) == f"The requested invocation '{NOBODY}' does not exist"
    bad = verb(served, "nope", name)
    assert bad.status == 400
    assert message_of(bad).startswith("The request field 'invocation_id' is invalid")


def napping(served: Served, seconds: int = 3_600) -> str:
    sent = served.send("/Greeter/nap", str(seconds))
    served.until(lambda: served.wait(served.client.invocation(sent)).status == "running")
    return sent


def finished(served: Served) -> str:
    return served.post("/Greeter/greet", '"ada"').headers["x-restate-id"]


def status_of(served: Served, invocation_id: str) -> str:
    return str(served.wait(served.client.invocation(invocation_id)).status)


def test_a_running_one_is_told_that_it_is_cancelled(served: Served):
    one = napping(served)
    assert verb(served, one, "cancel").status == 202
    reply = served.ingress("GET", f"/restate/attach/{one}")
    assert (reply.status, reply.message) == (409, "cancelled")
    again = verb(served, one, "cancel")
    assert (again.status, message_of(again)) == (
        409,
        f"The invocation '{one}' was already completed.",
    )


def test_one_that_has_not_begun_is_gone_at_once(served: Served):
    one = served.post("/Greeter/greet/send?delay=1h", '"ada"').json["invocationId"]
    assert verb(served, one, "cancel").status == 200
    reply = served.ingress("GET", f"/restate/attach/{one}")
    assert (reply.status, reply.message) == (409, "canceled")


@pytest.mark.parametrize("name", ["kill", "purge", "purge-journal"])
def test_a_completed_one_is_killed_no_more_and_purged(served: Served, name: str):
    one = finished(served)
    reply = verb(served, one, name)
    assert reply.status == (409 if name == "kill" else 200)
    found = served.ingress("GET", f"/restate/output/{one}").status
    assert found == (404 if name == "purge" else 200)


@pytest.mark.parametrize("name", ["purge", "purge-journal", "restart-as-new"])
def test_a_live_one_is_not_purged(served: Served, name: str):
    one = napping(served)
    reply = verb(served, one, name)
    assert reply.status == 409
    assert one in message_of(reply)
    assert verb(served, one, "kill").status == 200


def test_pause_and_resume(served: Served):
    one = napping(served)
    assert [verb(served, one, "pause").status for _ in range(2)] == [202, 200]
    assert status_of(served, one) == "paused"
    assert verb(served, one, "resume").status == 200
    served.until(lambda: status_of(served, one) == "running")
    # It runs, which is what was asked for.
    assert verb(served, one, "resume").status == 200
    assert verb(served, one, "resume", "?deployment=latest").status == 409
    verb(served, one, "pause")
    deployment_id = served.admin("GET", "/services/Greeter").json["deployment_id"]
    assert verb(served, one, "resume", f"?deployment={deployment_id}").status == 200
    verb(served, one, "kill")


@pytest.mark.parametrize("name", ["resume", "restart-as-new"])
def test_a_deployment_is_one_of_the_invocations_own_service(served: Served, name: str):
    one = finished(served) if name == "restart-as-new" else napping(served)
    other = served.admin("GET", "/services/Counter").json["deployment_id"]
    for wanted in ("dp_nope", other):
        assert verb(served, one, name, f"?deployment={wanted}").status == 400


def test_restart_as_new_runs_it_again(served: Served):
    one = finished(served)
    reply = verb(served, one, "restart-as-new")
    new = reply.json["new_invocation_id"]
    assert new != one
    assert served.ingress("GET", f"/restate/attach/{new}").body == b'"hello ada"'
    assert verb(served, one, "restart-as-new", "?from=0&deployment=keep").status == 200
    for wrong in ("x", "-1", "1" * 99, "%D9%A3"):
        assert verb(served, one, "restart-as-new", f"?from={wrong}").status == 400


def test_what_cannot_be_restarted_says_why(served: Served):
    served.post("/PaymentWorkflow/again/approve", "true")
    run = served.post("/PaymentWorkflow/again/run", '{"amount": 1}').headers["x-restate-id"]
    assert verb(served, run, "restart-as-new").status == 422
    one = finished(served)
    verb(served, one, "purge-journal")
    assert verb(served, one, "restart-as-new").status == 410


@pytest.mark.parametrize("mode", ["", "?mode=cancel", "?mode=Cancel", "?mode=kill", "?mode=Kill"])
def test_the_old_spelling_ends_as_well(served: Served, mode: str):
    one = napping(served)
    assert served.admin("DELETE", f"/invocations/{one}{mode}").status == 202
    assert served.ingress("GET", f"/restate/attach/{one}").status == 409


def test_the_old_spelling_is_not_deaf(served: Served):
    """Restate says 202 to all of these."""
    one = finished(served)
    assert served.admin("DELETE", f"/invocations/{one}").status == 409
    assert served.admin("DELETE", f"/invocations/{NOBODY}").status == 404
    assert served.admin("DELETE", f"/invocations/{one}?mode=foo").status == 400
    assert served.admin("DELETE", f"/invocations/{one}?mode=purge").status == 202
    assert served.ingress("GET", f"/restate/output/{one}").status == 404
