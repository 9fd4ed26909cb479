"""Where devices send their values to by themselves: POST or PUT /NAMESPACE/NAME with a JSON object, property -> value.

A device proves itself by the bearer token that its Device names (`pushToken`). 204: taken; 400, with the reason: some values were not; 401: there
is no such device, or it has another token.
"""

from __future__ import annotations

import hmac
import json
import logging

from kubeedge.errors import Invalid, NotFound
from kubeedge.kit.acceptor import Accepted, Acceptor, in_tasks, open_streams
from kubeedge.kit.connection_limiter import ConnectionLimits
from kubeedge.kit.http1 import BodyTooLarge, Limits, Request, Response, serve_connection, text_response
from kubeedge.kit.streams import listening_socket
from kubeedge.kit.tasks import TaskSet
from kubeedge.mapper import documents
from kubeedge.mapper.http import core
from kubeedge.mapper.mapper import Mapper

log = logging.getLogger("kubeedge.mapper.http")

_CONNECTIONS = ConnectionLimits(silent=64, queued=64, unauthenticated=64)
_LIMITS = Limits(header_bytes=8 * 1024, headers=32, idle=20.0, stall=20.0)
_MAX_BODY = 64 * 1024
_NOBODY = text_response(401, "there is no such device, or this is not its token\n", [("www-authenticate", "Bearer")])


class PushServer:
    """Port 0 lets the kernel choose; `bound` is what it chose."""

    def __init__(self, mapper: Mapper, address: str, port: int) -> None:
        self._mapper = mapper
        self._address, self._port = address, port
        self.bound = 0

    async def run(self) -> None:
        """Serve until cancelled. Raises OSError when the address cannot be bound."""
        with listening_socket(self._address, self._port) as listener:
            async with TaskSet("push connections") as tasks:
                self.bound = listener.getsockname()[1]
                log.info("devices may send values to http://%s:%d", self._address, self.bound)
                await Acceptor(_CONNECTIONS, in_tasks(tasks, self._serve, "push connection")).run([listener])

    async def _serve(self, accepted: Accepted) -> None:
        try:
            reader, writer = await open_streams(accepted.socket)
        except OSError:
            return
        await serve_connection(reader, writer, self.handle, limits=_LIMITS)

    async def handle(self, request: Request) -> Response:
        """The values of one device."""
        if request.method not in ("POST", "PUT"):
            return text_response(405, "POST a JSON object, property -> value\n", [("allow", "POST, PUT")])
        device = self._mapper.device(request.path.strip("/"))
        token = core.push_token(device) if device is not None else ""
        kind, _, given = (request.header("authorization") or "").partition(" ")
        known = hmac.compare_digest(given.strip().encode("latin-1", "replace"), token.encode())
        if device is None or not token or kind.lower() != "bearer" or not known:
            return _NOBODY
        try:
            values = json.loads(await request.read(_MAX_BODY))
            if not isinstance(values, dict):
                raise ValueError("the body is no JSON object")
        except BodyTooLarge:
            return text_response(413, f"more than {_MAX_BODY} bytes\n")
        except (ValueError, RecursionError) as exc:
            return text_response(400, f"{exc}\n")
        wrong, right = [], {}
        for name, value in values.items():
            prop = device.properties.get(name)
            try:
                right[name] = documents.typed(prop, value) if prop is not None else value
            except Invalid as exc:
                wrong.append(str(exc))
        try:
            self._mapper.report(device, right)
        except NotFound:
            return _NOBODY
        except Invalid as exc:
            wrong.append(str(exc))
        return text_response(400, "\n".join(wrong) + "\n") if wrong else Response(204, [], b"")
