"""The embedded runtime: conmon and crun (or runc), overlay mounts, pinned namespaces, CNI; no daemon and no pause process.

Lives here:      which pods and runs there are, what survives a restart, what becomes of a run that ends.
Lives elsewhere: files (layout.py, records.py), sandboxes (sandboxes.py), starting and removing a container (containers.py), exits
                 (exits.py), streams (exec.py, attach.py), images (images/service.py).

Blocking work runs in threads. The files are enough to take everything up again after the agent was restarted; what a power cut left
behind (mounts, namespaces, groups) is swept by our own prefix.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kubeedge.api.pod import ResourceRequirements
from kubeedge.appengine.images.service import EmbeddedImages
from kubeedge.appengine.images.store import Image
from kubeedge.appengine.runtime import attach, cgroups, conmon, pod_network, pod_usage, programs, records
from kubeedge.appengine.runtime.base import (
    ContainerConfig,
    ExecResult,
    Exit,
    Found,
    FoundPod,
    NotRunning,
    PodStats,
    SandboxConfig,
    SandboxStatus,
    Started,
    StartError,
    User,
)
from kubeedge.appengine.runtime.cni import Network, masquerade
from kubeedge.appengine.runtime.containers import Containers
from kubeedge.appengine.runtime.exec import ExecProcess, Execs
from kubeedge.appengine.runtime.exits import ExitWatch, read_exit
from kubeedge.appengine.runtime.layout import Layout
from kubeedge.appengine.runtime.pod_groups import PodGroups
from kubeedge.appengine.runtime.programs import Programs
from kubeedge.appengine.runtime.records import Run, Sandbox
from kubeedge.appengine.runtime.sandboxes import Sandboxes
from kubeedge.appengine.runtime.settings import EmbeddedSettings
from kubeedge.appengine.runtime.user_namespaces import with_runtime
from kubeedge.kit import trees
from kubeedge.kit.disk_use import DiskUse

if TYPE_CHECKING:
    from kubeedge.appengine.runtime.detail import PodDetail

log = logging.getLogger("kubeedge.appengine.runtime")

_MESSAGE_BYTES = 4096  # of a termination message, as in Kubernetes
_KILL_TIMEOUT = 10.0  # seconds after SIGKILL; a process that writes to a dead disk may take longer
_UNKNOWN = "ContainerStatusUnknown"


class EmbeddedRuntime:
    """A Runtime without a daemon: conmon holds each container, so containers survive the agent."""

    scheme = "embedded"

    def __init__(self, settings: EmbeddedSettings, images: EmbeddedImages) -> None:
        self._settings = settings
        self.images = images
        images.in_use = self._layers_in_use
        self._layout = Layout(settings.root, settings.run, PodGroups(settings.cgroup_prefix))
        self._boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        self._network = Network(settings.bridge, settings.pod_cidrs, settings.root / "cni", list(settings.cni_bin_dirs))
        self._sandboxes = Sandboxes(self._layout, self._network, self._boot, settings.dns)
        self._containers = Containers(self._layout, self._sandboxes, programs.find(self._layout.oci), self._boot)
        self._execs = Execs(self._layout.sockets, self._layout.specs)
        self._pods: dict[str, Sandbox] = {}
        self._by_id: dict[str, tuple[str, str]] = {}  # (pod uid, container) of each newest run
        self._watch: ExitWatch | None = None
        self._on_exit: Callable[[Exit], None] = lambda _: None
        self._over: dict[str, asyncio.Event] = {}  # set when that run is over, for those who wait for it

    @property
    def handlers(self) -> Sequence[str]:
        """The default, and the OCI runtimes that a RuntimeClass may name."""
        return ("", *programs.handlers())

    @property
    def version(self) -> str:
        """ "embedded://" and the version of crun or runc."""
        return f"{self.scheme}://{self._containers.programs.version}"

    def not_ready(self) -> str:
        """Which of its programs are missing now."""
        missing = self._containers.programs.missing()
        return f"{' and '.join(missing)} missing on this node: containers cannot start" if missing else ""

    # -- start and end -------------------------------------------------------------------------------------------------

    async def start(self, on_exit: Callable[[Exit], None]) -> Sequence[FoundPod]:
        """Needs a running loop. Raises OSError when the directories cannot be made; without a NAT rule it only warns."""
        self._on_exit = on_exit
        self._layout.make()
        await asyncio.to_thread(self._execs.sweep, self._settings.cgroup_prefix)
        self._watch = ExitWatch(self._layout.exits, self._ended, self._gone)
        await asyncio.to_thread(self._layout.groups.prepare, self._settings.bounds)
        found = await asyncio.to_thread(self._recover)
        for pod in found:
            for container in pod.containers:
                if container.exit is None:
                    self._watch.add(container.id, container.pid, self._layout.bundle(pod.uid, container.name))
        try:
            await asyncio.to_thread(masquerade, self._settings.pod_cidrs, self._settings.overlay_cidrs)
        except (OSError, subprocess.SubprocessError) as exc:
            log.warning("pods will not reach external networks: %s", exc)
        return found

    async def close(self) -> None:
        """Ends pulls and stops watching exits; containers and their conmon go on."""
        await self.images.close()
        if self._watch:
            self._watch.close()
            self._watch = None

    def _recover(self) -> list[FoundPod]:
        found = []
        self._pods.clear()
        self._by_id.clear()
        self._layout.groups.clear()
        for directory in sorted(self._layout.pods.iterdir()):
            sandbox = records.load(directory)
            if sandbox is None:
                self._sandboxes.sweep(directory.name, self._containers.programs)
                continue
            self._pods[sandbox.uid] = sandbox
            self._layout.groups.restore(sandbox.uid, sandbox.group)
            moved = not sandbox.host_network and not self._network.has(sandbox.ip)
            if moved:  # the node joined again, and has other addresses
                log.warning("pod=%s/%s had address %s: it gets another", sandbox.namespace, sandbox.name, sandbox.ip)
                cgroups.kill_and_remove(self._layout.group(sandbox.uid))
            containers = [self._recover_run(sandbox, run, killed=moved) for run in sandbox.runs.values()]
            ip, ipv6 = sandbox.ip, sandbox.ipv6
            if not any(c.exit is None for c in containers) and not sandbox.host_network:
                # no container runs in it: after a power cut its network may be incomplete, so a new one is safer
                self._sandboxes.remove_network(sandbox)
                ip = ipv6 = ""
            found.append(FoundPod(sandbox.uid, sandbox.namespace, sandbox.name, ip, containers, ipv6))
        self._sandboxes.sweep_unknown(set(self._pods), set(self._by_id), self._containers.programs)
        return found

    def _recover_run(self, sandbox: Sandbox, run: Run, *, killed: bool) -> Found:
        self._by_id[run.id] = (sandbox.uid, run.name)
        if run.finished_at == 0.0:
            status = read_exit(self._layout.exits, run.id) if run.boot == self._boot else None
            if status is not None:
                self._note_end(sandbox, run, status, self._oom(sandbox.uid, run.name))
            elif killed or run.boot != self._boot or not self._containers.is_alive(sandbox.uid, run):
                self._note_end(sandbox, run, 137, _UNKNOWN)
        exit = None
        if run.finished_at:
            exit = Exit(sandbox.uid, run.name, run.id, run.exit_code, run.reason, run.message)
        return Found(
            run.name, run.attempt, run.id, run.pid, run.image, run.image_id, run.started_at, exit, run.finished_at,
            user=User(**run.user) if run.user else None,
            resources=ResourceRequirements(**run.resources) if run.resources else None,
        )  # fmt: skip

    # -- sandboxes and containers --------------------------------------------------------------------------------------

    async def create_sandbox(self, config: SandboxConfig) -> SandboxStatus:
        """Also replaces the sandbox of an earlier boot or of a failed attempt."""
        config = with_runtime(config)
        sandbox = await asyncio.to_thread(self._sandboxes.create, config, self._pods.get(config.uid))
        self._pods[config.uid] = sandbox
        return SandboxStatus(sandbox.uid, sandbox.ip, True, sandbox.handler, sandbox.ipv6)

    async def sandbox_status(self, uid: str) -> SandboxStatus | None:
        """Ready when it was made on this boot, its namespaces are pinned, and it has an address or uses the node's."""
        sandbox = self._pods.get(uid)
        if sandbox is None:
            return None
        pinned = self._layout.namespaces(uid)
        ready = sandbox.boot == self._boot and pinned.is_dir() and (sandbox.host_network or bool(sandbox.ip))
        return SandboxStatus(uid, sandbox.ip * ready, ready, sandbox.handler, sandbox.ipv6 * ready)

    async def start_container(self, sandbox: SandboxConfig, config: ContainerConfig) -> Started:
        """StartError also when the image is not on this node, or the pod has no sandbox."""
        sandbox = with_runtime(sandbox)
        images = {name: self._image(name) for name in (config.image, *(m.image for m in config.mounts if m.image))}
        pod, name = self._pods.get(sandbox.uid), config.container.name
        if pod is None:
            raise StartError("CreateContainerError", f"pod {sandbox.uid} has no sandbox")
        last, target = pod.runs.get(name), self._target(config)
        run = await asyncio.to_thread(self._containers.start, sandbox, config, images, last, target)
        if last is not None:
            self._by_id.pop(last.id, None)
        pod.runs[name] = run
        self._by_id[run.id] = (sandbox.uid, name)
        if self._watch is not None:
            self._watch.add(run.id, run.pid, self._layout.bundle(sandbox.uid, name))
        if read_exit(self._layout.exits, run.id) is not None:  # it ended before we knew its name
            asyncio.get_running_loop().call_soon(self._ended, run.id)
        return Started(run.id, run.pid, run.image_id, User(**run.user) if run.user else None)

    def _oci(self, uid: str) -> Programs:
        sandbox = self._pods.get(uid)
        return self._containers.programs.of(sandbox.handler if sandbox is not None else "")

    def _image(self, name: str) -> Image:
        image = self.images.find(name)
        if image is None:
            raise StartError("ErrImageNeverPull", f"image {name} is not on this node")
        return image

    def _target(self, config: ContainerConfig) -> int:
        """The process whose PID namespace is joined; 0: none."""
        if not config.target_id:
            return 0
        _, run = self._find(config.target_id)
        if run is None or run.finished_at:
            raise StartError("CreateContainerError", f"container {config.container.target} does not run")
        return run.pid

    async def update_sandbox(self, config: SandboxConfig) -> None:
        """Of a pod whose control group has no limits of its own, from an earlier agent, nothing changes."""
        if config.resources is not None and config.uid in self._pods:
            await asyncio.to_thread(self._layout.groups.update, config.uid, config.resources)

    async def update_container(self, id: str, resources: ResourceRequirements) -> None:
        """Refuses a memory limit below what is in use: the kernel would end the container for it, or refuse it itself."""
        uid, run = self._running(id)
        await asyncio.to_thread(self._containers.update, uid, run, resources, self._oci(uid))

    async def stop_container(self, id: str, grace: float) -> None:
        """After SIGKILL without an exit the whole cgroup is killed, and the run counts as lost."""
        uid, run = self._find(id)
        if run is None or run.finished_at:
            return
        over = self._over.setdefault(id, asyncio.Event())
        for sign, timeout in ((run.stop_signal, grace), ("KILL", _KILL_TIMEOUT)):
            if timeout > 0:
                await asyncio.to_thread(self._signal, id, sign)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(timeout):
                        await over.wait()
            if run.finished_at:
                return
        await asyncio.to_thread(cgroups.kill_and_remove, self._group(uid, id))
        self._gone(id)

    def _signal(self, id: str, sign: str) -> None:
        uid, _ = self._find(id)
        done = conmon.run(self._oci(uid), ["kill", id, sign])
        if done.returncode:
            log.debug("signal %s to container %s: %s", sign, id, done.stderr.strip())

    async def remove_pod(self, uid: str) -> None:
        """Forgets the runs first, so that no exit of theirs is reported afterwards."""
        sandbox = self._pods.pop(uid, None)
        for run in sandbox.runs.values() if sandbox is not None else ():
            if self._watch is not None:
                self._watch.discard(run.id)
            self._by_id.pop(run.id, None)
            if over := self._over.pop(run.id, None):
                over.set()
        await asyncio.to_thread(self._sandboxes.sweep, uid, self._containers.programs)

    def _layers_in_use(self) -> set[str] | None:
        """Ids of the layers that containers are mounted from; None when it is not known of one."""
        runs = [run for sandbox in self._pods.values() for run in sandbox.runs.values()]
        layers = [run.layers for run in runs]
        return None if None in layers else {id for ids in layers if ids for id in ids}

    async def stats(self) -> Sequence[PodStats]:
        """Resource usage from the control groups of pods and containers."""
        pods = list(self._pods.values())
        found = await asyncio.to_thread(lambda: [pod_usage.read(pod, self._layout.group(pod.uid)) for pod in pods])
        return [stats for stats in found if stats is not None]

    async def details(self) -> Sequence[PodDetail]:
        """Details from the same groups, and from the pods' network namespaces."""
        from kubeedge.appengine.runtime import detail_files  # an agent without such requests does not load it

        pods = list(self._pods.values())
        return await asyncio.to_thread(lambda: [detail_files.of_pod(*self._counted(pod)) for pod in pods])

    def _counted(self, pod: Sandbox) -> tuple[str, str, dict[str, str], tuple[int, Path] | None]:
        """Uid, control groups of the pod and of its containers, and a process with the namespace that it is in."""
        running = pod_usage.running(pod)
        inside = (
            (running[0].pid, self._layout.namespaces(pod.uid) / "net") if running and not pod.host_network else None
        )
        return pod.uid, self._layout.group(pod.uid), {run.name: self._group(pod.uid, run.id) for run in running}, inside

    async def disk_usage(self, uid: str) -> Mapping[str, DiskUse]:
        """Disk usage of the upper directories of the overlay mounts."""
        sandbox = self._pods.get(uid)
        names = list(sandbox.runs) if sandbox is not None else []
        roots = {name: self._layout.container(uid, name) / "upper" for name in names}
        return await asyncio.to_thread(lambda: {name: trees.used(path) for name, path in roots.items()})

    # -- streams -------------------------------------------------------------------------------------------------------

    def reopen_log(self, id: str) -> None:
        """Sends it to conmon through its control FIFO; a container that does not run has none."""
        uid, name = self._by_id.get(id, ("", ""))
        self._containers.control(uid, name, (2, 0, 0))

    async def exec_sync(self, id: str, command: Sequence[str], timeout: float) -> ExecResult:
        """After `timeout` seconds the process in the container is killed, not only the OCI runtime that started it."""
        uid, run = self._find(id)
        if run is None or run.finished_at:
            return ExecResult(126, b"the container does not run")
        return await self._execs.run(self._oci(uid), id, self._group(uid, id), command, timeout)

    async def exec(self, id: str, command: Sequence[str], *, stdin: bool = False, tty: bool = False) -> ExecProcess:
        """Run a command in a container. With `tty`, both outputs come as one stream."""
        uid, _ = self._running(id)
        return await self._execs.start(self._oci(uid), id, self._group(uid, id), command, stdin=stdin, tty=tty)

    async def attach(self, id: str, *, stdin: bool = False) -> attach.Attachment:
        """Connects to the socket that conmon has for each container."""
        uid, run = self._running(id)
        over = self._over.setdefault(id, asyncio.Event())  # before anything is waited for: it may end meanwhile
        return attach.Attachment(
            await attach.connect(self._layout.sockets / id / "attach"),
            stdin=stdin and run.stdin,
            once=run.stdin_once and not run.tty,
            resize=lambda rows, columns: self._resize(uid, run, rows, columns),
            over=over,
            exit_status=lambda: run.exit_code if run.finished_at else None,
        )

    async def port_forward(self, uid: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A pod on the network of the node is reached there."""
        sandbox = self._pods.get(uid)
        if sandbox is None or sandbox.boot != self._boot:
            raise NotRunning(f"pod {uid} has no sandbox")
        namespace = None if sandbox.host_network else self._layout.namespaces(uid) / "net"
        return await pod_network.connect(namespace, port)

    def _resize(self, uid: str, run: Run, rows: int, columns: int) -> None:
        if run.tty:
            self._containers.control(uid, run.name, (1, rows, columns))

    def _running(self, id: str) -> tuple[str, Run]:
        uid, run = self._find(id)
        if run is None or run.finished_at:
            raise NotRunning(f"container {id} does not run")
        return uid, run

    # -- exits ---------------------------------------------------------------------------------------------------------

    def _gone(self, id: str) -> None:
        """No exit was reported for it, unless the report was lost."""
        self._ended(id)
        self._finish(id, 137, _UNKNOWN)

    def _ended(self, id: str) -> None:
        uid, name = self._by_id.get(id, ("", ""))
        status = read_exit(self._layout.exits, id)
        if status is not None and uid:
            self._finish(id, status, self._oom(uid, name))

    def _finish(self, id: str, status: int, reason: str) -> None:
        if self._watch is not None:
            self._watch.discard(id)
        uid, run = self._find(id)
        if run is None or run.finished_at:
            return
        if run.shares_processes:  # else the kernel ends all others with the first one (pid_namespaces(7))
            cgroups.kill(self._group(uid, id))
        self._note_end(self._pods[uid], run, status, reason)
        if over := self._over.pop(id, None):
            over.set()
        self._on_exit(Exit(uid, run.name, id, run.exit_code, run.reason, run.message))

    def _note_end(self, sandbox: Sandbox, run: Run, status: int, reason: str) -> None:
        run.finished_at, run.exit_code, run.reason = time.time(), status, reason
        with contextlib.suppress(OSError), open(self._layout.termination_log(sandbox.uid, run.name), "rb") as file:
            run.message = file.read(_MESSAGE_BYTES).decode(errors="replace")
        with contextlib.suppress(OSError):
            records.save_run(self._layout.pod(sandbox.uid), run)

    def _oom(self, uid: str, name: str) -> str:
        return "OOMKilled" if self._containers.oom_killed(uid, name) else ""

    # -- names ---------------------------------------------------------------------------------------------------------

    def _find(self, id: str) -> tuple[str, Run | None]:
        """The pod and the run, when it is the newest of its container."""
        uid, name = self._by_id.get(id, ("", ""))
        sandbox = self._pods.get(uid)
        run = sandbox.runs.get(name) if sandbox else None
        return uid, run if run is not None and run.id == id else None

    def _group(self, uid: str, id: str) -> str:
        return f"{self._layout.group(uid)}/{id}"
