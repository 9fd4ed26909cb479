"""The one face through which controllers talk to a Kubernetes API: the embedded one, or the user's.

Implementations: kubeedge.apiserver.registry.Registry (in process, one tenant). A client of a remote kube-apiserver has
the same face.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from kubeedge.api.names import Object


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource as the API names it: ("", "v1", "pods") or ("apps", "v1", "deployments")."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


@dataclass(frozen=True, slots=True)
class ObjectList:
    items: Sequence[Object]
    resource_version: str  # of the whole list: a watch from here misses nothing


@dataclass(frozen=True, slots=True)
class WatchEvent:
    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    object: Object


class KubeClient(Protocol):
    """Errors: NotFound, Conflict (resourceVersion), Invalid (validation), Gone (watch too old), Refused.

    Objects that are handed out are the caller's own copies.
    """

    async def get(self, resource: Resource, namespace: str, name: str) -> Object: ...

    async def list(
        self, resource: Resource, namespace: str = "", *, label_selector: str = "", field_selector: str = ""
    ) -> ObjectList:
        """namespace "" means all namespaces."""
        ...

    def watch(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
    ) -> AsyncIterator[WatchEvent]:
        """Events after resource_version, for ever. Raises Gone when that version has been compacted."""
        ...

    async def create(self, resource: Resource, namespace: str, obj: Object) -> Object: ...

    async def update(self, resource: Resource, namespace: str, obj: Object, *, subresource: str = "") -> Object:
        """Full replace; metadata.resourceVersion, when set, must match. subresource "status" writes only status."""
        ...

    async def merge_patch(
        self, resource: Resource, namespace: str, name: str, patch: Object, *, subresource: str = ""
    ) -> Object:
        """RFC 7386."""
        ...

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, grace_period: int | None = None, uid: str = ""
    ) -> None:
        """Pods that are bound to a node only get a deletionTimestamp unless grace_period is 0."""
        ...
