"""Talks to a running process over its unix socket: one HTTP request, standard library only."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any

from kubeedge.errors import KubeEdgeError

_PATIENCE = 30.0  # seconds; an image import takes some
_MAX_ANSWER = 16 * 1024 * 1024


class CommandError(KubeEdgeError):
    """What went wrong, and what to do next."""

    def __init__(self, message: str, next: str = "") -> None:
        super().__init__(message)
        self.next = next


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_PATIENCE)
        self.sock.connect(self._path)


def call(path: str, method: str, target: str, body: Any = None, *, what: str = "the agent", start: str = "") -> Any:
    """The answer's JSON. Raises CommandError with the process's own words."""
    connection = _UnixConnection(path)
    try:
        data = None if body is None else json.dumps(body).encode()
        connection.request(method, target, data, {"content-type": "application/json"})
        response = connection.getresponse()
        text = response.read(_MAX_ANSWER)
    except (FileNotFoundError, ConnectionRefusedError) as exc:
        raise CommandError(f"{what} does not run here (no one listens on {path})", start) from exc
    except PermissionError as exc:
        raise CommandError(f"{path} may be opened by root only", "run the command as root") from exc
    except (OSError, http.client.HTTPException) as exc:
        raise CommandError(f"{what} does not answer on {path}: {exc}") from exc
    finally:
        connection.close()
    try:
        answer = json.loads(text or b"{}")
    except ValueError as exc:
        raise CommandError(f"{what} answered with {response.status} and no JSON") from exc
    if response.status >= 400:
        raise CommandError(str(answer.get("error", response.reason)), str(answer.get("next", "")))
    return answer
