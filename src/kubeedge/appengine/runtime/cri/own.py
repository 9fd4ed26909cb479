"""What a runtime has of this node: others may use the same socket, and pods are known by their labels."""

from __future__ import annotations

from typing import Any

from kubeedge.api.names import Object
from kubeedge.appengine.runtime.cri import configs
from kubeedge.appengine.runtime.cri.client import QUICK, CriClient
from kubeedge.kit.grpc import NOT_FOUND, GrpcError


class OwnObjects:
    """Sandboxes and containers with the label of this node."""

    def __init__(self, client: CriClient, node: str) -> None:
        self._client = client
        self._node = node

    @property
    def selector(self) -> Object:
        """The filter of a request for them."""
        return {"label_selector": {configs.NODE: self._node}}

    async def sandboxes(self) -> list[Object]:
        """The PodSandbox messages of this node's sandboxes. Raises GrpcError."""
        return await self._list("ListPodSandbox", "items")

    async def containers(self) -> list[Object]:
        """Container messages, whatever their state. Raises GrpcError."""
        return await self._list("ListContainers", "containers")

    async def _list(self, call: str, field: str) -> list[Object]:
        answer = await self._client.call(call, within=QUICK, filter=self.selector)
        return [thing for thing in answer.get(field, ()) if configs.is_ours(thing.get("labels"), self._node)]

    async def sandbox(self, id: str) -> Object:
        """PodSandboxStatus. Raises GrpcError, NOT_FOUND for one that is gone."""
        answer = await self._client.call("PodSandboxStatus", within=QUICK, pod_sandbox_id=id)
        status: Object = answer.get("status", {})
        return status

    async def container(self, id: str) -> Object | None:
        """ContainerStatus; None: there is no such container. Raises GrpcError."""
        try:
            answer = await self._client.call("ContainerStatus", within=QUICK, container_id=id)
        except GrpcError as exc:
            if exc.code == NOT_FOUND:
                return None
            raise
        status: Object | None = answer.get("status")
        return status

    async def end(self, call: str, **fields: Any) -> None:
        """A call that stops or removes: what is gone already is success. Raises GrpcError."""
        try:
            await self._client.call(call, **fields)
        except GrpcError as exc:
            if exc.code != NOT_FOUND:
                raise

    async def remove_sandbox(self, id: str) -> None:
        """Remove a sandbox with all that is in it. Raises GrpcError."""
        await self.end("StopPodSandbox", pod_sandbox_id=id)
        await self.end("RemovePodSandbox", pod_sandbox_id=id)
