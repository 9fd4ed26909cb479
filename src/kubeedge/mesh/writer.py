"""Keeps tables of ours in the kernel's nftables: what is behind the rules differs from owner to owner, how they are kept does not.

A change is one transaction with what has changed. When the kernel refuses it, or another program has removed our table, everything is written
anew, in one transaction, too. Connections that exist go on: the kernel has their translation.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import logging
from contextlib import aclosing

from kubeedge.errors import Unavailable
from kubeedge.kit.backoff import Backoff
from kubeedge.mesh import nft

log = logging.getLogger("kubeedge.mesh")

_GATHER = 0.02  # seconds in which changes are gathered for one transaction
VERSIONS = (4, 6)


class TableWriter(abc.ABC):
    """A table of one name in the families of IPv4 and IPv6. Subclasses write it; `problem` says why it is not in the kernel."""

    table = ""
    meaning = ""  # what does not work without it, for the log

    def __init__(self, starting: str) -> None:
        self._states: dict[int, tuple[int, int] | None] = {}  # of the tables, as we left them
        self._again = True  # everything has to be written
        self._wake = asyncio.Event()
        self._backoff = Backoff(0.5, 30.0)
        self.problem = starting
        self.transactions = 0
        self.restored = 0  # times that another program had removed our table

    async def run(self, written: asyncio.Event) -> None:
        """`written` is set after the first transaction. The table stays when this ends: a restart of the agent interrupts nothing."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch(), name=f"watch of {self.table}")
            failures = 0
            while True:
                try:
                    self._wake.clear()
                    whole, self._again = self._again, False
                    await self._write(whole)
                    self.problem, failures = self._shortcoming(), 0
                    written.set()
                except (Unavailable, OSError) as exc:
                    failures += 1
                    self._again = True
                    if str(exc) != self.problem:
                        self.problem = str(exc)
                        log.error("%s: %s", self.meaning, exc)
                    await asyncio.sleep(self._backoff.delay(failures))
                    continue
                await self._wake.wait()
                await asyncio.sleep(_GATHER)

    @abc.abstractmethod
    async def _write(self, whole: bool) -> None:
        """Bring the kernel's tables up to date; `whole`: whatever is there. Raises Unavailable, OSError."""

    def _shortcoming(self) -> str:
        """What is missing although the table is written; "": nothing."""
        return ""

    async def _commit(self, commands: str, version: int) -> None:
        """One transaction, after which the table of this version is known to be ours. Raises Unavailable."""
        self._states.pop(version, None)
        await nft.commit(commands)
        self.transactions += 1
        self._states[version] = state = nft.table_state(self.table, version)
        if state is None and not self._again:  # removed before this look, which is what the watch compares with
            self._restore()

    async def _remove(self, commands: str, version: int) -> None:
        """Nothing needs the table of this version: what an earlier process left goes."""
        self._states.pop(version, None)
        with contextlib.suppress(OSError):
            if nft.table_state(self.table, version) is not None:
                await nft.commit(commands)

    async def _watch(self) -> None:
        try:
            async with aclosing(nft.changes_of_rules()) as bursts:
                async for _ in bursts:
                    if self._states and not self._wake.is_set() and self._is_damaged():
                        self._restore()
        except OSError as exc:
            log.warning("nftables cannot be watched: %s", exc)

    def _restore(self) -> None:
        """Soon, from the beginning."""
        self.restored += 1
        self._again = True
        self._wake.set()
        log.warning("another program removed the nftables rules of %s; they are written again", self.table)

    def _is_damaged(self) -> bool:
        with contextlib.suppress(OSError):
            return any(nft.table_state(self.table, v) != state for v, state in self._states.items())
        return False
