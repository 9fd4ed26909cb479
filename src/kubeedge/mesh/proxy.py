"""Keeps the kernel's rules as the table of Services wants them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence

from kubeedge.kit.ip import IpAddress, IpNetwork
from kubeedge.mesh import conntrack, ruleset
from kubeedge.mesh.bridge_filter import BridgeFilter
from kubeedge.mesh.conntrack import Flow
from kubeedge.mesh.ruleset import AddressPort, LocalNode, Rules
from kubeedge.mesh.table import MeshTable
from kubeedge.mesh.writer import VERSIONS, TableWriter

STARTING = "Services are not set up yet"


class ServiceProxy(TableWriter):
    """`pods`: networks of the pods of this node; `alone` says whether there is no link to other nodes; `bridge`: what goes over one."""

    table = ruleset.TABLE
    meaning = "services are not reachable by their addresses"

    def __init__(
        self, table: MeshTable, pods: Sequence[IpNetwork], alone: Callable[[], bool], bridge: BridgeFilter
    ) -> None:
        super().__init__(STARTING)
        self._table = table
        self._pods = pods
        self._alone = alone
        self._bridge = bridge
        self._rules: dict[int, dict[str, Rules]] = {version: {} for version in VERSIONS}  # what the kernel has
        self._changed: set[str] = set()
        self._was_alone = False
        self._no_conntrack = ""
        self.forgotten = 0  # UDP flows to endpoints that were gone

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

    def look_at_links(self) -> None:
        """The links came or went: endpoints elsewhere are reachable again, or not."""
        if self._alone() != self._was_alone:
            self._was_alone = self._alone()
            self.changed(list(self._table.services))

    async def _write(self, whole: bool) -> None:
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
                self._rules[version] = {}
                await self._remove(ruleset.remove(version), version)
                return
            commands = ruleset.header(version, self._pods, bridged=self._bridge.enabled(version)) + commands
        if commands:
            await self._commit(commands, version)
        self._rules[version] = new
        known = None if old is not rules else {key: rules[key] for key in keys if key in rules}
        await self._forget(
            ruleset.stale_datagrams(known, {k: v for k, v in new.items() if known is None or v.datagrams})
        )

    async def _forget(self, stale: Mapping[tuple[IpAddress | None, int], frozenset[AddressPort]]) -> None:
        """A UDP client keeps its endpoint for as long as it sends: what conntrack knows of one that is gone is deleted."""
        if not stale:
            return

        def is_stale(flow: Flow) -> bool:
            to = flow.answers_from, flow.answers_port
            direct, by_node = stale.get((flow.destination, flow.port)), stale.get((None, flow.port))
            if direct is not None:
                return to not in direct
            return by_node is not None and to != (flow.destination, flow.port) and to not in by_node

        try:
            self.forgotten += await asyncio.to_thread(conntrack.delete_flows, is_stale)
            self._no_conntrack = ""
        except OSError as exc:
            self._no_conntrack = f"UDP clients keep endpoints that are gone: conntrack: {exc.strerror or exc}"

    def _shortcoming(self) -> str:
        return "; ".join(filter(None, (self._no_conntrack, self._no_sctp())))

    def _no_sctp(self) -> str:
        """SCTP is asked of the kernel when it is needed: few have it, and fewer Services want it."""
        if not conntrack.lacks_sctp():
            return ""
        wanting = [key for key, s in self._table.services.items() if any(p.protocol == "SCTP" for p in s.ports)]
        return f"SCTP ports are not reachable ({min(wanting)}): the kernel has no conntrack of SCTP" if wanting else ""
