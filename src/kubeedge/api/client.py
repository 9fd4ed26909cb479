"""The interface through which controllers use a Kubernetes API: the embedded one, or a kube-apiserver of the user's.

Implementations: kubeedge.apiserver.registry.Registry (in process, one tenant), and the cloud's client of an API server of the user's (package
clusters there). ForwardingClient is the base of those that stand before another.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

from kubeedge.api.names import Object
from kubeedge.kit.dataclasses import dataclass, field


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
        """The apiVersion as manifests write it: "v1", "apps/v1"."""
        return f"{self.group}/{self.version}" if self.group else self.version


@dataclass(frozen=True, slots=True)
class ObjectList:
    """What a list found, and the version at which it was read."""

    items: Sequence[Object]
    resource_version: str  # of the whole list: a watch from here misses nothing


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One change of one object; DELETED carries its last state."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    object: Object
    size: int = field(default=0, compare=False)  # bytes of the object about, where they are known


class KubeClient(Protocol):
    """Errors are those of kubeedge.api.status, by code and reason as an API server gives them, in every implementation:

        ObjectNotFound 404    AlreadyExists 409 (create)    ObjectModified 409 (a precondition: resourceVersion, uid, or the fence)
        InvalidObject 422     Forbidden 403                 Expired 410 (a watch or a continued list; list again)
        TooManyRequests 429 and ServerUnavailable 503, both with retry_after in seconds when the server said it

    A resourceVersion is opaque: it may be compared for equality, handed back in a write (a precondition) and to `watch`; nothing else.

    A client that was made for the work of a leader is fenced: once another process leads, its writes are ObjectModified. Over our own
    store the fence is a part of each transaction (kubeedge_cloud.processes.fencing); a client of another API server checks its lease before
    a write and makes what it has read the write's precondition.

    Objects that are handed out are the caller's own copies.
    """

    async def resources(self) -> Sequence[Resource]:
        """What the API serves now (discovery); custom resources come and go."""
        ...

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        """The newest state. Raises ObjectNotFound."""
        ...

    async def list(
        self, resource: Resource, namespace: str = "", *, label_selector: str = "", field_selector: str = ""
    ) -> ObjectList:
        """The newest state of all of them; namespace "" means all namespaces."""
        ...

    async def reduced_list(
        self, resource: Resource, namespace: str, keep: Callable[[Object], Object]
    ) -> Sequence[Object]:
        """What `keep` makes of each of them: a tenant may have 64 MiB of objects, which take several times as much when all are there at once."""
        ...

    def watch(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
        bookmarks: bool = False,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Events after resource_version, in the order of the writes, each once. Close it (contextlib.aclosing).

        A DELETED event carries the object as it was last, with the resourceVersion of its deletion. BOOKMARK events, if `bookmarks`, say
        up to which resourceVersion everything was delivered. It may end at any time: watch again from the last event's resourceVersion.
        Raises Expired when that is too old.
        """
        ...

    async def create(self, resource: Resource, namespace: str, obj: Object) -> Object:
        """The object as the API stored it, with uid and resourceVersion. Raises AlreadyExists, and Invalid for an object that breaks
        a rule."""
        ...

    async def update(self, resource: Resource, namespace: str, obj: Object, *, subresource: str = "") -> Object:
        """Full replace; metadata.resourceVersion and metadata.uid, when set, are preconditions. subresource "status" writes only status."""
        ...

    async def merge_patch(
        self, resource: Resource, namespace: str, name: str, patch: Object, *, subresource: str = ""
    ) -> Object:
        """RFC 7386; metadata.resourceVersion and metadata.uid in the patch are preconditions."""
        ...

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, grace_period: int | None = None, uid: str = ""
    ) -> None:
        """Pods that are bound to a node only get a deletionTimestamp unless grace_period is 0. `uid` is a precondition."""
        ...

    async def create_token(self, namespace: str, account: str, request: Object) -> Object:
        """A TokenRequest (authentication.k8s.io/v1) on that service account; with its status. Raises NoSuchPath where there are no tokens."""
        ...

    async def account_rules(self, namespace: str, account: str) -> Sequence[Mapping[str, Any]]:
        """What the service account may do in its namespace, as the resourceRules of a SelfSubjectRulesReview."""
        ...

    async def issuer_keys(self) -> Sequence[Mapping[str, Any]]:
        """Public keys of who signs tokens, each a JWK (RFC 7517). Raises NoSuchPath where there are no tokens."""
        ...


class ForwardingClient:
    """Passes every call on to another client; subclasses override what they do otherwise."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    async def resources(self) -> Sequence[Resource]:
        return await self._client.resources()

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        return await self._client.get(resource, namespace, name)

    async def list(
        self, resource: Resource, namespace: str = "", *, label_selector: str = "", field_selector: str = ""
    ) -> ObjectList:
        return await self._client.list(
            resource, namespace, label_selector=label_selector, field_selector=field_selector
        )

    async def reduced_list(
        self, resource: Resource, namespace: str, keep: Callable[[Object], Object]
    ) -> Sequence[Object]:
        return await self._client.reduced_list(resource, namespace, keep)

    def watch(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
        bookmarks: bool = False,
    ) -> AsyncGenerator[WatchEvent, None]:
        return self._client.watch(
            resource,
            namespace,
            resource_version=resource_version,
            label_selector=label_selector,
            field_selector=field_selector,
            bookmarks=bookmarks,
        )

    async def create(self, resource: Resource, namespace: str, obj: Object) -> Object:
        return await self._client.create(resource, namespace, obj)

    async def update(self, resource: Resource, namespace: str, obj: Object, *, subresource: str = "") -> Object:
        return await self._client.update(resource, namespace, obj, subresource=subresource)

    async def merge_patch(
        self, resource: Resource, namespace: str, name: str, patch: Object, *, subresource: str = ""
    ) -> Object:
        return await self._client.merge_patch(resource, namespace, name, patch, subresource=subresource)

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, grace_period: int | None = None, uid: str = ""
    ) -> None:
        await self._client.delete(resource, namespace, name, grace_period=grace_period, uid=uid)

    async def create_token(self, namespace: str, account: str, request: Object) -> Object:
        return await self._client.create_token(namespace, account, request)

    async def account_rules(self, namespace: str, account: str) -> Sequence[Mapping[str, Any]]:
        return await self._client.account_rules(namespace, account)

    async def issuer_keys(self) -> Sequence[Mapping[str, Any]]:
        return await self._client.issuer_keys()
