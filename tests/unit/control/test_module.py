"""The control socket: what a route returns or raises is what the client gets."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kubeedge.control.module import ControlServer
from kubeedge.control.requests import ping_request, request_object
from kubeedge.errors import Conflict, Invalid, KubeEdgeError, Misuse, NotFound, Unavailable
from kubeedge.kit.http1 import Connection, Request


async def routes(request: Request) -> Mapping[str, Any] | None:
    match request.method, request.path:
        case "GET", "/v1/status":
            return {"version": "1"}
        case "POST", "/v1/echo":
            return await request_object(request, limit=100)
        case "POST", "/v1/ping":
            count, interval = ping_request(await request_object(request))
            return {"count": count, "interval": interval}
        case "GET", "/v1/fails":
            raise ERRORS[request.query["as"][-1]]
    return None


ERRORS: dict[str, KubeEdgeError] = {
    "invalid": Invalid("7", path="count"),
    "conflict": Conflict("node a exists"),
    "unavailable": Unavailable("no link"),
    "misuse": Misuse("a bug"),
    "not found": NotFound("no node b"),
}
ERRORS["not found"].add_note("make it")


def ask(tmp_path: Path, method: str, target: str, body: bytes = b"") -> tuple[int, Any]:
    """Status and JSON (or text) of a request over the real socket."""
    path = tmp_path / "control.sock"

    async def scenario() -> tuple[int, Any]:
        server, ready = ControlServer(path, routes, lambda: "up 1\n"), asyncio.Event()
        running = asyncio.create_task(server.run(ready))
        await ready.wait()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        reader, writer = await asyncio.open_unix_connection(path)
        response = await Connection(reader, writer).request(method, target, [("host", "x")], body)
        text = (await response.read(1 << 16)).decode()
        writer.close()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert not path.exists()
        return response.status, json.loads(text) if text.startswith("{") else text

    return asyncio.run(scenario())


def test_answers_are_json_and_metrics_are_text(tmp_path: Path) -> None:
    assert ask(tmp_path, "GET", "/v1/status") == (200, {"version": "1"})
    assert ask(tmp_path, "POST", "/v1/echo", b"") == (200, {})
    assert ask(tmp_path, "GET", "/metrics") == (200, "up 1\n")


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "error"),
    [
        ("GET", "/v1/nothing", b"", 404, "no GET /v1/nothing here"),
        ("POST", "/v1/status", b"", 404, "no POST /v1/status here"),
        ("POST", "/v1/echo", b"{", 400, "the body is not JSON"),
        ("POST", "/v1/echo", b"[" * 90, 400, "the body is not JSON"),
        ("POST", "/v1/echo", b"[]", 400, "the body is not a JSON object"),
        ("POST", "/v1/echo", b" " * 101, 413, "body of more than 100 bytes"),
        ("POST", "/v1/ping", b'{"count": 1001}', 400, "count: 1001; it must be from 1 to 1000"),
        ("POST", "/v1/ping", b'{"interval": 0}', 400, "interval: 0; it must be from 0.01 to 60 seconds"),
        ("GET", "/v1/fails?as=invalid", b"", 400, "count: 7"),
        ("GET", "/v1/fails?as=conflict", b"", 409, "node a exists"),
        ("GET", "/v1/fails?as=unavailable", b"", 503, "no link"),
        ("GET", "/v1/fails?as=misuse", b"", 500, "a bug"),
    ],
)
def test_an_error_is_a_status_and_words(
    tmp_path: Path, method: str, target: str, body: bytes, status: int, error: str
) -> None:
    assert ask(tmp_path, method, target, body) == (status, {"error": error, "next": ""})


def test_advice_goes_with_the_error(tmp_path: Path) -> None:
    answer = ask(tmp_path, "GET", "/v1/fails?as=not%20found")
    assert answer == (404, {"error": "no node b", "next": "make it"})
