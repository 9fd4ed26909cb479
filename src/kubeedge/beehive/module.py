"""What a module is: one async method (the paper's agent, Beehive's Module interface)."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Module(Protocol):
    """A unit of the agent or of the cloud process that configuration switches on or off.

    `run` acquires with `async with`, sets `ready` once it serves, serves until it is cancelled, and releases in
    `finally`. It may be called again after it raised: the supervisor restarts a crashed module with back-off, and the
    other modules do not notice. Returning without being cancelled counts as a crash.
    """

    @property
    def name(self) -> str:
        """Unique within the process; as `kubeedge status` and the metrics show it."""
        ...

    async def run(self, ready: asyncio.Event) -> None:
        """Run until cancelled; `ready` is set once it serves."""
        ...
