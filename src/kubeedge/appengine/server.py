"""The kubelet's API of this node. Served on KubeBus L4 port 10250, to the cloud alone, and to the node's own API.

Lives elsewhere: exec, attach and port-forward (streaming_sessions.py).
"""

from __future__ import annotations

import asyncio
import datetime
import itertools
import time
import zlib
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import TYPE_CHECKING

from kubeedge.appengine import logs, stats
from kubeedge.appengine.module import AppEngine
from kubeedge.errors import Invalid, KubeEdgeError
from kubeedge.kit.http1 import (
    Request,
    Response,
    Upgrade,
    json_response,
    serve_connection,
    text_response,
)
from kubeedge.kit.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from kubeedge.appengine.figures import Figures
    from kubeedge.appengine.streaming_sessions import StreamingSessions


_GZIP, _LEVEL = 31, 3  # wbits of zlib for gzip; text of metrics shrinks to a tenth, at little cost
_STREAMS = {"All": b"", "Stdout": b"stdout", "Stderr": b"stderr"}


class KubeletServer:
    """The paths of a kubelet. Authentication is the connection's: only the cloud can reach the port."""

    def __init__(self, engine: AppEngine, own_metrics: Callable[[], str] = lambda: "") -> None:
        """`own_metrics`: the exposition of the agent's own metrics, for /metrics."""
        self._engine = engine
        self._own_metrics = own_metrics
        self._made: Figures | None = None
        self._sessions: StreamingSessions | None = None  # of exec, attach and port-forward; made for the first one

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """HTTP/1.1 on one L4 connection, for as many requests as come."""
        await serve_connection(reader, writer, self.answer)

    async def answer(self, request: Request) -> Response | Upgrade:
        """404 for every other path or method. A bad option of a log request raises Invalid."""
        match request.method, request.path.strip("/").split("/"):
            case "GET", ["healthz"]:
                return text_response(200, "ok")
            case "GET", ["pods"]:
                return json_response(200, {"kind": "PodList", "apiVersion": "v1", "items": self._engine.pod_list()})
            case "GET", ["stats", "summary"]:
                return json_response(200, stats.summary(await self._engine.use()))
            case "GET", ["metrics", "resource"]:
                return _metrics(request, stats.resource_metrics(await self._engine.use()))
            case "GET", ["metrics"]:
                return _metrics(request, itertools.chain(await self._figures().kubelet(), [self._own_metrics()]))
            case "GET", ["metrics", "cadvisor"]:
                return _metrics(request, await self._figures().cadvisor())
            case "GET", ["metrics", "probes"]:
                return _metrics(request, self._figures().probes())
            case "GET", ["containerLogs", namespace, pod, container]:
                return self._logs(request, namespace, pod, container)
            case "GET" | "POST", [("exec" | "attach" | "portForward") as verb, namespace, pod, *rest] if len(rest) <= 2:
                return await self._session(request, verb, namespace, pod, rest)
        return text_response(404, f"no {request.method} {request.path} on this node\n")

    def _figures(self) -> Figures:
        from kubeedge.appengine.figures import Figures  # an agent without such requests does not load it

        self._made = self._made or Figures(self._engine)
        return self._made

    async def _session(
        self, request: Request, verb: str, namespace: str, pod: str, rest: list[str]
    ) -> Response | Upgrade:
        """`rest`: a uid, which may be left out, and a container, which port-forward has not."""
        from kubeedge.appengine import streaming_sessions  # an agent without such requests does not load it

        serving = self._sessions = self._sessions or streaming_sessions.StreamingSessions(self._engine)
        try:
            match verb, rest:
                case "exec", [*_, container]:
                    return await serving.exec(request, namespace, pod, container)
                case "attach", [*_, container]:
                    return await serving.attach(request, namespace, pod, container)
                case "portForward", [] | [_]:
                    return await serving.forward(request, namespace, pod)
        except KubeEdgeError as exc:
            return streaming_sessions.answer_to(exc)
        return text_response(404, f"no {request.method} {request.path} on this node\n")

    def _logs(self, request: Request, namespace: str, pod: str, container: str) -> Response:
        query = {name: values[-1] for name, values in request.query.items()}
        try:
            options = logs.LogOptions(
                follow=query.get("follow") == "true",
                tail=int(query["tailLines"]) if "tailLines" in query else None,
                timestamps=query.get("timestamps") == "true",
                since=_since(query),
                limit_bytes=int(query["limitBytes"]) if "limitBytes" in query else None,
                stream=_STREAMS[query.get("stream", "All")],
            )
        except (ValueError, KeyError) as exc:
            raise Invalid(f"log options: {exc}") from exc
        if options.stream and options.tail is not None:
            raise Invalid("log options: tailLines and a single stream exclude each other")
        found = self._engine.find_log(namespace, pod, container, previous=query.get("previous") == "true")
        if isinstance(found, str):
            return text_response(400, found)  # as a kubelet answers: an API server quotes it to its user
        path, running = found
        return Response(200, [("content-type", "text/plain")], logs.read(path, options, running))


def _metrics(request: Request, parts: Iterable[str]) -> Response:
    """A family at a time: of many pods the whole would be megabytes. Compressed for who takes that, as a kubelet does: lines may be metered."""
    headers = [("content-type", CONTENT_TYPE)]
    packer = zlib.compressobj(_LEVEL, wbits=_GZIP) if _takes_gzip(request.header("accept-encoding") or "") else None
    if packer is not None:
        headers.append(("content-encoding", "gzip"))

    async def body() -> AsyncGenerator[bytes, None]:
        for part in parts:
            data = part.encode() if packer is None else packer.compress(part.encode())
            if data:
                yield data
        if packer is not None:
            yield packer.flush()

    return Response(200, headers, body())


def _takes_gzip(accepted: str) -> bool:
    """Whether an Accept-Encoding header accepts gzip (RFC 9110 section 12.5.3)."""
    for coding in accepted.lower().split(","):
        name, _, weight = coding.partition(";")
        if name.strip() == "gzip":
            return weight.replace(" ", "").rstrip("0.") != "q="
    return False


def _since(query: dict[str, str]) -> float | None:
    """The time from which lines of a log are wanted, in seconds since 1970; None: all of them. Raises ValueError."""
    if "sinceSeconds" in query:
        return time.time() - int(query["sinceSeconds"])
    if "sinceTime" in query:
        return datetime.datetime.fromisoformat(query["sinceTime"].replace("Z", "+00:00")).timestamp()
    return None
