"""The rows of ConfigMaps and Secrets: made once for each version of an object, whichever nodes have it and however often they are looked at. Pure.

One of a megabyte takes 30 ms, and all that a tenant has may be on one node.
"""

from __future__ import annotations

from kubeedge.api.names import Object
from kubeedge_cloud.edgecontroller import node_objects


class DataRows:
    """Objects are those of a cache, which has another one for each version."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, str], tuple[Object, bytes]] = {}

    def of(self, reference: tuple[str, str, str], obj: Object) -> bytes:
        """The row of an object; `reference` is (resource, namespace, name)."""
        known = self._known.get(reference)
        if known is None or known[0] is not obj:
            known = self._known[reference] = obj, node_objects.data_object(obj)
        return known[1]

    def forget(self, reference: tuple[str, str, str]) -> None:
        """It has changed, or a node does not need it any more."""
        self._known.pop(reference, None)

    def __len__(self) -> int:
        return len(self._known)
