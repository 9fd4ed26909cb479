"""Module "control": HTTP over a unix socket. Who may open the socket is decided by the mode of its file.

An answer is a JSON object, an error is {"error", "next"}: what went wrong, and what the user can do about it.
GET /metrics is the same for every process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from kubeedge.errors import Conflict, Invalid, KubeEdgeError, NotFound, Unavailable
from kubeedge.kit.http1 import BodyTooLarge, Request, Response, Upgrade, json_response, start_unix_server

#: the JSON object that answers a request; None: there is no such route. It may raise any KubeEdgeError.
Routes = Callable[[Request], Awaitable[Mapping[str, Any] | None]]

Kubelet = Callable[[Request], Awaitable[Response | Upgrade]]
_KUBELET = "/kubelet"


class ControlServer:
    """Module "control" of either process."""

    name = "control"

    def __init__(self, path: Path, routes: Routes, metrics: Callable[[], str], kubelet: Kubelet | None = None) -> None:
        """`path`: of the socket; `metrics`: the text of GET /metrics; `kubelet` answers what is below /kubelet."""
        self._path = path
        self._routes = routes
        self._metrics = metrics
        self._kubelet = kubelet

    async def run(self, ready: asyncio.Event) -> None:
        """Serves the socket, and removes its file at the end. Raises OSError when it cannot be made."""
        server = await start_unix_server(self._path, self.handle)
        try:
            ready.set()
            await server.serve_forever()
        finally:
            server.close()
            self._path.unlink(missing_ok=True)

    async def handle(self, request: Request) -> Response | Upgrade:
        """Answer one request. Errors of the routes become answers; nothing is raised."""
        try:
            if (request.method, request.path) == ("GET", "/metrics"):
                from kubeedge.metrics.module import response  # here: few agents are asked

                return response(self._metrics())
            if self._kubelet is not None and request.target.startswith(f"{_KUBELET}/"):
                request.target = request.target.removeprefix(_KUBELET)
                return await self._kubelet(request)
            answer = await self._routes(request)
            if answer is None:
                raise NotFound(f"no {request.method} {request.path} here")
            return json_response(200, answer)
        except KubeEdgeError as exc:
            return json_response(error_status(exc), error_object(exc))


def error_object(exc: KubeEdgeError) -> dict[str, str]:
    """{"error", "next"}: the notes of an error are advice."""
    return {"error": str(exc), "next": "; ".join(getattr(exc, "__notes__", ()))}


def error_status(exc: KubeEdgeError) -> int:
    """The HTTP status of an error."""
    match exc:
        case Invalid():
            return 400
        case NotFound():
            return 404
        case Conflict():
            return 409
        case BodyTooLarge():
            return 413
        case Unavailable():
            return 503
    return 500
