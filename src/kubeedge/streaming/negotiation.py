"""Which protocol a client gets, by the head of its request."""

from __future__ import annotations

from collections.abc import Sequence

from kubeedge.errors import Invalid, Refused
from kubeedge.kit.dataclasses import dataclass
from kubeedge.kit.http1 import Request

COMMAND_SPDY = ("v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io")  # of exec and attach
COMMAND_WEBSOCKET = ("v5.channel.k8s.io", "v4.channel.k8s.io", "channel.k8s.io", "")  # "": the client names none
FORWARD_SPDY = ("portforward.k8s.io",)
FORWARD_CHANNELS = ("v4.channel.k8s.io", "")
FORWARD_WEBSOCKET = ("SPDY/3.1+portforward.k8s.io", *FORWARD_CHANNELS)


@dataclass(frozen=True, slots=True)
class Choice:
    """`headers` are those of the 101."""

    websocket: bool
    protocol: str
    headers: list[tuple[str, str]]


def negotiate(request: Request, spdy: Sequence[str], websocket: Sequence[str]) -> Choice:
    """The protocol for this client: the first of those it offers that is ours. Raises Invalid for what is no upgrade to SPDY/3.1 or WebSocket, Refused when the client offers no version of ours."""
    tokens = (request.header("connection") or "").lower().replace(" ", "").split(",")
    upgrade = (request.header("upgrade") or "").lower() if "upgrade" in tokens else ""
    if upgrade == "websocket":
        # imported here: an agent without such requests does not load it
        from kubeedge.streaming import websocket as ws

        offered = ws.offered(request)
        protocol = _first(offered or [""], websocket)
        return Choice(True, protocol, ws.accept(request, protocol))
    if upgrade != "spdy/3.1":
        raise Invalid("you must specify at least 1 of SPDY/3.1 or websocket in the header Upgrade")
    offered = [value for name, value in request.headers if name == "x-stream-protocol-version"]
    protocol = _first([name.strip() for value in offered for name in value.split(",")], spdy)
    return Choice(
        False,
        protocol,
        [("upgrade", "SPDY/3.1"), ("connection", "Upgrade"), ("x-stream-protocol-version", protocol)],
    )


def _first(offered: Sequence[str], ours: Sequence[str]) -> str:
    for name in offered:
        if name in ours:
            return name
    raise Refused(f"unable to negotiate protocol: client supports {list(offered)[:16]}, server accepts {list(ours)}")
