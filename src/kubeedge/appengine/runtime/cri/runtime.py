"""A Runtime behind a CRI v1 socket.

Lives here:      which pods and containers are ours, what survives a restart, what becomes of a run that ends.
Lives elsewhere: calls (client.py), what is told and read (configs.py, found.py), ends (watch.py), streams (streams.py), images (images.py).

    ROOT/cri/<uid>/etc/                 hosts, hostname, resolv.conf of a pod
    ROOT/cri/<uid>/<container>          its termination message

Pods are known by their labels, so the runtime's own state is enough to take everything up again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubeedge.api.names import Object
from kubeedge.api.pod import Resources
from kubeedge.appengine.images.names import parse
from kubeedge.appengine.runtime import cgroups, cni, containers, sandbox_files
from kubeedge.appengine.runtime.base import (
    EXEC_OUTPUT,
    BindMount,
    ContainerConfig,
    ExecResult,
    Exit,
    FoundPod,
    NotRunning,
    PodStats,
    SandboxConfig,
    SandboxStatus,
    Started,
    StartError,
)
from kubeedge.appengine.runtime.cri import configs, found, streams
from kubeedge.appengine.runtime.cri.client import QUICK, CriClient
from kubeedge.appengine.runtime.cri.images import CriImages
from kubeedge.appengine.runtime.cri.settings import CriSettings
from kubeedge.appengine.runtime.cri.watch import CriWatch
from kubeedge.errors import Invalid, PeerError
from kubeedge.kit import trees
from kubeedge.kit.disk_use import DiskUse
from kubeedge.kit.grpc import DEADLINE_EXCEEDED, NOT_FOUND, UNIMPLEMENTED, GrpcError

log = logging.getLogger("kubeedge.appengine.runtime")

_MESSAGE_BYTES = 4096  # of a termination message, as in Kubernetes
_AGAIN = 1.0  # seconds between two attempts to reach the runtime at the start
_KILL = 60.0  # seconds that a runtime may need beyond the grace
_SYSTEMD = 0  # CgroupDriver


@dataclass(slots=True)
class _Run:
    uid: str
    name: str
    sandbox: str
    tty: bool
    stdin: bool
    stop_signal: str = ""  # that the runtime does not know of
    exit_code: int | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)


class CriRuntime:
    """containerd, CRI-O, or whatever else speaks CRI v1."""

    def __init__(self, settings: CriSettings) -> None:
        self._settings = settings
        self._client = CriClient(settings.socket)
        self.images = CriImages(
            self._client, settings.socket, settings.root / "images/preload", lambda: self.scheme, settings.pinned
        )
        self._watch = CriWatch(self._client, self._ended, self._relist)
        self._files = settings.root / "cri"
        self._runs: dict[str, _Run] = {}
        self._sandboxes: dict[str, tuple[str, SandboxStatus]] = {}  # uid -> id, what is known of it
        self._on_exit: Callable[[Exit], None] = lambda _: None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_systemd = False
        self._has_strict_groups = False
        self._recursive: set[str] = set()  # handlers with mounts that are read-only all the way down
        self.scheme, self.version, self.handlers = "cri", "cri://unknown", [""]

    def not_ready(self) -> str:
        """What the runtime has last said of itself, or that it says nothing."""
        return self._watch.problem

    # -- start and end -------------------------------------------------------------------------------------------------

    async def start(self, on_exit: Callable[[Exit], None]) -> Sequence[FoundPod]:
        """Waits for the runtime: without it nobody knows which pods run."""
        self._on_exit, self._loop = on_exit, asyncio.get_running_loop()
        self._files.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(self._make_network)
        while True:
            try:
                await self._introduce()
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
        """Containers go on."""
        await self._watch.close()
        await self.images.close()
        await self._client.close()

    def _make_network(self) -> None:
        """Blocking. The configuration of the pods' network, where the runtime takes it from."""
        settings = self._settings
        if settings.cni_conf is None:
            return
        network = cni.Network(settings.bridge, settings.pod_cidr, settings.root / "cni", ())
        text = json.dumps(network.conflist(), indent=2) + "\n"
        path = settings.cni_conf / "10-kubeedge.conflist"
        try:
            settings.cni_conf.mkdir(parents=True, exist_ok=True)
            if not path.exists() or path.read_text() != text:
                path.with_suffix(".new").write_text(text)
                path.with_suffix(".new").replace(path)
            cni.masquerade(settings.pod_cidr, settings.overlay_cidrs)
        except (OSError, subprocess.SubprocessError) as exc:
            log.warning("pods will not reach external networks: %s", exc)

    async def _introduce(self) -> None:
        version = await self._client.call("Version", within=QUICK)
        self.scheme = str(version.get("runtime_name") or "cri")
        self.version = f"{self.scheme}://{version.get('runtime_version', 'unknown')}"
        status = await self._client.call("Status", within=QUICK, verbose=True)
        self._pin_the_pause(status)
        handlers = status.get("runtime_handlers", ())
        self.handlers = sorted({"", *(str(h.get("name", "")) for h in handlers)})
        self._recursive = {
            str(h.get("name", "")) for h in handlers if h.get("features", {}).get("recursive_read_only_mounts")
        }
        self._has_strict_groups = bool(status.get("features", {}).get("supplemental_groups_policy"))
        with contextlib.suppress(GrpcError):  # containerd alone has a use for it, and some refuse
            network = {"pod_cidr": self._settings.pod_cidr}
            await self._client.call("UpdateRuntimeConfig", within=QUICK, runtime_config={"network_config": network})
        try:
            config = await self._client.call("RuntimeConfig", within=QUICK)
            self._is_systemd = config.get("linux", {}).get("cgroup_driver", _SYSTEMD) == _SYSTEMD
        except GrpcError as exc:
            if exc.code != UNIMPLEMENTED:
                raise

    def _pin_the_pause(self, status: Object) -> None:
        """containerd 1.6 tells only here which image its sandboxes are of, and would pull it again from a registry."""
        with contextlib.suppress(ValueError, KeyError, TypeError, Invalid):
            self.images.pinned.add(str(parse(json.loads(status["info"]["config"])["sandboxImage"])))

    async def _recover(self) -> list[FoundPod]:
        self._runs.clear()
        self._sandboxes.clear()
        sandboxes = await self._list("ListPodSandbox", "items")
        listed = await self._list("ListContainers", "containers")
        pods = []
        for uid, sandbox in found.newest(sandboxes, configs.POD_UID).items():
            id = str(sandbox["id"])
            own = [c for c in listed if c.get("pod_sandbox_id") == id]
            newest = found.newest(own, configs.CONTAINER)
            for stale in own:
                if stale not in newest.values() or stale.get("state", found.CREATED) == found.CREATED:
                    await self._tolerant("RemoveContainer", container_id=stale["id"])
            there = [c for c in newest.values() if c.get("state", found.CREATED) != found.CREATED]
            statuses = [await self._status(str(c["id"])) for c in there]
            status = (await self._client.call("PodSandboxStatus", within=QUICK, pod_sandbox_id=id)).get("status", {})
            known = self._known(uid, id, status)
            metadata = sandbox.get("metadata", {})
            pods.append(
                FoundPod(
                    uid,
                    str(metadata.get("namespace", "")),
                    str(metadata.get("name", "")),
                    known.ip,
                    [self._take_up(uid, id, s) for s in statuses if s is not None],
                )
            )
        for sandbox in sandboxes:
            uid = found.label(sandbox, configs.POD_UID)
            if self._sandboxes.get(uid, ("",))[0] != sandbox["id"]:
                await self._remove_sandbox(str(sandbox["id"]))
        for left in self._files.iterdir():
            if left.name not in self._sandboxes:
                await asyncio.to_thread(trees.remove, left)
        return pods

    def _take_up(self, uid: str, sandbox: str, status: Object) -> Any:
        marks = status.get("annotations", {})
        run = self._runs[str(status["id"])] = _Run(
            uid, found.label(status, configs.CONTAINER), sandbox, configs.TTY in marks, configs.STDIN in marks,
            "" if status.get("stop_signal") else str(marks.get(configs.STOP_SIGNAL, "")),
        )  # fmt: skip
        container = found.container(status, self._message(status))
        if container.exit is not None:
            run.exit_code = container.exit.exit_code
            run.over.set()
        return container

    def _known(self, uid: str, id: str, status: Object) -> SandboxStatus:
        is_ready = status.get("state", found.READY) == found.READY
        is_on_node = configs.HOST_NETWORK in status.get("annotations", {})
        ip = found.address(status) if is_ready and not is_on_node else ""
        known = SandboxStatus(uid, ip, is_ready, str(status.get("runtime_handler", "")))
        self._sandboxes[uid] = id, known
        return known

    async def _list(self, call: str, field: str) -> list[Object]:
        answer = await self._client.call(
            call, within=QUICK, filter={"label_selector": {configs.NODE: self._settings.node}}
        )
        return [thing for thing in answer.get(field, ()) if configs.is_ours(thing.get("labels"), self._settings.node)]

    async def _status(self, id: str) -> Object | None:
        """ContainerStatus; None: there is no such container."""
        try:
            answer = await self._client.call("ContainerStatus", within=QUICK, container_id=id)
        except GrpcError as exc:
            if exc.code == NOT_FOUND:
                return None
            raise
        status: Object | None = answer.get("status")
        return status

    async def _tolerant(self, name: str, **fields: Any) -> None:
        """What is gone already is success."""
        try:
            await self._client.call(name, **fields)
        except GrpcError as exc:
            if exc.code != NOT_FOUND:
                raise

    # -- ends ----------------------------------------------------------------------------------------------------------

    async def _ended(self, id: str) -> None:
        """The run may be over. Raises GrpcError."""
        run = self._runs.get(id)
        if run is None or run.over.is_set():
            return
        status = await self._status(id)
        if run.over.is_set() or self._runs.get(id) is not run:
            return
        if status is None:
            exit = Exit(run.uid, run.name, id, 137, "ContainerStatusUnknown", "")
        elif found.has_ended(status):
            exit = found.exit_of(status, self._message(status))
        else:
            return
        run.exit_code = exit.exit_code
        run.over.set()
        self._on_exit(exit)

    async def _relist(self) -> None:
        if not any(not run.over.is_set() for run in self._runs.values()):
            return
        running = {str(c["id"]) for c in await self._list("ListContainers", "containers") if not found.has_ended(c)}
        for id, run in list(self._runs.items()):
            if not run.over.is_set() and id not in running:
                await self._ended(id)

    def _message(self, status: Object) -> str:
        path = str(status.get("annotations", {}).get(configs.MESSAGE, ""))
        if not path or not Path(path).is_relative_to(self._files):
            return ""
        try:
            with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                return file.read(_MESSAGE_BYTES).decode(errors="replace")
        except OSError:
            return ""

    # -- sandboxes and containers --------------------------------------------------------------------------------------

    async def create_sandbox(self, config: SandboxConfig) -> SandboxStatus:
        """RunPodSandbox, and the files of /etc that its containers get. Raises StartError."""
        try:
            return await self._create_sandbox(config)
        except GrpcError as exc:
            raise StartError("FailedCreatePodSandBox", str(exc)) from exc

    async def _create_sandbox(self, config: SandboxConfig) -> SandboxStatus:
        if len(self.handlers) > 1 and config.handler not in self.handlers:
            raise StartError("FailedCreatePodSandBox", f'the runtime has no handler "{config.handler}"')
        if config.strict_groups and not self._has_strict_groups:  # it would be passed over in silence
            raise StartError("FailedCreatePodSandBox", f"{self.version} has no supplementalGroupsPolicy Strict")
        attempt = 0
        for old in await self._list("ListPodSandbox", "items"):
            if found.label(old, configs.POD_UID) == config.uid:
                attempt = max(attempt, int(old.get("metadata", {}).get("attempt", 0)) + 1)
                await self._remove_sandbox(str(old["id"]))
        group = await asyncio.to_thread(self._prepare, config)
        made = configs.sandbox(config, node=self._settings.node, attempt=attempt, cgroup_parent=group)
        answer = await self._client.call("RunPodSandbox", config=made, runtime_handler=config.handler)
        id = str(answer.get("pod_sandbox_id", ""))
        status = await self._client.call("PodSandboxStatus", within=QUICK, pod_sandbox_id=id)
        known = self._known(config.uid, id, status.get("status", {}))
        await asyncio.to_thread(
            sandbox_files.write_etc, self._files / config.uid / "etc", config, known.ip, self._settings.dns
        )
        return known

    def _prepare(self, config: SandboxConfig) -> str:
        """Blocking. Directories, and the control group of the pod, by the name that the runtime's driver wants."""
        if config.log_directory is not None:
            config.log_directory.mkdir(parents=True, exist_ok=True)
        if self._is_systemd:
            return f"{self._settings.cgroup_prefix}-pod{config.uid.replace('-', '_')}.slice"
        group = self._group(config.uid)
        with contextlib.suppress(OSError):  # a machine that does not count processes
            cgroups.limit_processes(group, self._settings.pod_pids)
        return group

    def _group(self, uid: str) -> str:
        return f"/{self._settings.cgroup_prefix}/pod{uid}"

    async def sandbox_status(self, uid: str) -> SandboxStatus | None:
        """Asked of the runtime. Raises OSError when it does not answer."""
        if uid not in self._sandboxes:
            return None
        id, _ = self._sandboxes[uid]
        try:
            answer = await self._client.call("PodSandboxStatus", within=QUICK, pod_sandbox_id=id)
        except GrpcError as exc:
            if exc.code == NOT_FOUND:
                self._sandboxes.pop(uid, None)
                return None
            raise OSError(str(exc)) from exc
        return self._known(uid, id, answer.get("status", {}))

    async def start_container(self, sandbox: SandboxConfig, config: ContainerConfig) -> Started:
        """CreateContainer and StartContainer; what was created and does not start is removed. Raises StartError."""
        try:
            return await self._start_container(sandbox, config)
        except GrpcError as exc:
            hint = f" ({self.version} may not have image volumes)" if any(m.image for m in config.mounts) else ""
            raise StartError("CreateContainerError", f"{exc}{hint}") from exc

    async def _start_container(self, sandbox: SandboxConfig, config: ContainerConfig) -> Started:
        if sandbox.uid not in self._sandboxes:
            raise StartError("CreateContainerError", f"pod {sandbox.uid} has no sandbox")
        if config.target_id and self._running(config.target_id) is None:
            raise StartError("CreateContainerError", f"container {config.container.target} does not run")
        is_recursive = sandbox.handler in self._recursive
        if not is_recursive and any(mount.recursive_read_only == "Enabled" for mount in config.mounts):
            raise StartError("CreateContainerError", f"{self.version} has no recursive read-only mounts")
        user = await self._image_user(config)
        id = self._sandboxes[sandbox.uid][0]
        for old, run in list(self._runs.items()):
            if (run.uid, run.name) == (sandbox.uid, config.container.name):
                self._runs.pop(old)
                await self._tolerant("RemoveContainer", container_id=old)
        message = self._files / sandbox.uid / config.container.name
        mounts = await asyncio.to_thread(self._own_mounts, sandbox, config, message)
        made = configs.container(
            sandbox, config, node=self._settings.node, mounts=mounts, message=str(message), image_user=user,
            profiles=self._settings.root / "seccomp", oom_score_adj=containers.oom_score(config.oom_score_adj),
            recursive_read_only=is_recursive,
        )  # fmt: skip
        config_of_pod = configs.sandbox(
            sandbox, node=self._settings.node, attempt=0, cgroup_parent=self._parent(sandbox)
        )
        answer = await self._client.call(
            "CreateContainer", pod_sandbox_id=id, config=made, sandbox_config=config_of_pod
        )
        container = str(answer.get("container_id", ""))
        try:
            await self._client.call("StartContainer", container_id=container)
            status = await self._status(container) or {}
        except GrpcError:
            with contextlib.suppress(GrpcError):
                await self._client.call("RemoveContainer", container_id=container)
            raise
        self._runs[container] = _Run(
            sandbox.uid, config.container.name, id, config.container.tty, config.container.stdin,
            "" if status.get("stop_signal") else config.container.stop_signal,
        )  # fmt: skip
        if found.has_ended(status):
            asyncio.get_running_loop().call_soon(self._look, container)
        return Started(container, 0, found.image_id(status), found.user(status))

    def _look(self, id: str) -> None:
        """It ended before we knew its name."""
        task = asyncio.ensure_future(self._ended(id))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # the next list repairs it

    def _parent(self, sandbox: SandboxConfig) -> str:
        if self._is_systemd:
            return f"{self._settings.cgroup_prefix}-pod{sandbox.uid.replace('-', '_')}.slice"
        return self._group(sandbox.uid)

    async def _image_user(self, config: ContainerConfig) -> Object:
        image = await self.images.find(config.image)
        if image is None:
            raise StartError("ErrImageNeverPull", f"image {config.image} is not on this node")
        security = config.container.security
        user: Object = {"username": image["username"]} if image.get("username") else {"uid": 0}
        if "uid" in image:
            user = {"uid": int(image["uid"].get("value", 0))}
        if security.non_root and security.user is None and user.get("uid") == 0:
            raise StartError("CreateContainerConfigError", "container has runAsNonRoot and image will run as root")
        return user

    def _own_mounts(self, sandbox: SandboxConfig, config: ContainerConfig, message: Path) -> list[BindMount]:
        """Blocking."""
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

    async def update_container(self, id: str, resources: Resources) -> None:
        """A memory limit below what is in use is refused here: runtimes differ in what becomes of it. Raises NotRunning, StartError."""
        if self._running(id) is None:
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

    async def stop_container(self, id: str, grace: float) -> None:
        """A stop signal that the runtime has no word for is sent from here. Raises OSError when it does not answer."""
        run = self._running(id)
        if run is None:
            return
        if run.stop_signal and grace > 0 and await self._signal(id, run.stop_signal):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    while not run.over.is_set():
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(0.2):
                                await run.over.wait()
                        await self._ended(id)
            grace = 0.0
        if not run.over.is_set():
            try:
                await self._tolerant("StopContainer", within=grace + _KILL, container_id=id, timeout=math.ceil(grace))
            except GrpcError as exc:
                raise OSError(str(exc)) from exc
            await self._ended(id)

    async def _signal(self, id: str, name: str) -> bool:
        """For a runtime whose CRI has no stop signals yet, and which tells the process: containerd and CRI-O do, for debugging."""
        answer = await self._client.call("ContainerStatus", within=QUICK, container_id=id, verbose=True)
        try:
            pid = int(json.loads(answer.get("info", {}).get("info", "{}"))["pid"])
            os.kill(pid, configs.signal_number(name))
        except (ValueError, KeyError, TypeError, OSError):
            return False
        return pid > 1

    async def remove_pod(self, uid: str) -> None:
        """All its sandboxes, also those of earlier attempts, with what is in them. Raises OSError."""
        self._sandboxes.pop(uid, None)
        for id, run in list(self._runs.items()):
            if run.uid == uid:
                self._runs.pop(id)
                run.over.set()
        problem: GrpcError | None = None
        try:
            for sandbox in await self._list("ListPodSandbox", "items"):
                if found.label(sandbox, configs.POD_UID) == uid:
                    await self._remove_sandbox(str(sandbox["id"]))
        except GrpcError as exc:
            problem = exc
        if problem is not None:
            raise OSError(str(problem)) from problem
        await asyncio.to_thread(cgroups.kill_and_remove, self._group(uid))
        await asyncio.to_thread(trees.remove, self._files / uid)

    async def _remove_sandbox(self, id: str) -> None:
        await self._tolerant("StopPodSandbox", pod_sandbox_id=id)
        await self._tolerant("RemovePodSandbox", pod_sandbox_id=id)

    def _running(self, id: str) -> _Run | None:
        run = self._runs.get(id)
        return None if run is None or run.over.is_set() else run

    # -- streams -------------------------------------------------------------------------------------------------------

    def reopen_log(self, id: str) -> None:
        """Blocking, in a thread of its caller's."""
        if self._loop is None:
            raise OSError("the runtime is not started")
        called = self._client.call("ReopenContainerLog", within=QUICK, container_id=id)
        try:
            asyncio.run_coroutine_threadsafe(called, self._loop).result()
        except GrpcError as exc:
            raise OSError(str(exc)) from exc

    async def exec_sync(self, id: str, command: Sequence[str], timeout: float) -> ExecResult:
        """Limited to whole seconds on the runtime's side, which ends the command."""
        if self._running(id) is None:
            return ExecResult(126, b"the container does not run")
        try:
            answer = await self._client.call(
                "ExecSync", within=timeout + QUICK, container_id=id, cmd=list(command), timeout=math.ceil(timeout)
            )
        except GrpcError as exc:
            if exc.code == DEADLINE_EXCEEDED or "timeout" in str(exc) or "timed out" in str(exc):
                return ExecResult(124, b"no answer within %g s" % timeout)
            return ExecResult(126, str(exc).encode()[:EXEC_OUTPUT])
        output = answer.get("stdout", b"") + answer.get("stderr", b"")
        return ExecResult(int(answer.get("exit_code", 0)), output[:EXEC_OUTPUT])

    async def exec(
        self, id: str, command: Sequence[str], *, stdin: bool = False, tty: bool = False
    ) -> streams.CriStreams:
        """Over the streams that the runtime's URL leads to. Raises NotRunning, StartError."""
        if self._running(id) is None:
            raise NotRunning(f"container {id} does not run")
        opened = await self._open(
            "Exec", container_id=id, cmd=list(command), stdin=stdin, tty=tty, stdout=True, stderr=not tty
        )
        return await streams.CriStreams(opened).open(stdin=stdin, tty=tty, resizes=tty)

    async def attach(self, id: str, *, stdin: bool = False) -> streams.CriStreams:
        """Over the streams that the runtime's URL leads to. Raises NotRunning, StartError."""
        run = self._running(id)
        if run is None:
            raise NotRunning(f"container {id} does not run")
        stdin = stdin and run.stdin
        opened = await self._open("Attach", container_id=id, stdin=stdin, tty=run.tty, stdout=True, stderr=not run.tty)

        async def exit_status() -> int | None:
            await run.over.wait()
            return run.exit_code

        attached = streams.CriStreams(opened, exit_status=exit_status)
        return await attached.open(stdin=stdin, tty=run.tty, resizes=run.tty)

    async def port_forward(self, uid: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """By the runtime, which is in the pod's network. Raises NotRunning, OSError."""
        if uid not in self._sandboxes:
            raise NotRunning(f"pod {uid} has no sandbox")
        try:
            answer = await self._client.call("PortForward", pod_sandbox_id=self._sandboxes[uid][0], port=[port])
            return await streams.forward(await streams.connect(str(answer.get("url", "")), "portforward.k8s.io"), port)
        except (GrpcError, PeerError) as exc:
            raise OSError(str(exc)) from exc

    async def _open(self, call: str, **fields: Any) -> Any:
        try:
            answer = await self._client.call(call, within=QUICK, **fields)
            return await streams.connect(str(answer.get("url", "")), "v4.channel.k8s.io")
        except (GrpcError, PeerError, OSError) as exc:
            raise StartError("Error", str(exc)) from exc

    # -- usage ---------------------------------------------------------------------------------------------------------

    async def stats(self) -> Sequence[PodStats]:
        """Of each pod as its sandbox is counted, or what its containers have in sum where the runtime does not count sandboxes."""
        selector = {"label_selector": {configs.NODE: self._settings.node}}
        try:
            listed = await self._list("ListContainers", "containers")
            answer = await self._client.call("ListContainerStats", within=QUICK, filter=selector)
        except GrpcError as exc:
            log.debug("stats: %s", exc)
            return []
        pods: Object = {}
        with contextlib.suppress(GrpcError):  # newer than CRI v1 itself
            pods = await self._client.call("ListPodSandboxStats", within=QUICK, filter=selector)
        running = {str(c["id"]): c for c in listed if c.get("state", found.CREATED) == found.RUNNING}
        return found.pod_stats(answer.get("stats", ()), pods.get("stats", ()), running)

    async def disk_usage(self, uid: str) -> Mapping[str, DiskUse]:
        """As the runtime has counted it last."""
        if uid not in self._sandboxes:
            return {}
        selector = {"pod_sandbox_id": self._sandboxes[uid][0]}
        try:
            answer = await self._client.call("ListContainerStats", within=QUICK, filter=selector)
        except GrpcError as exc:
            raise OSError(str(exc)) from exc
        return found.disk_use(answer.get("stats", ()))
