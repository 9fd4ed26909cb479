"""The pods behind Services, for the Gateways of this node: the same ones that the service proxy would choose. Loaded with Gateways alone."""

from __future__ import annotations

from collections.abc import Callable

from kubeedge.api.names import NodeName
from kubeedge.gateway.model import PodEndpoint
from kubeedge.mesh.table import MeshTable, choose

_MOST = 1024  # ports of Services whose pods are remembered


class ServiceBackends:
    """`table` is asked each time, as it is another one after a restart; `alone`: this node has no link to the others."""

    def __init__(self, table: Callable[[], MeshTable], alone: Callable[[], bool]) -> None:
        self._table, self._alone = table, alone
        self._of: tuple[MeshTable | None, int, bool] = (None, 0, False)  # what was found is true of
        self._found: dict[tuple[str, str, str], list[PodEndpoint]] = {}
        self._turns: dict[tuple[str, str, str], int] = {}

    def in_turn(self, namespace: str, service: str, port: str) -> list[PodEndpoint]:
        """All that are ready, the one whose turn it is first."""
        table, alone = self._table(), self._alone()
        if self._of[0] is not table or self._of[1:] != (table.revision, alone):
            self._of = table, table.revision, alone
            self._found.clear()
        key = (namespace, service, port)
        if (found := self._found.get(key)) is None:
            if len(self._found) >= _MOST:
                self._found.clear()
                self._turns.clear()
            found = self._found[key] = self._find(table, key, alone=alone)
        if not found:
            return []
        turn = self._turns[key] = (self._turns.get(key, -1) + 1) % len(found)
        return found[turn:] + found[:turn]

    @staticmethod
    def _find(table: MeshTable, key: tuple[str, str, str], *, alone: bool) -> list[PodEndpoint]:
        namespace, name, port = key
        if (service := table.services.get(f"{namespace}/{name}")) is None:
            return []
        endpoints = [e for e in table.endpoints(service) if e.ports.get(port, ("", 0))[0] == "TCP"]
        chosen = choose(service, endpoints, port, node=table.node, zone=table.zone, local=False, alone=alone)
        nodes = {e.address: e.node for e in endpoints}
        return [PodEndpoint(NodeName(nodes[address]), str(address), number) for address, number in chosen]
