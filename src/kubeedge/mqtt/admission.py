"""Who may connect to the broker, and what is asked of those who decide."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from kubeedge.kit.dataclasses import dataclass
from kubeedge.mqtt.codec import Connect, Publish
from kubeedge.mqtt.core import ClientRights

#: takes a message of a client, by its identifier, in; the future is done when it may be acknowledged, None: at once
Handle: TypeAlias = Callable[[Publish, str], "asyncio.Future[None] | None"]


@dataclass(frozen=True, slots=True)
class MqttPeer:
    """Who is at the other end. `uid`: the user of this machine whose program it is; None: it is not known, or on another machine."""

    address: str
    uid: int | None
    is_remote: bool  # it came by the listener for other machines
    names: tuple[
        str, ...
    ] = ()  # of the client certificate that TLS has verified: the common name, then the alternative ones


_MAX_NAMES = 32  # of a certificate
_ALTERNATIVE = ("DNS", "URI", "email", "IP Address")


def certificate_names(certificate: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The names of a verified client certificate, as ssl.SSLSocket.getpeercert() gives it; the client may have shown none."""
    if not certificate:
        return ()
    common = [value for relative in certificate.get("subject", ()) for key, value in relative if key == "commonName"]
    others = [value for kind, value in certificate.get("subjectAltName", ()) if kind in _ALTERNATIVE]
    return tuple(dict.fromkeys([*common, *others]))[:_MAX_NAMES]


#: the rights of a client that has said who it is, None: all. Raises MqttError to refuse it
Admit: TypeAlias = Callable[[Connect, MqttPeer], "Awaitable[ClientRights | None]"]


@dataclass(frozen=True, slots=True)
class MqttListener:
    """Where clients connect. `tls`: asked for each connection, as its certificate may have been renewed; None: programs of this machine."""

    address: str
    port: int  # 0: any
    tls: Callable[[], ssl.SSLContext] | None = None
