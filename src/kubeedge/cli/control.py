"""Talks to a running process over its unix socket: one HTTP request, standard library only."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kubeedge.api.names import tenant_id
from kubeedge.cli.errors import CommandError, UsageError
from kubeedge.cli.parser import CLOUD_SOCKET, EDGE_SOCKET
from kubeedge.errors import Invalid

_TIMEOUT = 30.0  # seconds
_MAX_ANSWER = 16 * 1024 * 1024


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path
        self._timeout = timeout

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._timeout)
        self.sock.connect(self._path)


def call(
    path: str,
    method: str,
    target: str,
    body: Any = None,
    *,
    what: str = "the agent",
    start: str = "",
    timeout: float = _TIMEOUT,
) -> dict[str, Any]:
    """The answer's JSON object. Raises CommandError with the process's message."""
    with failing(path, what, start, timeout), contextlib.closing(_UnixConnection(path, timeout)) as connection:
        data = None if body is None else json.dumps(body).encode()
        connection.request(method, target, data, {"content-type": "application/json"})
        response = connection.getresponse()
        text = response.read(_MAX_ANSWER)
    try:
        answer = json.loads(text or b"{}")
        if not isinstance(answer, dict):
            raise ValueError("not an object")
    except (ValueError, RecursionError) as exc:
        raise CommandError(f"{what} answered with status {response.status} and no JSON object") from exc
    if response.status >= 400:
        raise CommandError(str(answer.get("error") or response.reason), str(answer.get("next") or ""))
    return answer


@contextlib.contextmanager
def reading(path: str, target: str, *, what: str = "the agent", start: str = "") -> Iterator[http.client.HTTPResponse]:
    """The answer to a GET, whose body may come for as long as it likes. Raises CommandError with the process's message."""
    with failing(path, what, start), contextlib.closing(_UnixConnection(path, None)) as connection:
        connection.request("GET", target)
        response = connection.getresponse()
        if response.status >= 400:
            raise CommandError(said_of(response.read(_MAX_ANSWER), response.reason))
        yield response


@contextlib.contextmanager
def failing(path: str, what: str, start: str, timeout: float = _TIMEOUT) -> Iterator[None]:
    """What goes wrong with the socket at `path` becomes a CommandError."""
    try:
        yield
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as exc:
        raise CommandError(f"{what} does not run here (no one listens on {path})", start) from exc
    except PermissionError as exc:
        raise CommandError(f"{path} may be opened by root only", "run the command as root") from exc
    except TimeoutError as exc:
        raise CommandError(f"{what} did not answer on {path} within {timeout:g} s", "look at its log") from exc
    except (OSError, http.client.HTTPException, ValueError) as exc:
        raise CommandError(f"{what} does not answer on {path}: {str(exc) or type(exc).__name__}") from exc


def said_of(body: bytes, reason: str) -> str:
    """Why a request was refused: by the text of the answer, or the message in it."""
    text = body.decode(errors="replace").strip()
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        return text or reason
    return str((answer.get("error") or answer.get("message")) if isinstance(answer, dict) else text) or reason


def call_cloud(
    path: str, method: str, target: str, body: object = None, *, timeout: float = _TIMEOUT
) -> dict[str, Any]:
    """`call`, of the cloud process of this machine."""
    start = "on the cloud's machine: start it with `kubeedge cloud`, or name its socket with --socket"
    return call(path, method, target, body, what="the cloud", start=start, timeout=timeout)


def of_tenant(text: str, collection: str) -> str:
    """The path of the administration API for what a tenant has: "/v1/tenants/T/tokens". Raises UsageError for a bad tenant."""
    try:
        return f"/v1/tenants/{tenant_id(text)}/{collection}"
    except Invalid as exc:
        raise UsageError(str(exc)) from exc


def local_socket(named: str | None) -> str:
    """The socket that was named, or that of the agent or the cloud process which runs here."""
    if named:
        return named
    for path in (EDGE_SOCKET, CLOUD_SOCKET):
        if Path(path).exists():
            return path
    raise CommandError("neither an agent nor a cloud runs here", "start one with `kubeedge edge` or `kubeedge cloud`")
