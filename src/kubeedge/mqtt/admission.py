"""Who may connect to the broker, and what is asked of those who decide."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import TypeAlias

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


#: the rights of a client that has said who it is, None: all. Raises MqttError to refuse it
Admit: TypeAlias = Callable[[Connect, MqttPeer], "Awaitable[ClientRights | None]"]


@dataclass(frozen=True, slots=True)
class MqttListener:
    """Where clients connect. `tls`: asked for each connection, as its certificate may have been renewed; None: programs of this machine."""

    address: str
    port: int  # 0: any
    tls: Callable[[], ssl.SSLContext] | None = None
