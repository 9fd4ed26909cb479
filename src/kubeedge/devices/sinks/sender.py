"""What sends values to one destination: an interface, what every sender needs, and a connection.

Lives elsewhere: the senders (http.py, redis.py, broker.py, databases.py), and which is whose (choice.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from kubeedge.devices.sinks import credentials
from kubeedge.devices.sinks.core import Destination, PushedValue
from kubeedge.devices.sinks.credentials import SinkCredentials
from kubeedge.store.model import Store

_READ = 64 * 1024


class Sender(Protocol):
    """Speaks to one destination. One `deliver` at a time."""

    async def deliver(self, values: Sequence[PushedValue], taken: list[PushedValue]) -> None:
        """Send values; `taken` gets each that the server has, also when the rest fails.

        Raises ValueRefused when one of them, and no other reason, made it fail; OSError, EOFError, TimeoutError or KubeEdgeError when it is worth
        another try.
        """
        ...

    async def close(self) -> None:
        """Cuts the connection, if there is one."""
        ...


class SenderSettings:
    """What all senders of a node need to know."""

    def __init__(self, node: str, queue: str, credentials_file: Path | None, store: Store | None = None) -> None:
        self.node, self.queue, self._file, self._store = node, queue, credentials_file, store

    async def credentials(self, destination: Destination) -> SinkCredentials:
        """Read anew for each connection: an administrator changes a password without a restart. Raises OSError, Invalid, Unavailable."""
        own = await asyncio.to_thread(credentials.read, self._file, destination.endpoint)
        if self._store is None or not (own.secret or own.config_map):
            return own
        from kubeedge.devices.sinks.objects import completed

        return await completed(own, self._store)


async def connected(
    destination: Destination, own: SinkCredentials
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection, with TLS where the destination says so. Raises OSError, and Invalid for authorities that are none."""
    context = await asyncio.to_thread(own.context) if destination.tls else None
    return await asyncio.open_connection(destination.host, destination.port, ssl=context, limit=_READ)
