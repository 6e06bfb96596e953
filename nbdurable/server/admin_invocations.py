"""The admin API, of what people do to invocations.

Source: restate-http-observed.md, "Admin" (codes and texts); restate-semantics.md, 1.5.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal

from starlette.requests import Request
from starlette.routing import BaseRoute, Route

from nbdurable.client.local import LocalClient
from nbdurable.client.views import InvocationView
from nbdurable.core.ids import parse_invocation_id
from nbdurable.errors import InvocationNotFoundError
from nbdurable.server.answers import Answer, json_answer
from nbdurable.server.bodies import refused

_ENTRY_DIGITS_MAX = 9


class _Invocations:
    """Stateless; its methods are endpoints of Starlette."""

    def __init__(self, client: LocalClient) -> None:
        self._client = client

    async def cancel(self, request: Request) -> Answer:
        """202 when its handler is told; 200 when it had not begun, and is gone."""
        view = await self._view(request)
        await self._client.cancel(view.id)
        return Answer(200 if view.attempt == 0 else 202)

    async def kill(self, request: Request) -> Answer:
        await self._client.kill(_invocation_id(request))
        return Answer(200)

    async def pause(self, request: Request) -> Answer:
        view = await self._view(request)
        await self._client.pause(view.id)
        return Answer(200 if view.status == "paused" else 202)

    async def resume(self, request: Request) -> Answer:
        view = await self._view(request)
        revision = await self._revision(request, view, "keep")
        _check_begun(view, "resume")
        if revision == "keep" and view.status in ("ready", "running"):
            # It runs, which is what was asked for.
            return Answer(200)
        await self._client.resume(view.id, revision)
        return Answer(200)

    async def purge(self, request: Request) -> Answer:
        await self._client.purge(_invocation_id(request))
        return Answer(200)

    async def purge_journal(self, request: Request) -> Answer:
        await self._client.purge_journal(_invocation_id(request))
        return Answer(200)

    async def restart_as_new(self, request: Request) -> Answer:
        view = await self._view(request)
        _check_begun(view, "restart")
        if not view.is_done:
            raise refused(409, f"The invocation '{view.id}' is still running.")
        last = request.query_params.get("from", "0")
        if not (last.isascii() and last.isdigit() and len(last) <= _ENTRY_DIGITS_MAX):
            raise refused(400, f"from: {last[:40]!r} is no index of an entry")
        # What is copied ends with the entry that is named; 0 is the input alone.
        revision = await self._revision(request, view, "latest")
        new_id = await self._client.restart_as_new(view.id, int(last) + 1, revision)
        return json_answer(200, {"new_invocation_id": new_id})

    async def delete(self, request: Request) -> Answer:
        """The old spelling of three verbs."""
        mode = request.query_params.get("mode", "cancel")
        verbs: dict[str, Callable[[str], Awaitable[None]]] = {
            "cancel": self._client.cancel,
            "kill": self._client.kill,
            "purge": self._client.purge,
        }
        verb = verbs.get(mode if mode in verbs else mode[:1].lower() + mode[1:])
        if verb is None:
            raise refused(400, f"mode: {mode[:40]!r} is none of cancel, kill and purge")
        await verb(_invocation_id(request))
        return Answer(202)

    async def _revision(
        self, request: Request, view: InvocationView, default: Literal["keep", "latest"]
    ) -> int | Literal["keep", "latest"]:
        """A deployment of the invocation's own service, by its id."""
        wanted = request.query_params.get("deployment", default)
        match wanted.lower():
            case "keep" | "latest" as named:
                return named
        known = {d.id: d for d in await self._client.operator().deployments()}
        if wanted not in known:
            raise refused(
                400,
                "The query parameter 'deployment' is invalid: it is 'keep', 'latest' or the id of"
                f" a deployment of {view.service}",
            )
        manifest, revision = known[wanted].manifest, known[wanted].revision
        if manifest.name != view.service:
            raise refused(
                400, f"'{wanted}' is a deployment of {manifest.name}, not of {view.service}"
            )
        return revision

    async def _view(self, request: Request) -> InvocationView:
        invocation_id = _invocation_id(request)
        try:
            return await self._client.invocation(invocation_id)
        except InvocationNotFoundError:
            raise refused(
                404, f"The requested invocation '{invocation_id}' does not exist"
            ) from None


def _check_begun(view: InvocationView, what: str) -> None:
    if view.status in ("scheduled", "pending"):
        said = f"The invocation '{view.id}' is {view.status}: there is nothing to {what} yet."
        raise refused(425, said)


def invocation_routes(client: LocalClient) -> list[BaseRoute]:
    of = _Invocations(client)
    verbs = {
        "cancel": of.cancel,
        "kill": of.kill,
        "pause": of.pause,
        "resume": of.resume,
        "purge": of.purge,
        "purge-journal": of.purge_journal,
        "restart-as-new": of.restart_as_new,
    }
    one = "/invocations/{invocation}"
    return [
        Route(one, of.delete, methods=["DELETE"]),
        *(Route(f"{one}/{verb}", endpoint, methods=["PATCH"]) for verb, endpoint in verbs.items()),
    ]


def _invocation_id(request: Request) -> str:
    try:
        return parse_invocation_id(request.path_params["invocation"])
    except ValueError as error:
        raise refused(
            400, f"The request field 'invocation_id' is invalid. Reason: {error}"
        ) from None
