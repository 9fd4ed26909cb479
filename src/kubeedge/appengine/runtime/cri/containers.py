"""Containers behind a CRI socket: start, resize, stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
from pathlib import Path

from kubeedge.api.names import Object
from kubeedge.api.pod import ResourceRequirements
from kubeedge.appengine.runtime import cgroups, containers
from kubeedge.appengine.runtime.base import BindMount, ContainerConfig, NotRunning, SandboxConfig, Started, StartError
from kubeedge.appengine.runtime.cri import configs, found
from kubeedge.appengine.runtime.cri.client import QUICK, CriClient
from kubeedge.appengine.runtime.cri.images import CriImages
from kubeedge.appengine.runtime.cri.own import OwnObjects
from kubeedge.appengine.runtime.cri.runs import CriRun, CriRuns
from kubeedge.appengine.runtime.cri.sandboxes import CriSandboxes
from kubeedge.appengine.runtime.cri.settings import CriSettings
from kubeedge.kit.grpc import NOT_FOUND, GrpcError

_KILL = 60.0  # seconds that a runtime may need beyond the grace


class CriContainers:
    """Operations on single containers. `files` is the directory of their own files."""

    def __init__(
        self,
        settings: CriSettings,
        client: CriClient,
        own: OwnObjects,
        runs: CriRuns,
        sandboxes: CriSandboxes,
        images: CriImages,
        files: Path,
    ) -> None:
        self._settings = settings
        self._client = client
        self._own = own
        self._runs = runs
        self._sandboxes = sandboxes
        self._images = images
        self._files = files

    async def start(self, sandbox: SandboxConfig, config: ContainerConfig) -> Started:
        """CreateContainer and StartContainer; what was created and does not start is removed. Raises StartError."""
        try:
            return await self._start(sandbox, config)
        except GrpcError as exc:
            hint = (
                f" ({self._sandboxes.features.version} may not have image volumes)"
                if any(m.image for m in config.mounts)
                else ""
            )
            raise StartError("CreateContainerError", f"{exc}{hint}") from exc

    async def _start(self, sandbox: SandboxConfig, config: ContainerConfig) -> Started:
        if sandbox.uid not in self._sandboxes:
            raise StartError("CreateContainerError", f"pod {sandbox.uid} has no sandbox")
        if config.target_id and self._runs.running(config.target_id) is None:
            raise StartError("CreateContainerError", f"container {config.container.target} does not run")
        is_recursive = sandbox.handler in self._sandboxes.features.recursive
        if not is_recursive and any(mount.recursive_read_only == "Enabled" for mount in config.mounts):
            raise StartError(
                "CreateContainerError", f"{self._sandboxes.features.version} has no recursive read-only mounts"
            )
        user = await self._image_user(config)
        id = self._sandboxes.id_of(sandbox.uid)
        await asyncio.to_thread(self._sandboxes.update, sandbox)
        for old in self._runs.of(sandbox.uid, config.container.name):
            await self._own.end("RemoveContainer", container_id=old)
        message = self._files / sandbox.uid / config.container.name
        mounts = await asyncio.to_thread(self._own_mounts, sandbox, config, message)
        made = configs.container(
            sandbox, config, node=self._settings.node, mounts=mounts, message=str(message), image_user=user,
            profiles=self._settings.root / "seccomp", oom_score_adj=containers.oom_score(config.oom_score_adj),
            recursive_read_only=is_recursive, limits_swap=cgroups.limits_swap(self._settings.cgroup_prefix),
        )  # fmt: skip
        config_of_pod = configs.sandbox(
            sandbox, node=self._settings.node, attempt=0, cgroup_parent=self._sandboxes.parent(sandbox.uid)
        )
        answer = await self._client.call(
            "CreateContainer", pod_sandbox_id=id, config=made, sandbox_config=config_of_pod
        )
        container = str(answer.get("container_id", ""))
        try:
            await self._client.call("StartContainer", container_id=container)
            status = await self._own.container(container) or {}
        except GrpcError:
            with contextlib.suppress(GrpcError):
                await self._client.call("RemoveContainer", container_id=container)
            raise
        run = CriRun(
            sandbox.uid, config.container.name, id, config.container.tty, config.container.stdin,
            "" if status.get("stop_signal") else config.container.stop_signal,
        )  # fmt: skip
        self._runs.add(container, run)
        if found.has_ended(status):
            asyncio.get_running_loop().call_soon(self._runs.look, container)
        return Started(container, 0, found.image_id(status), found.user(status))

    async def _image_user(self, config: ContainerConfig) -> Object:
        image = await self._images.find(config.image)
        if image is None:
            raise StartError("ErrImageNeverPull", f"image {config.image} is not on this node")
        user: Object = {"username": image["username"]} if image.get("username") else {"uid": 0}
        if "uid" in image:
            user = {"uid": int(image["uid"].get("value", 0))}
        configs.check_user(config.container.security, user)
        return user

    def _own_mounts(self, sandbox: SandboxConfig, config: ContainerConfig, message: Path) -> list[BindMount]:
        """The mounts that Kubernetes itself adds to a container: files of /etc and the termination message. Makes the files. Blocking."""
        container = config.container
        config.log_path.parent.mkdir(parents=True, exist_ok=True)
        message.parent.mkdir(parents=True, exist_ok=True)
        message.write_bytes(b"")
        message.chmod(0o666)
        etc = self._files / sandbox.uid / "etc"
        own = [
            *(BindMount(etc / name, f"/etc/{name}") for name in ("hosts", "hostname", "resolv.conf")),
            BindMount(message, container.termination_message_path),
        ]
        taken = {mount.path for mount in container.mounts}
        return [mount for mount in own if mount.target and mount.target not in taken]

    async def update(self, id: str, resources: ResourceRequirements) -> None:
        """A memory limit below what is in use is refused here: runtimes differ in what becomes of it. Raises NotRunning, StartError."""
        if self._runs.running(id) is None:
            raise NotRunning(f"container {id} does not run")
        try:
            if limit := resources.memory_limit:
                answer = await self._client.call("ContainerStats", within=QUICK, container_id=id)
                memory = answer.get("stats", {}).get("memory", {})
                used = int(memory.get("working_set_bytes", {}).get("value", 0))
                if used > limit:
                    message = f"the memory limit {limit} is below what is in use ({used} bytes)"
                    raise StartError("Error", message)
            wanted = configs.resources(resources, no_limit=-1)
            await self._client.call("UpdateContainerResources", container_id=id, linux=wanted)
        except GrpcError as exc:
            if exc.code == NOT_FOUND:
                raise NotRunning(f"container {id} does not run") from exc
            raise StartError("Error", str(exc)) from exc

    async def stop(self, id: str, grace: float) -> None:
        """A stop signal that the runtime has no word for is sent from here. Raises OSError when it does not answer."""
        run = self._runs.running(id)
        if run is None:
            return
        if run.stop_signal and grace > 0 and await self._signal(id, run.stop_signal):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    while not run.over.is_set():
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(0.2):
                                await run.over.wait()
                        await self._runs.ended(id)
            grace = 0.0
        if not run.over.is_set():
            try:
                await self._own.end("StopContainer", within=grace + _KILL, container_id=id, timeout=math.ceil(grace))
            except GrpcError as exc:
                raise OSError(str(exc)) from exc
            await self._runs.ended(id)

    async def _signal(self, id: str, name: str) -> bool:
        """For a runtime whose CRI has no stop signals yet, and which tells the process: containerd and CRI-O do, for debugging."""
        answer = await self._client.call("ContainerStatus", within=QUICK, container_id=id, verbose=True)
        try:
            pid = int(json.loads(answer.get("info", {}).get("info", "{}"))["pid"])
            os.kill(pid, configs.signal_number(name))
        except (ValueError, KeyError, TypeError, OSError):
            return False
        return pid > 1
