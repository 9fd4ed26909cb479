"""Keeps the kernel's rules as the table of Services wants them.

A change is one transaction with what has changed. When the kernel refuses it, or another program has removed our table, everything is written anew, in
one transaction, too. Connections that exist go on: the kernel has their translation.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
from collections.abc import Callable, Collection, Sequence
from contextlib import aclosing
from pathlib import Path

from kubeedge.errors import Unavailable
from kubeedge.kit.backoff import Backoff
from kubeedge.kit.ip import IpNetwork
from kubeedge.mesh import nft, ruleset
from kubeedge.mesh.ruleset import LocalNode, Rules
from kubeedge.mesh.table import MeshTable

log = logging.getLogger("kubeedge.mesh")

_GATHER = 0.02  # seconds in which changes are gathered for one transaction
_BRIDGED = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
VERSIONS = (4, 6)
STARTING = "Services are not set up yet"


class ServiceProxy:
    """`pods`: networks of the pods of this node; `alone` says whether there is no link to other nodes."""

    def __init__(self, table: MeshTable, pods: Sequence[IpNetwork], alone: Callable[[], bool]) -> None:
        self._table = table
        self._pods = pods
        self._alone = alone
        self._rules: dict[int, dict[str, Rules]] = {version: {} for version in VERSIONS}  # what the kernel has
        self._states: dict[int, tuple[int, int] | None] = {}
        self._changed: set[str] = set()
        self._again = True  # everything has to be written
        self._wake = asyncio.Event()
        self._backoff = Backoff(0.5, 30.0)
        self._was_alone = False
        self.problem = STARTING
        self.transactions = 0
        self.restored = 0  # times that another program had removed our table

    def changed(self, keys: Collection[str]) -> None:
        """The rules of these Services are looked at soon."""
        if keys:
            self._changed.update(keys)
            self._wake.set()

    @property
    def counts(self) -> dict[str, int]:
        """Services with rules, and chains, of both families."""
        every = [rules for of_version in self._rules.values() for rules in of_version.values()]
        return {"services": sum(bool(r.elements) for r in every), "chains": sum(len(r.chains) for r in every)}

    async def run(self, written: asyncio.Event) -> None:
        """`written` is set after the first transaction. The table stays when this ends: a restart of the agent interrupts nothing."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch(), name="watch of nftables")
            failures = 0
            while True:
                try:
                    await self._write()
                    self.problem, failures = "", 0
                    written.set()
                except (Unavailable, OSError) as exc:
                    failures += 1
                    self._again = True
                    if str(exc) != self.problem:
                        self.problem = str(exc)
                        log.error("services are not reachable by their addresses: %s", exc)
                    await asyncio.sleep(self._backoff.delay(failures))
                    continue
                await self._wake.wait()
                await asyncio.sleep(_GATHER)

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
        log.warning("another program removed our nftables rules; they are written again")

    def _is_damaged(self) -> bool:
        with contextlib.suppress(OSError):
            return any(nft.table_state(ruleset.TABLE, v) != state for v, state in self._states.items())
        return False

    def look_at_links(self) -> None:
        """The links came or went: endpoints elsewhere are reachable again, or not."""
        if self._alone() != self._was_alone:
            self._was_alone = self._alone()
            self.changed(list(self._table.services))

    async def _write(self) -> None:
        self._wake.clear()
        whole, self._again = self._again, False
        keys, self._changed = self._changed, set()
        known = {key for rules in self._rules.values() for key in rules}
        if whole:
            keys = {*self._table.services, *keys, *known}
        local_node = LocalNode(node=self._table.node, zone=self._table.zone, alone=self._alone())
        wanted: dict[int, dict[str, Rules]] = {version: {} for version in VERSIONS}
        for key in keys:
            service = self._table.services.get(key)
            endpoints = self._table.endpoints(service) if service is not None else []
            for version in VERSIONS if service is not None else ():
                assert service is not None
                made = ruleset.rules_of(service, endpoints, local_node, version)
                if made.elements:
                    wanted[version][key] = made
        for version in VERSIONS:
            await self._write_family(version, keys, wanted[version], whole)

    async def _write_family(self, version: int, keys: Collection[str], wanted: dict[str, Rules], whole: bool) -> None:
        rules = self._rules[version]
        old = {} if whole or version not in self._states else rules
        new = {key: value for key, value in rules.items() if key not in keys} | wanted
        commands = ruleset.changes(old, new, keys if old else new, version)
        if version not in self._states or whole:
            if not new and version == 6:
                await self._nothing(version)
                return
            commands = ruleset.header(version, self._pods, bridged=_bridged()) + commands
        if commands:
            self._states.pop(version, None)
            await nft.commit(commands)
            self.transactions += 1
            self._states[version] = state = nft.table_state(ruleset.TABLE, version)
            if state is None and not self._again:  # removed before this look, which is what the watch compares with
                self._restore()
        self._rules[version] = new

    async def _nothing(self, version: int) -> None:
        """No Service has an address of this family: what an earlier process left goes."""
        self._rules[version] = {}
        self._states.pop(version, None)
        with contextlib.suppress(OSError):
            if nft.table_state(ruleset.TABLE, version) is not None:
                await nft.commit(ruleset.remove(version))


def _bridged() -> bool:
    """What goes over a bridge passes the kernel's rules. Switched on where the kernel can."""
    try:
        if _BRIDGED.read_text().strip() != "1":
            _BRIDGED.write_text("1")
        return True
    except OSError:
        return False


def own_networks(pod_cidr: str) -> list[IpNetwork]:
    """The networks of the pods of this node."""
    return [ipaddress.ip_network(pod_cidr, strict=False)]
