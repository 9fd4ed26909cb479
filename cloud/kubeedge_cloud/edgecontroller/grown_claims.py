"""Claims whose filesystem has grown on a node: written to their status by the identity of the node, as a kubelet does it."""

from __future__ import annotations

from typing import Any

from kubeedge.api import meta
from kubeedge.api.names import NodeName, Object
from kubeedge.api.quantities import bytes_of, is_quantity
from kubeedge.api.resources import PERSISTENTVOLUMECLAIMS
from kubeedge.errors import Conflict, Invalid, NotFound
from kubeedge_cloud.edgecontroller.claims import CLAIMS, VOLUMES
from kubeedge_cloud.edgecontroller.state import EdgeState

_OVER = ("Resizing", "FileSystemResizePending")  # conditions that go with it


async def report(state: EdgeState, node: NodeName, namespace: str, name: str, said: Object) -> bool:
    """Take over what a node says; whether something was written. Raises Invalid for more than the volume has."""
    claim = state.find(CLAIMS, namespace, name)
    if claim is None or meta.metadata(claim).get("uid") != said.get("uid"):
        return False
    volume = state.find(VOLUMES, "", str((claim.get("spec") or {}).get("volumeName") or "")) or {}
    capacity: Any = said.get("capacity")
    limit: Any = ((volume.get("spec") or {}).get("capacity") or {}).get("storage")
    if not is_quantity(capacity) or len(str(capacity)) > 64 or not is_quantity(limit):
        raise Invalid("the capacity of a claim is a quantity")
    if bytes_of(capacity) > bytes_of(limit):
        raise Invalid(f"claim {namespace}/{name} is said to have {capacity}, its volume has {limit}")
    status: dict[str, Any] = claim.get("status") or {}
    if (status.get("capacity") or {}).get("storage") == capacity:
        return False
    conditions = [one for one in status.get("conditions") or () if one.get("type") not in _OVER]
    patch = {"status": {"capacity": {"storage": capacity}, "conditions": conditions or None}}
    try:
        client = state.client_of(node)
        await client.merge_patch(PERSISTENTVOLUMECLAIMS, namespace, name, patch, subresource="status")
    except (Conflict, NotFound):
        return False
    data = state.data[CLAIMS]
    await data.refresh(namespace, name)
    return True
