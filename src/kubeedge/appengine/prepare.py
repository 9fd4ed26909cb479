"""Everything that a container needs on disk and in its environment before it starts, from the pod and from ConfigMaps and Secrets.

Lives here:      which of them this node has.
Lives elsewhere: what they refer to (resolve.py), volumes (volumes/).
"""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from kubeedge.api.known_services import API_SERVER
from kubeedge.api.names import Object
from kubeedge.api.pod import Container, Pod, ResourceRequirements
from kubeedge.api.resources import PERSISTENTVOLUMECLAIMS
from kubeedge.appengine import logs, node, oom, qos, resolve, swap
from kubeedge.appengine.core import PodObservation
from kubeedge.appengine.node_api import NodeApi
from kubeedge.appengine.node_devices import NodeDevices
from kubeedge.appengine.runtime.base import ContainerConfig, SandboxConfig
from kubeedge.appengine.status import qos_class
from kubeedge.appengine.user_ranges import UserRanges
from kubeedge.appengine.volumes.manager import VolumeManager
from kubeedge.appengine.volumes.registry import has_remote_volumes
from kubeedge.kit.dataclasses import replace

_Result = TypeVar("_Result")
_SLOW_THREADS = 8


class Preparer:
    """Environment, volumes and files of containers. `state` is the agent's state directory, `host_ip` the node's address on the overlay."""

    def __init__(
        self, *, node: str, host_ip: str, state: Path, log_root: Path, allocatable: Mapping[str, int] = resolve.NOTHING,
        api: NodeApi | None = None, swap_behaviour: str = "",
    ) -> None:  # fmt: skip
        self._variables = api.variables() if api is not None else {}
        self._node, self._swap = node, swap_behaviour
        self.allocatable = allocatable  # of this node
        self._host_ip = host_ip
        self._log_root = log_root
        self.volumes = VolumeManager(
            state / "volumes", find=self.find, node=node, host_ip=host_ip, allocatable=allocatable, api=api
        )
        self.users = UserRanges(state / "users")
        self.devices: NodeDevices | None = None  # of plugins
        self._slow: ThreadPoolExecutor | None = None
        self._objects: dict[tuple[str, str, str], Object] = {}  # (resource, namespace, name)

    def clear(self) -> None:
        """Forget every ConfigMap and Secret: the store is about to be read again."""
        self._objects.clear()

    def keep(self, resource: str, namespace: str, name: str, obj: Object | None) -> None:
        """A ConfigMap, Secret or Service came, changed, or went (None)."""
        if obj is None:
            self._objects.pop((resource, namespace, name), None)
        else:
            self._objects[resource, namespace, name] = obj

    def find(self, resource: str, namespace: str, name: str) -> Object | None:
        """A ConfigMap or Secret as it was last seen; None when this node has none of this name."""
        return self._objects.get((resource, namespace, name))

    def _services(self, pod: Pod) -> list[Object]:
        """The API server comes first: a Service of that name in the pod's own namespace has the variables, as with the kubelet."""
        found = [] if (api := self.find("services", *API_SERVER)) is None else [api]
        return found + [
            obj
            for (kind, of, _), obj in sorted(self._objects.items(), key=lambda item: item[0])
            if pod.service_links and (kind, of) == ("services", pod.namespace)
        ]

    def sandbox(self, pod: Pod, observed: PodObservation) -> SandboxConfig:
        """What the runtime is told of the pod as a whole, of which so much runs already."""
        states = observed.containers.items()
        has = {name: state.resources for name, state in states if state.running and state.resources is not None}
        directory = logs.directory(self._log_root, pod.namespace, pod.name, pod.uid)
        users = 0 if pod.host_users else self.users.of(pod.uid)
        return replace(sandbox_config(pod, directory, qos.pod_resources(pod, has)), first_user=users)

    async def configure(self, pod: Pod, container: Container, attempt: int, ip: str) -> ContainerConfig:
        """Raises Missing or Invalid for what cannot be resolved, StartError or OSError for what cannot be on disk."""
        ip = self._host_ip if pod.host_network else ip
        services = self._services(pod)
        files = await self._files_of_variables(pod, container)
        env = resolve.environment(
            pod, container, self.find, pod_ip=ip, host_ip=self._host_ip, node=self._node, services=services,
            allocatable=self.allocatable, api=self._variables, files=files,
        )  # fmt: skip
        env = {"HOSTNAME": pod.kernel_name if not pod.host_network else socket.gethostname(), **env}
        path = logs.path(self._log_root, pod.namespace, pod.name, pod.uid, container.name, attempt)
        binds = await self._in_thread(pod, self.volumes.mount, pod, container, ip, env)
        await asyncio.to_thread(logs.prune, path.parent, attempt)
        score = oom.score(pod, container, node.memory())
        of_swap = swap.limit(pod, container, self._swap, node.memory(), node.swap())
        runs = replace(container, resources=qos.of_container(pod, container.resources))
        config = ContainerConfig(runs, attempt, container.image, env, binds, path, oom_score_adj=score, swap=of_swap)
        edits = await self.devices.allocate(pod, container) if self.devices is not None else None
        return edits.applied(config) if edits is not None else config

    async def _files_of_variables(self, pod: Pod, container: Container) -> dict[tuple[str, str], str | None]:
        if not any(variable.source and "fileKeyRef" in variable.source for variable in container.env):
            return {}
        from kubeedge.appengine import env_file_reader  # few pods have such variables

        return await asyncio.to_thread(
            env_file_reader.read_all, container, lambda name: self.volumes.path_of(pod.uid, name)
        )

    async def attach(self, pod: Pod, container: Container) -> list[tuple[str, Object, str]]:
        """The volumes of a container for which others have to answer; may take long. Name, object and capacity of claims that have grown by that.
        Raises NotMounted."""
        return [
            (name, claim, capacity)
            for name, capacity in await self.volumes.attach(pod, container)
            if (claim := self.find(PERSISTENTVOLUMECLAIMS.plural, pod.namespace, name)) is not None
        ]

    async def refresh(self, pod: Pod, ip: str) -> None:
        """The pod's volumes get the newest content."""
        await self._in_thread(pod, self.volumes.refresh, pod, self._host_ip if pod.host_network else ip)

    async def remove(self, namespace: str, name: str, uid: str, pod: Pod | None) -> None:
        """Volumes and logs of a pod; `name` is "" and `pod` None when they are not known. Raises OSError or NotMounted for what stays mounted."""
        if self.devices is not None:
            await self.devices.release(uid)
        await self.volumes.detach(uid, pod)
        await self._in_thread(pod, self.volumes.remove, uid, pod)
        self.users.release(uid)
        if name:
            await asyncio.to_thread(
                shutil.rmtree, logs.directory(self._log_root, namespace, name, uid), ignore_errors=True
            )

    @property
    def slow_threads(self) -> Executor:
        """For what may hang because a server does: nothing else waits for them."""
        self._slow = self._slow or ThreadPoolExecutor(_SLOW_THREADS, "slow volumes")
        return self._slow

    async def _in_thread(self, pod: Pod | None, call: Callable[..., _Result], *arguments: object) -> _Result:
        if pod is None or not has_remote_volumes(pod):
            return await asyncio.to_thread(call, *arguments)
        return await asyncio.get_running_loop().run_in_executor(self.slow_threads, call, *arguments)


def sandbox_config(pod: Pod, log_directory: Path, resources: ResourceRequirements | None = None) -> SandboxConfig:
    """What the runtime must know of a pod to create its sandbox, from the pod's specification."""
    return SandboxConfig(
        uid=pod.uid,
        namespace=pod.namespace,
        name=pod.name,
        hostname=pod.hostname,
        labels=pod.labels,
        annotations=pod.annotations,
        host_network=pod.host_network,
        host_pid=pod.host_pid,
        host_ipc=pod.host_ipc,
        privileged=any(container.security.privileged for container in pod.all_containers),
        share_processes=pod.share_processes,
        full_name=pod.full_name,
        kernel_name=pod.kernel_name,
        sysctls=pod.sysctls,
        strict_groups=pod.strict_groups,
        host_aliases=pod.host_aliases,
        ports=pod.host_ports,
        dns_policy=pod.dns_policy,
        dns=pod.dns,
        groups=(*pod.groups, *([pod.fs_group] if pod.fs_group is not None else ())),
        log_directory=log_directory,
        handler=pod.runtime_class,
        qos=qos_class(pod),
        resources=resources,
    )
