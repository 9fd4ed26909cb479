"""Keeps the kernel's rules as the policies of the node's pods want them. Without a policy there is no table."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from kubeedge.kit.ip import IpNetwork
from kubeedge.mesh import packet_filter
from kubeedge.mesh.bridge_filter import BridgeFilter
from kubeedge.mesh.packet_filter import FilterRules
from kubeedge.mesh.table import MeshTable
from kubeedge.mesh.writer import VERSIONS, TableWriter

STARTING = "policies are not set up yet"
_ADMISSION = 2.0  # seconds that a pod waits for its policies


class PolicyEnforcer(TableWriter):
    """`name`: of the bridge of the pods of this node, `networks`: of these pods."""

    table = packet_filter.TABLE
    meaning = "network policies are not enforced"

    def __init__(
        self, table: MeshTable, bridge: BridgeFilter, name: str = "", networks: Sequence[IpNetwork] = ()
    ) -> None:
        super().__init__(STARTING)
        self._mesh = table
        self._bridge = bridge
        self._name = name
        self._networks = networks
        self._rules: dict[int, FilterRules] = {}  # what the kernel has
        self._unbridged = False
        self._turned = asyncio.Event()  # another look has ended; a new one for each

    def look(self) -> None:
        """The policies or the pods of this node have changed: the rules are looked at soon."""
        self._wake.set()

    async def admit(self, namespace: str, name: str, uid: str, addresses: Sequence[str]) -> None:
        """Returns when the kernel has what the policies of this node say of a pod that is about to begin; that nothing of its first connection is lost is
        worth some time, and no more."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ADMISSION):
                while self._mesh.policies:
                    turned, known = self._turned, self._mesh.expect(f"{namespace}/{name}", uid, addresses)
                    if known and all(map(self._is_known, addresses)):
                        return
                    if known:
                        self.look()
                    await turned.wait()

    def _is_known(self, address: str) -> bool:
        """In a kernel that has no rules of a second family there is nothing to wait for."""
        rules = self._rules.get(6 if ":" in address else 4)
        return address in rules.known if rules is not None else bool(self._rules)

    @property
    def counts(self) -> dict[str, int]:
        """Policies of the node, pods that they isolate, and chains, of both families."""
        every = self._rules.values()
        isolated = {address for rules in every for elements in rules.isolated.values() for address in elements}
        return {
            "policies": len(self._mesh.policies),
            "pods": len(isolated),
            "chains": sum(len(rules.chains) for rules in every),
        }

    async def _write(self, whole: bool) -> None:
        try:
            await self._write_tables(whole)
        finally:
            self._turned.set()
            self._turned = asyncio.Event()

    async def _write_tables(self, whole: bool) -> None:
        policies = list(self._mesh.policies.values())
        pods = list(self._mesh.pods()) if policies else []
        known = list(self._mesh.addresses()) if policies else []
        if whole or bool(self._states) != bool(policies):
            self._unbridged = bool(policies) and not (self._bridge.enabled(4) and self._bridge.enabled(6))
        for version in VERSIONS:
            new = packet_filter.filter_rules(policies, pods, self._mesh.node, version, known)
            closed = self._name if version == 6 else ""
            has_pods = version == 4 or any(network.version == version for network in self._networks)
            if not policies or not (has_pods or new.isolated or closed):
                if whole or version in self._states:
                    await self._remove(packet_filter.remove(version), version)
                self._rules.pop(version, None)
                continue
            old = None if whole or version not in self._states else self._rules.get(version)
            commands = packet_filter.changes(old or FilterRules(), new, version)
            if old is None:
                commands = packet_filter.header(version, closed, self._networks) + commands
            if commands:
                await self._commit(commands, version)
            self._rules[version] = new

    def _shortcoming(self) -> str:
        found = [f"policy {key}: {why}" for key, why in sorted(self._mesh.refused_policies.items())]
        if self._unbridged:
            found.append("pods of this node reach each other whatever policies say: the kernel has no br_netfilter")
        return "; ".join(found)
