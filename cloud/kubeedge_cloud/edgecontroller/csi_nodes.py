"""CSINode objects: which drivers of volumes a node has, for the cluster's scheduler and for whoever attaches and provisions volumes.

Made by the identity of the node, as a kubelet does it. The embedded API has no such objects.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kubeedge.api import meta
from kubeedge.api.names import NodeName, Object
from kubeedge.api.resources import CSINODES, NODES
from kubeedge.errors import Conflict, Invalid, NotFound
from kubeedge_cloud.controllers.objects import uid_of
from kubeedge_cloud.edgecontroller.state import EdgeState

_MAX_DRIVERS = 32
_MAX_TEXT = 256  # characters
_NODE_IDS = "csi.volume.kubernetes.io/nodeid"  # annotation of a Node
_ATTACHED_BY_CONTROLLER = "volumes.kubernetes.io/controller-managed-attach-detach"


class CsiNodes:
    """Writes them, and what a Node says of its drivers."""

    def __init__(self, state: EdgeState) -> None:
        self._state = state

    async def report(self, name: NodeName, report: Object) -> None:
        """Take over what the node says. Raises Invalid for what no CSINode can say."""
        node = self._state.nodes.get("", name)
        if node is None or not self._state.has_node(name):
            return
        wanted, labels = drivers(report), topology(report)
        client = self._state.client_of(name)
        try:
            found = await client.get(CSINODES, "", name)
            if ((found.get("spec") or {}).get("drivers") or []) != wanted:
                await client.update(CSINODES, "", {**found, "spec": {**(found.get("spec") or {}), "drivers": wanted}})
        except NotFound:
            owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid_of(node)}
            made = {"metadata": {"name": name, "ownerReferences": [owner]}, "spec": {"drivers": wanted}}
            await client.create(CSINODES, "", made)
        except Conflict:
            return  # it is looked at again with the next report
        ids = json.dumps({driver["name"]: driver["nodeID"] for driver in wanted}, separators=(",", ":"))
        annotations: dict[str, Any] = {_NODE_IDS: ids if wanted else None, _ATTACHED_BY_CONTROLLER: "true"}
        if _differs(meta.labels_of(node), labels) or _differs(
            meta.metadata(node).get("annotations") or {}, annotations
        ):
            await client.merge_patch(NODES, "", name, {"metadata": {"labels": labels, "annotations": annotations}})


def _differs(has: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return any(has.get(key) != value for key, value in wanted.items())


def drivers(report: Object) -> list[Object]:
    """spec.drivers of a report. Raises Invalid."""
    given = report.get("drivers")
    if not isinstance(given, list) or len(given) > _MAX_DRIVERS:
        raise Invalid("drivers of a node are a short list")
    return sorted((_driver(one) for one in given), key=lambda driver: str(driver["name"]))


def _driver(one: Any) -> Object:
    if not isinstance(one, dict):
        raise Invalid("a driver is an object")
    keys = one.get("topologyKeys") or []
    count = (one.get("allocatable") or {}).get("count")
    if not isinstance(keys, list) or not (count is None or (isinstance(count, int) and not isinstance(count, bool))):
        raise Invalid("a driver with a strange topology, or a strange count")
    made: Object = {
        "name": _text(one.get("name")),
        "nodeID": _text(one.get("nodeID")),
        "topologyKeys": [_text(k) for k in keys] or None,
    }
    return {**made, **({"allocatable": {"count": count}} if count is not None else {})}


def topology(report: Object) -> dict[str, str]:
    """Labels of the node that its drivers have given it. Raises Invalid."""
    given = report.get("topology") or {}
    if not isinstance(given, dict) or len(given) > _MAX_DRIVERS:
        raise Invalid("the topology of a node is a small map")
    return {_text(key): _text(value) for key, value in given.items()}


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT:
        raise Invalid("a text of a driver is missing, or too long")
    return value
