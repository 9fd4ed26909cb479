"""Keeps the kernel's rules as the table of Services wants them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from kubeedge.kit.ip import IpNetwork
from kubeedge.mesh import ruleset
from kubeedge.mesh.bridge_filter import BridgeFilter
from kubeedge.mesh.ruleset import LocalNode, Rules
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
            commands = ruleset.header(version, self._pods, bridged=self._bridge.enabled(4)) + commands
        if commands:
            await self._commit(commands, version)
        self._rules[version] = new
