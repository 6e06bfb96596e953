"""The admin API, of what is registered: services, deployments, the state of keys.

A deployment is the code of one revision of a service, and where it is loaded. Processes bring their
handlers with them, so none is registered by its address, and none has to be removed.

Source: restate-semantics.md, 3.1; restate-http-observed.md, "Admin".
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.routing import BaseRoute, Route

from nbdurable import __version__
from nbdurable.client.operator import Operator
from nbdurable.client.questions import Deployment
from nbdurable.core.manifest import HandlerManifest, ServicePatch
from nbdurable.core.values import ObjectId
from nbdurable.durations import parse_duration
from nbdurable.server.admin import VERSION_MAX, VERSION_MIN
from nbdurable.server.answers import Answer, json_answer
from nbdurable.server.bodies import body_of, refused
from nbdurable.server.descriptions import (
    brief_service_of,
    deployment_of,
    handler_of,
    service_of,
)
from nbdurable.server.openapi import openapi_of

_NOT_BY_ADDRESS: Final = (
    "the handlers of this engine live in the processes that define them, so nothing is registered"
    " by an address. Define the service in a cell or in a script that opens this journal; to serve"
    " handlers that listen somewhere, run restate-server"
)
_NOT_REMOVED: Final = (
    "nothing has to be removed: this deployment is code that a process has brought, and it goes"
    " with its process. What ran on it goes on with the next revision that is loaded"
)
_RULES_ARE_SETTINGS: Final = (
    "rules are settings of whoever owns the journal, and are kept where settings are: say"
    " service_concurrency or scope_concurrency in [tool.nbdurable] or by NBDURABLE_*, and start the"
    " owner again. The table sys_rules shows those that hold"
)


class _Patch(msgspec.Struct):
    """As the official CLI sends it: all fields, those to be left as they are null."""

    public: bool | None = None
    idempotency_retention: str | None = None
    workflow_completion_retention: str | None = None
    journal_retention: str | None = None
    inactivity_timeout: str | None = None
    abort_timeout: str | None = None


class _StateEdit(msgspec.Struct):
    object_key: str
    new_state: dict[str, list[int] | str]
    version: str | None = None
    scope: str | None = None


class _Services:
    """Stateless; its methods are endpoints of Starlette."""

    def __init__(self, operator: Operator, ingress_url: str) -> None:
        self._operator = operator
        self._ingress_url = ingress_url

    # -- services -----------------------------------------------------------------------------

    async def list_services(self, request: Request) -> Answer:
        settings = await self._operator.settings()
        latest = [d for d in await self._operator.deployments() if d.is_latest]
        return json_answer(200, {"services": [service_of(d, settings) for d in latest]})

    async def describe_service(self, request: Request) -> Answer:
        deployment = await self._latest(request)
        return json_answer(200, service_of(deployment, await self._operator.settings()))

    async def list_handlers(self, request: Request) -> Answer:
        deployment = await self._latest(request)
        described = service_of(deployment, await self._operator.settings())
        return json_answer(200, {"handlers": described["handlers"]})

    async def describe_handler(self, request: Request) -> Answer:
        deployment = await self._latest(request)
        handler = self._handler(deployment, request.path_params["handler"])
        settings = await self._operator.settings()
        return json_answer(200, handler_of(deployment.manifest, handler, settings))

    async def openapi(self, request: Request) -> Answer:
        deployment = await self._latest(request)
        content = openapi_of(deployment.manifest, deployment.revision, self._ingress_url)
        return json_answer(200, content)

    async def patch_service(self, request: Request) -> Answer:
        name = request.path_params["service"]
        await self._latest(request)
        patch = await body_of(request, _Patch)
        await self._operator.patch_service(
            name,
            ServicePatch(
                public=patch.public,
                idempotency_retention_ms=_ms("idempotency_retention", patch.idempotency_retention),
                workflow_retention_ms=_ms(
                    "workflow_completion_retention", patch.workflow_completion_retention
                ),
                journal_retention_ms=_ms("journal_retention", patch.journal_retention),
                inactivity_timeout_ms=_ms("inactivity_timeout", patch.inactivity_timeout),
                abort_timeout_ms=_ms("abort_timeout", patch.abort_timeout),
            ),
        )
        return await self.describe_service(request)

    # -- state --------------------------------------------------------------------------------

    async def edit_state(self, request: Request) -> Answer:
        edit = await body_of(request, _StateEdit)
        of = ObjectId(service=request.path_params["service"], key=edit.object_key, scope=edit.scope)
        values = {name: _bytes(name, value) for name, value in edit.new_state.items()}
        await self._operator.edit_state(of, values, edit.version)
        return Answer(202)

    async def show_state(self, request: Request) -> Answer:
        """Not Restate's, where state is read by SQL: it gives the version that an edit can name."""
        key = request.query_params.get("object_key")
        if key is None:
            raise refused(400, "name the key: ?object_key=…")
        await self._latest(request)
        of = ObjectId(
            service=request.path_params["service"],
            key=key,
            scope=request.query_params.get("scope"),
        )
        found = await self._operator.state(of)
        state = {name: list(value) for name, value in found.values.items()}
        return json_answer(200, {"object_key": key, "state": state, "version": found.version})

    # -- deployments --------------------------------------------------------------------------

    async def list_deployments(self, request: Request) -> Answer:
        listed = [
            deployment_of(deployment, [brief_service_of(deployment)])
            for deployment in await self._operator.deployments()
        ]
        return json_answer(200, {"deployments": listed})

    async def describe_deployment(self, request: Request) -> Answer:
        deployment = await self._deployment(request)
        described = service_of(deployment, await self._operator.settings())
        return json_answer(200, deployment_of(deployment, [described]))

    async def register(self, request: Request) -> Answer:
        raise refused(501, _NOT_BY_ADDRESS)

    async def remove(self, request: Request) -> Answer:
        await self._deployment(request)
        raise refused(501, _NOT_REMOVED)

    # -- inside -------------------------------------------------------------------------------

    async def _latest(self, request: Request) -> Deployment:
        name = request.path_params["service"]
        for deployment in await self._operator.deployments():
            if deployment.is_latest and deployment.manifest.name == name:
                return deployment
        raise refused(404, f"The requested service '{name}' does not exist")

    def _handler(self, deployment: Deployment, name: str) -> HandlerManifest:
        handler = deployment.manifest.handler(name)
        if handler is None:
            raise refused(
                404,
                f"The requested handler '{name}' on service '{deployment.manifest.name}' does not"
                " exist",
            )
        return handler

    async def _deployment(self, request: Request) -> Deployment:
        wanted = request.path_params["deployment"]
        for deployment in await self._operator.deployments():
            if deployment.id == wanted:
                return deployment
        raise refused(404, f"The requested deployment '{wanted}' does not exist")


def service_routes(operator: Operator, ingress_url: str) -> list[BaseRoute]:
    of = _Services(operator, ingress_url)

    async def health(request: Request) -> Answer:
        return Answer(200)

    async def version(request: Request) -> Answer:
        content: dict[str, Any] = {
            "version": __version__,
            "min_admin_api_version": VERSION_MIN,
            "max_admin_api_version": VERSION_MAX,
            "ingress_endpoint": f"{ingress_url}/",
            "features": {},
        }
        return json_answer(200, content)

    async def cluster_health(request: Request) -> Answer:
        return json_answer(200, {"cluster_name": "nbdurable"})

    async def subscriptions(request: Request) -> Answer:
        return json_answer(200, {"subscriptions": []})

    async def kafka_clusters(request: Request) -> Answer:
        return json_answer(200, {"clusters": []})

    async def set_rule(request: Request) -> Answer:
        raise refused(501, _RULES_ARE_SETTINGS)

    service = "/services/{service}"
    deployment = "/deployments/{deployment}"
    return [
        Route("/health", health),
        Route("/version", version),
        Route("/cluster-health", cluster_health),
        Route("/subscriptions", subscriptions),
        Route("/kafka-clusters", kafka_clusters),
        Route("/limits/rules", set_rule, methods=["PUT"]),
        Route("/limits/rules/bulk-delete", set_rule, methods=["POST"]),
        Route("/services", of.list_services),
        Route(service, of.describe_service),
        Route(service, of.patch_service, methods=["PATCH"]),
        Route(f"{service}/handlers", of.list_handlers),
        Route(f"{service}/handlers/{{handler}}", of.describe_handler),
        Route(f"{service}/openapi", of.openapi),
        Route(f"{service}/state", of.edit_state, methods=["POST"]),
        Route(f"{service}/state", of.show_state),
        Route("/deployments", of.list_deployments),
        Route("/deployments", of.register, methods=["POST"]),
        Route(deployment, of.describe_deployment),
        Route(deployment, of.remove, methods=["DELETE"]),
    ]


def _ms(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return parse_duration(text)
    except ValueError as error:
        raise refused(422, f"{name}: {error}") from None


def _bytes(name: str, value: list[int] | str) -> bytes:
    """Bytes as numbers, as the official CLI sends them; a text is its UTF-8."""
    try:
        return value.encode() if isinstance(value, str) else bytes(value)
    except ValueError as error:
        raise refused(422, f"new_state.{name}: {error}") from None
