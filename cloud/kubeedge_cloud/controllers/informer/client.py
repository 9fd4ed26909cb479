"""A KubeClient whose own writes its caches know at once. It works over every KubeClient, of our API or of another."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from kubeedge.api import meta
from kubeedge.api.client import ForwardingClient, KubeClient, Resource
from kubeedge.api.names import Object
from kubeedge_cloud.controllers.informer.driver import Informer
from kubeedge_cloud.controllers.objects import without_history

_OF_THE_OBJECT = ("", "status", "finalize")  # subresources whose answer is the object itself


class CachedClient(ForwardingClient):
    """Reads go to the API; what is in the caches is asked of the informers."""

    def __init__(self, client: KubeClient) -> None:
        super().__init__(client)
        self._informers: dict[Resource, Informer] = {}

    def over(self, client: KubeClient) -> CachedClient:
        """The same caches, for writes that another client makes: with another identity, say."""
        other = CachedClient(client)
        other._informers = self._informers
        return other

    def informer(
        self,
        resource: Resource,
        *,
        field_selector: str = "",
        keep: Callable[[Object], Object] = without_history,
    ) -> Informer:
        """The cache of a resource, created by the first call; the caller runs it."""
        if resource not in self._informers:
            self._informers[resource] = Informer(self._client, resource, field_selector=field_selector, keep=keep)
        return self._informers[resource]

    def drop(self, resource: Resource) -> None:
        """Forget the cache of a resource that is not served any more."""
        del self._informers[resource]

    def informers(self) -> Sequence[Informer]:
        """All that exist so far: the caller runs them."""
        return tuple(self._informers.values())

    async def create(self, resource: Resource, namespace: str, obj: Object) -> Object:
        """The cache of the resource has the object when this returns."""
        return await self._written(
            resource,
            namespace or meta.namespace_of(obj),
            meta.name_of(obj),
            lambda: self._client.create(resource, namespace, obj),
        )

    async def update(self, resource: Resource, namespace: str, obj: Object, *, subresource: str = "") -> Object:
        """The cache has what the API answered when this returns, unless a subresource answers something else."""
        return await self._written(
            resource,
            namespace or meta.namespace_of(obj),
            meta.name_of(obj),
            lambda: self._client.update(resource, namespace, obj, subresource=subresource),
            subresource,
        )

    async def merge_patch(
        self, resource: Resource, namespace: str, name: str, patch: Object, *, subresource: str = ""
    ) -> Object:
        """As `update`, with a JSON merge patch (RFC 7386): the answer is in the cache when this returns."""
        return await self._written(
            resource,
            namespace,
            name,
            lambda: self._client.merge_patch(resource, namespace, name, patch, subresource=subresource),
            subresource,
        )

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, grace_period: int | None = None, uid: str = ""
    ) -> None:
        """Delete an object. With a uid, the cache expects the deletion from now on (`expected_deletions`)."""
        request = self._client.delete(resource, namespace, name, grace_period=grace_period, uid=uid)
        informer = self._informers.get(resource)
        if informer is None or not uid:
            await request
        else:
            await informer.deleted(uid, request)

    async def _written(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        request: Callable[[], Awaitable[Object]],
        subresource: str = "",
    ) -> Object:
        informer = self._informers.get(resource)
        if informer is None or subresource not in _OF_THE_OBJECT:
            return await request()
        return await informer.written(namespace if resource.namespaced else "", name, request)
