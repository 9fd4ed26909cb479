"""The kubelet's API of this node, as far as the cloud needs it: logs. Served on KubeBus L4 port 10250, to the cloud alone."""

from __future__ import annotations

import asyncio
import datetime
import json
import time

from kubeedge.appengine import logs
from kubeedge.appengine.module import AppEngine
from kubeedge.errors import Invalid
from kubeedge.kit.http1 import Request, Response, json_response, serve_connection, text_response


class KubeletServer:
    """The kubelet paths /healthz, /pods and /containerLogs. Authentication is the connection's: only the cloud can reach the port."""

    def __init__(self, engine: AppEngine) -> None:
        self._engine = engine

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """HTTP/1.1 on one L4 connection, for as many requests as come."""
        await serve_connection(reader, writer, self.answer)

    async def answer(self, request: Request) -> Response:
        """404 for every other path or method. A bad option of a log request raises Invalid."""
        match request.method, request.path.strip("/").split("/"):
            case "GET", ["healthz"]:
                return text_response(200, "ok")
            case "GET", ["pods"]:
                return json_response(200, {"kind": "PodList", "apiVersion": "v1", "items": self._engine.pod_list()})
            case "GET", ["containerLogs", namespace, pod, container]:
                return self._logs(request, namespace, pod, container)
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
            )
        except ValueError as exc:
            raise Invalid(f"log options: {exc}") from exc
        found = self._engine.find_log(namespace, pod, container, previous=query.get("previous") == "true")
        if isinstance(found, str):
            return Response(400, [("content-type", "application/json")], json.dumps({"message": found}).encode())
        path, running = found
        return Response(200, [("content-type", "text/plain")], logs.read(path, options, running))


def _since(query: dict[str, str]) -> float | None:
    """Raises ValueError."""
    if "sinceSeconds" in query:
        return time.time() - int(query["sinceSeconds"])
    if "sinceTime" in query:
        return datetime.datetime.fromisoformat(query["sinceTime"].replace("Z", "+00:00")).timestamp()
    return None
