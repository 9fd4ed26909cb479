"""What the agent answers on its control socket: `kubeedge status`, `ping`, `publish`, `image`, `reset` and their like.

GET    /v1/status /v1/links /v1/routes /v1/sync
POST   /v1/ping {"node", "count", "interval"}
GET    /v1/webservices                  POST   /v1/webservices {"name", "target", "access"}
DELETE /v1/webservices/NAME
POST   /v1/webservices/NAME/tokens      DELETE /v1/webservices/NAME/tokens
GET    /v1/images                       POST   /v1/images/import {"path", "names"}
POST   /v1/images/pull {"name", "user", "password"}    /v1/images/remove {"name"}
POST   /v1/images/save {"name", "path"}                /v1/images/prune
GET    /v1/mesh/services /v1/mesh/endpoints /v1/mesh/policies /v1/mesh/dns /v1/mesh/trace/NAME
POST   /v1/stop {"pods"}
       /kubelet/...                     the kubelet API of this node
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kubeedge.agent.parts import Parts
from kubeedge.agent.status import links, routes, status, sync_status
from kubeedge.control.requests import optional_text, ping_request, request_object
from kubeedge.errors import NotFound

if TYPE_CHECKING:
    from kubeedge.appengine.server import KubeletServer
    from kubeedge.beehive.supervisor import Supervisor
    from kubeedge.kit.http1 import Request, Response, Upgrade

_STOP_AFTER = 0.1  # seconds; until then the answer is on its way


class AgentControl:
    """The routes of a `kubeedge.control.module.ControlServer`."""

    def __init__(self, parts: Parts, supervisor: Callable[[], Supervisor]) -> None:
        """`supervisor`: it is made after its modules, of which the control socket is one."""
        self._parts = parts
        self._supervisor = supervisor
        self._kubelet: KubeletServer | None = None

    async def answer(self, request: Request) -> dict[str, Any] | None:
        """The answer to a request; None when there is no such route here. Raises KubeEdgeError."""
        parts = self._parts
        match request.method, request.path.strip("/").split("/"):
            case "GET", ["v1", "status"]:
                return await status(parts, self._supervisor().states())
            case "GET", ["v1", "links"]:
                return links(parts)
            case "GET", ["v1", "routes"]:
                return routes(parts)
            case "GET", ["v1", "sync"]:
                return await sync_status(parts)
            case "POST", ["v1", "ping"]:
                body = await request_object(request)
                count, interval = ping_request(body)
                return await parts.network.ping(str(body.get("node", "")), count=count, interval=interval)
            case method, ["v1", "webservices", *rest]:
                return await self._webservices(method, rest, request)
            case method, ["v1", "images", *rest] if parts.engine is not None:
                return await self._images(method, rest, request)
            case "GET", ["v1", "mesh", *rest]:
                return self._mesh(rest)
            case "POST", ["v1", "stop"]:
                return await self._stop(request)
        return None

    async def kubelet(self, request: Request) -> Response | Upgrade:
        """The kubelet API of this node, for root on it: `kubeedge pods`, `logs` and `exec`. Raises KubeEdgeError."""
        from kubeedge.appengine.server import KubeletServer

        if self._parts.engine is None:
            raise NotFound("pods are switched off on this node: modules.appengine.enable")
        self._kubelet = self._kubelet or KubeletServer(self._parts.engine, lambda: "")
        return await self._kubelet.answer(request)

    async def _webservices(self, method: str, rest: list[str], request: Request) -> dict[str, Any] | None:
        published = self._parts.published
        match method, rest:
            case "GET", []:
                return await published.list()
            case "POST", []:
                body = await request_object(request)
                target, access = optional_text(body, "target"), optional_text(body, "access")
                return await published.publish(str(body.get("name", "")), target, access)
            case "DELETE", [name]:
                return await published.unpublish(name)
            case "POST", [name, "tokens"]:
                return await published.new_token(name)
            case "DELETE", [name, "tokens"]:
                return await published.revoke_tokens(name)
        return None

    def _mesh(self, rest: list[str]) -> dict[str, Any] | None:
        match rest:
            case ["services"]:
                return self._parts.services.services()
            case ["policies"]:
                return self._parts.services.policies()
            case ["endpoints"]:
                return self._parts.services.endpoints()
            case ["dns"]:
                return self._parts.services.names()
            case ["trace", *name]:
                return self._trace("/".join(name))
        return None

    def _trace(self, name: str) -> dict[str, Any]:
        """With the routes of this node's Gateways, if it has some."""
        found, gateways = self._parts.services.trace(name), self._parts.gateways
        if gateways is None:
            return found
        namespace, _, service = found["service"].partition("/")
        return {**found, "gateways": gateways.trace(namespace, service)}

    async def _images(self, method: str, rest: list[str], request: Request) -> dict[str, Any] | None:
        engine = self._parts.engine
        assert engine is not None
        match method, rest:
            case "GET", []:
                rows = await engine.images.table()
                return {"images": [name for row in rows for name in row["names"]], "details": rows}
            case "POST", ["import"]:
                body = await request_object(request)
                names = [str(n) for n in body.get("names") or ()]
                return {"names": await engine.import_image(str(body.get("path", "")), names)}
            case "POST", [verb]:
                return await self._image_verb(verb, await request_object(request))
        return None

    async def _image_verb(self, verb: str, body: dict[str, Any]) -> dict[str, Any] | None:
        engine = self._parts.engine
        assert engine is not None
        name = str(body.get("name", ""))
        match verb:
            case "pull":
                user, password = str(body.get("user") or ""), str(body.get("password") or "")
                return await engine.images.pull(name, user, password)
            case "remove":
                return await engine.images.remove(name)
            case "save":
                return await engine.images.save(name, str(body.get("path", "")))
            case "prune":
                return await engine.images.prune()
        return None

    async def _stop(self, request: Request) -> dict[str, Any]:
        if (await request_object(request)).get("pods") and self._parts.engine is not None:
            await self._parts.engine.remove_all()
        asyncio.get_running_loop().call_later(_STOP_AFTER, self._supervisor().stop)
        return {}
