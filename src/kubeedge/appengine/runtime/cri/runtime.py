"""A Runtime behind a CRI v1 socket.

Lives here:      start and end, what survives a restart, what is used.
Lives elsewhere: sandboxes.py, containers.py, processes.py (exec, attach, ports), runs.py (how each container ends), features.py (what the runtime
                 can do), own.py (which objects are this node's); calls (client.py), messages (configs.py, found.py), events (watch.py),
                 streams (streams.py), images (images.py).

    ROOT/cri/<uid>/etc/                 hosts, hostname, resolv.conf of a pod
    ROOT/cri/<uid>/<container>          its termination message

Pods are known by their labels, so the runtime's own state is enough to take everything up again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from kubeedge.api.names import Object
from kubeedge.api.pod import ResourceRequirements
from kubeedge.appengine.runtime import cni
from kubeedge.appengine.runtime.base import (
    ContainerConfig,
    ExecResult,
    Exit,
    FoundPod,
    PodStats,
    SandboxConfig,
    SandboxStatus,
    Started,
)
from kubeedge.appengine.runtime.cri import configs, found, streams
from kubeedge.appengine.runtime.cri.client import QUICK, CriClient
from kubeedge.appengine.runtime.cri.containers import CriContainers
from kubeedge.appengine.runtime.cri.features import introduce
from kubeedge.appengine.runtime.cri.images import CriImages
from kubeedge.appengine.runtime.cri.own import OwnObjects
from kubeedge.appengine.runtime.cri.processes import CriProcesses
from kubeedge.appengine.runtime.cri.runs import CriRuns
from kubeedge.appengine.runtime.cri.sandboxes import CriSandboxes
from kubeedge.appengine.runtime.cri.settings import CriSettings
from kubeedge.appengine.runtime.cri.watch import CriWatch
from kubeedge.kit import trees
from kubeedge.kit.disk_use import DiskUse
from kubeedge.kit.grpc import GrpcError

if TYPE_CHECKING:
    from kubeedge.appengine.runtime.detail import PodDetail

log = logging.getLogger("kubeedge.appengine.runtime")

_AGAIN = 1.0  # seconds between two attempts to reach the runtime at the start


class CriRuntime:
    """containerd, CRI-O, or whatever else speaks CRI v1."""

    def __init__(self, settings: CriSettings) -> None:
        self._settings = settings
        self._client = CriClient(settings.socket)
        self.images = CriImages(
            self._client, settings.socket, settings.root / "images/preload", lambda: self.scheme, settings.pinned
        )
        self._files = settings.root / "cri"
        self._own = OwnObjects(self._client, settings.node)
        self._runs = CriRuns(self._own, self._files)
        self._sandboxes = CriSandboxes(settings, self._client, self._own, self._files)
        self._containers = CriContainers(
            settings, self._client, self._own, self._runs, self._sandboxes, self.images, self._files
        )
        self._processes = CriProcesses(self._client, self._runs, self._sandboxes)
        self._watch = CriWatch(self._client, self._runs.ended, self._runs.relist)
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def scheme(self) -> str:
        """The scheme of container ids, before "://": the name that the runtime gives itself."""
        return self._sandboxes.features.scheme

    @property
    def version(self) -> str:
        """Name and version of the runtime as a Node shows them: SCHEME://VERSION."""
        return self._sandboxes.features.version

    @property
    def handlers(self) -> Sequence[str]:
        """Runtime handlers; "" is the default."""
        return self._sandboxes.features.handlers

    def not_ready(self) -> str:
        """What the runtime has last said of itself, or that it says nothing."""
        return self._watch.problem

    # -- start and end -------------------------------------------------------------------------------------------------

    async def start(self, on_exit: Callable[[Exit], None]) -> Sequence[FoundPod]:
        """Waits for the runtime: without it, it is not known which pods run."""
        self._runs.on_exit, self._loop = on_exit, asyncio.get_running_loop()
        self._files.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(self._make_network)
        while True:
            try:
                features = self._sandboxes.features = await introduce(self._client, ",".join(self._settings.pod_cidrs))
                if features.sandbox_image:
                    self.images.pinned.add(features.sandbox_image)
                await asyncio.to_thread(self._sandboxes.prepare)
                pods = await self._recover()
                break
            except GrpcError as exc:
                problem = f"the container runtime does not answer: {exc}"
                if self._watch.problem != problem:
                    log.warning("%s", problem)
                self._watch.problem = problem
                await asyncio.sleep(_AGAIN)
        await self._watch.check()
        self._watch.start()
        return pods

    async def close(self) -> None:
        """Ends our connections to the runtime. Containers go on."""
        await self._watch.close()
        await self.images.close()
        await self._client.close()

    def _make_network(self) -> None:
        """Blocking. The configuration of the pods' network, where the runtime takes it from."""
        settings = self._settings
        if settings.cni_conf is None:
            return
        network = cni.Network(settings.bridge, settings.pod_cidrs, settings.root / "cni", ())
        text = json.dumps(network.conflist(), indent=2) + "\n"
        path = settings.cni_conf / "10-kubeedge.conflist"
        try:
            settings.cni_conf.mkdir(parents=True, exist_ok=True)
            if not path.exists() or path.read_text() != text:
                path.with_suffix(".new").write_text(text)
                path.with_suffix(".new").replace(path)
            cni.masquerade(settings.pod_cidrs, settings.overlay_cidrs)
        except (OSError, subprocess.SubprocessError) as exc:
            log.warning("pods will not reach external networks: %s", exc)

    async def _recover(self) -> list[FoundPod]:
        self._runs.clear()
        self._sandboxes.clear()
        sandboxes = await self._own.sandboxes()
        listed = await self._own.containers()
        pods = []
        for uid, sandbox in found.newest(sandboxes, configs.POD_UID).items():
            id = str(sandbox["id"])
            own = [c for c in listed if c.get("pod_sandbox_id") == id]
            newest = found.newest(own, configs.CONTAINER)
            for stale in own:
                if stale not in newest.values() or stale.get("state", found.CREATED) == found.CREATED:
                    await self._own.end("RemoveContainer", container_id=stale["id"])
            there = [c for c in newest.values() if c.get("state", found.CREATED) != found.CREATED]
            known = await self._sandboxes.recover(uid, id)
            statuses = [await self._own.container(str(c["id"])) for c in there]
            metadata = sandbox.get("metadata", {})
            pods.append(
                FoundPod(
                    uid,
                    str(metadata.get("namespace", "")),
                    str(metadata.get("name", "")),
                    known.ip,
                    [self._runs.take_up(uid, id, s) for s in statuses if s is not None],
                    known.ipv6,
                )
            )
        for sandbox in sandboxes:
            uid = found.label(sandbox, configs.POD_UID)
            if self._sandboxes.id_of(uid) != sandbox["id"]:
                await self._own.remove_sandbox(str(sandbox["id"]))
        for left in self._files.iterdir():
            if left.name not in self._sandboxes:
                await asyncio.to_thread(trees.remove, left)
        return pods

    # -- sandboxes and containers --------------------------------------------------------------------------------------

    async def create_sandbox(self, config: SandboxConfig) -> SandboxStatus:
        """RunPodSandbox, and the files of /etc that its containers get. Raises StartError."""
        return await self._sandboxes.create(config)

    async def sandbox_status(self, uid: str) -> SandboxStatus | None:
        """Asked of the runtime. Raises OSError when it does not answer."""
        return await self._sandboxes.status(uid)

    async def start_container(self, sandbox: SandboxConfig, config: ContainerConfig) -> Started:
        """CreateContainer and StartContainer; what was created and does not start is removed. Raises StartError."""
        return await self._containers.start(sandbox, config)

    async def update_sandbox(self, config: SandboxConfig) -> None:
        """In the pod's own control group, which is ours; with systemd's it is left as it was."""
        await asyncio.to_thread(self._sandboxes.update, config)

    async def update_container(self, id: str, resources: ResourceRequirements) -> None:
        """Raises NotRunning, and StartError for limits that the container cannot have now."""
        await self._containers.update(id, resources)

    async def stop_container(self, id: str, grace: float) -> None:
        """After `grace` seconds it is killed. Raises OSError when the runtime does not answer."""
        await self._containers.stop(id, grace)

    async def remove_pod(self, uid: str) -> None:
        """All its sandboxes, also those of earlier attempts, with what is in them. Raises OSError."""
        self._runs.end_pod(uid)
        await self._sandboxes.remove(uid)

    # -- streams -------------------------------------------------------------------------------------------------------

    async def exec_sync(self, id: str, command: Sequence[str], timeout: float) -> ExecResult:
        """Limited to whole seconds on the runtime's side, which ends the command."""
        return await self._processes.exec_sync(id, command, timeout)

    async def exec(
        self, id: str, command: Sequence[str], *, stdin: bool = False, tty: bool = False
    ) -> streams.CriStreams:
        """Over the streams that the runtime's URL leads to. Raises NotRunning, StartError."""
        return await self._processes.exec(id, command, stdin=stdin, tty=tty)

    async def attach(self, id: str, *, stdin: bool = False) -> streams.CriStreams:
        """Over the streams that the runtime's URL leads to. Raises NotRunning, StartError."""
        return await self._processes.attach(id, stdin=stdin)

    async def port_forward(self, uid: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to a port of a pod, made by the runtime in the pod's network. Raises NotRunning or OSError."""
        return await self._processes.port_forward(uid, port)

    def reopen_log(self, id: str) -> None:
        """Blocking, in a thread of its caller's."""
        if self._loop is None:
            raise OSError("the runtime is not started")
        called = self._client.call("ReopenContainerLog", within=QUICK, container_id=id)
        try:
            asyncio.run_coroutine_threadsafe(called, self._loop).result()
        except GrpcError as exc:
            raise OSError(str(exc)) from exc

    # -- usage ---------------------------------------------------------------------------------------------------------

    async def stats(self) -> Sequence[PodStats]:
        """Of each pod as its sandbox is counted, or what its containers have in sum where the runtime does not count sandboxes."""
        try:
            listed = await self._own.containers()
            answer = await self._client.call("ListContainerStats", within=QUICK, filter=self._own.selector)
        except GrpcError as exc:
            log.debug("stats: %s", exc)
            return []
        pods: Object = {}
        with contextlib.suppress(GrpcError):  # newer than CRI v1 itself
            pods = await self._client.call("ListPodSandboxStats", within=QUICK, filter=self._own.selector)
        running = {str(c["id"]): c for c in listed if c.get("state", found.CREATED) == found.RUNNING}
        return found.pod_stats(answer.get("stats", ()), pods.get("stats", ()), running)

    async def details(self) -> Sequence[PodDetail]:
        """From the control groups, where the runtime's driver leaves their names to us; what of the network it counts itself."""
        from kubeedge.appengine.runtime.cri import details  # an agent without such requests does not load it

        try:
            listed = await self._own.containers()
            pods = await self._client.call("ListPodSandboxStats", within=QUICK, filter=self._own.selector)
        except GrpcError as exc:
            log.debug("details: %s", exc)
            return []
        running = [c for c in listed if c.get("state", found.CREATED) == found.RUNNING]
        group = (lambda uid: "") if self._sandboxes.features.systemd else self._sandboxes.parent
        return await asyncio.to_thread(details.pod_details, running, pods.get("stats", ()), group)

    async def disk_usage(self, uid: str) -> Mapping[str, DiskUse]:
        """Disk usage of each container of a pod, as the runtime counted it last. Raises OSError."""
        if uid not in self._sandboxes:
            return {}
        selector = {"pod_sandbox_id": self._sandboxes.id_of(uid)}
        try:
            answer = await self._client.call("ListContainerStats", within=QUICK, filter=selector)
        except GrpcError as exc:
            raise OSError(str(exc)) from exc
        return found.disk_use(answer.get("stats", ()))
