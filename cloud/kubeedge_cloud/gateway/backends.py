"""The pods behind Services: which of them are ready, on which nodes, and whose turn it is. Pure."""

from __future__ import annotations

from kubeedge.api import meta
from kubeedge.api.names import NamespacedName, NodeName, Object
from kubeedge.gateway.model import PodEndpoint
from kubeedge_cloud.controllers.endpoints.slices import SERVICE_NAME


class ReadyPods:
    """EndpointSlices in, endpoints out. Those of one Service take turns."""

    def __init__(self) -> None:
        #: Service -> EndpointSlice -> name of a port -> endpoints
        self._slices: dict[NamespacedName, dict[str, dict[str, list[PodEndpoint]]]] = {}
        self._turns: dict[NamespacedName, int] = {}

    def apply(self, before: Object | None, after: Object | None) -> None:
        """A change of an EndpointSlice, as informers tell it."""
        if before is not None and (service := _service(before)) in self._slices:
            self._slices[service].pop(meta.name_of(before), None)
            if not self._slices[service]:
                del self._slices[service]
                self._turns.pop(service, None)
        if after is not None and (service := _service(after))[1]:
            self._slices.setdefault(service, {})[meta.name_of(after)] = _endpoints(after)

    def in_turn(self, namespace: str, service: str, port: str) -> list[PodEndpoint]:
        """All that are ready, the one whose turn it is first."""
        key = (namespace, service)
        found = [e for ports in self._slices.get(key, {}).values() for e in ports.get(port, ())]
        # a pod with addresses of both versions is in two slices, and is to have one turn
        found = [e for e in found if ":" not in e.address] or found
        if not found:
            return []
        turn = self._turns[key] = (self._turns.get(key, -1) + 1) % len(found)
        return found[turn:] + found[:turn]


def _service(slice_: Object) -> NamespacedName:
    return meta.namespace_of(slice_), meta.labels_of(slice_).get(SERVICE_NAME, "")


def _endpoints(slice_: Object) -> dict[str, list[PodEndpoint]]:
    ready = [
        (NodeName(endpoint["nodeName"]), str(endpoint["addresses"][0]))
        for endpoint in slice_.get("endpoints") or ()
        if endpoint.get("nodeName")
        and endpoint.get("addresses")
        and (endpoint.get("conditions") or {}).get("ready") is not False
    ]
    return {
        str(port.get("name") or ""): [PodEndpoint(node, address, int(port["port"])) for node, address in ready]
        for port in slice_.get("ports") or ()
        if port.get("port") and (port.get("protocol") or "TCP") == "TCP"
    }
