"""Which pod has which devices, for monitors on this node: podresources/v1 of the kubelet's API."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from kubeedge.api.names import Object
from kubeedge.api.pod import Pod
from kubeedge.api.protobuf import encode
from kubeedge.appengine.deviceplugins.core import PluginDevice
from kubeedge.appengine.deviceplugins.manager import DeviceManager
from kubeedge.appengine.deviceplugins.plugins import TYPES, decoded
from kubeedge.appengine.deviceplugins.records import DeviceAllocation
from kubeedge.errors import Invalid
from kubeedge.kit.grpc import INVALID_ARGUMENT, NOT_FOUND, GrpcError
from kubeedge.kit.grpc_server import GrpcMethod

_SERVICE = "/v1.PodResourcesLister/"


class PodResources:
    """Three calls. `pods`: those that have not ended on this node."""

    def __init__(self, manager: DeviceManager, pods: Callable[[], Iterable[Pod]]) -> None:
        self._manager, self._pods = manager, pods

    def methods(self) -> Mapping[str, GrpcMethod]:
        """The calls of the service, by their paths."""
        return {
            f"{_SERVICE}List": self.list_pods,
            f"{_SERVICE}GetAllocatableResources": self.allocatable,
            f"{_SERVICE}Get": self.get_pod,
        }

    async def list_pods(self, message: bytes) -> bytes:
        """Every pod, with the devices of each container."""
        found = [self._pod(pod) for pod in self._pods()]
        return encode(TYPES, "ListPodResourcesResponse", {"pod_resources": found})

    async def get_pod(self, message: bytes) -> bytes:
        """One pod. Raises GrpcError."""
        try:
            asked = decoded("GetPodResourcesRequest", message)
        except Invalid as exc:
            raise GrpcError(INVALID_ARGUMENT, str(exc)) from exc
        key = asked.get("pod_namespace"), asked.get("pod_name")
        pod = next((pod for pod in self._pods() if (pod.namespace, pod.name) == key), None)
        if pod is None:
            raise GrpcError(NOT_FOUND, f"pod {key[1]} in namespace {key[0]} not found")
        return encode(TYPES, "GetPodResourcesResponse", {"pod_resources": self._pod(pod)})

    async def allocatable(self, message: bytes) -> bytes:
        """All devices that containers can have, whoever has them."""
        found: list[Object] = []
        for plugin in self._manager.plugins:
            known = [plugin.devices[id] for id in sorted(plugin.healthy)]
            found += _devices(plugin.registration.resource, known)
        return encode(TYPES, "AllocatableResourcesResponse", {"devices": found})

    def _pod(self, pod: Pod) -> Object:
        own = [one for one in self._manager.records if one.uid == pod.uid]
        names = [c.name for c in (*pod.sidecars, *pod.containers)]
        return {
            "name": pod.name,
            "namespace": pod.namespace,
            "containers": [{"name": name, "devices": self._of_container(own, name)} for name in names],
        }

    def _of_container(self, own: Iterable[DeviceAllocation], name: str) -> list[Object]:
        found: list[Object] = []
        for one in own:
            if one.container == name:
                plugin = self._manager.plugins.get(one.resource)
                known = plugin.devices if plugin is not None else {}
                found += _devices(one.resource, [known.get(id, PluginDevice(id, False)) for id in one.ids])
        return found


def _devices(resource: str, devices: Iterable[PluginDevice]) -> list[Object]:
    """One message for the devices of each topology."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for one in devices:
        groups.setdefault(tuple(one.numa), []).append(one.id)
    return [
        {
            "resource_name": resource,
            "device_ids": ids,
            **({"topology": {"nodes": [{"ID": node} for node in numa]}} if numa else {}),
        }
        for numa, ids in groups.items()
    ]
