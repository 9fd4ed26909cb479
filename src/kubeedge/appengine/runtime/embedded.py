"""The embedded runtime: conmon and crun (or runc), overlay mounts, pinned namespaces, CNI; no daemon and no pause process.

    ROOT/pods/<uid>/pod.json            the sandbox: name, address, when it was made, on which boot
    ROOT/pods/<uid>/runs/<container>.json   the newest run of a container
    ROOT/pods/<uid>/c/<container>/      upper and work directories, rootfs (mount), bundle
    ROOT/pods/<uid>/etc/                hosts, hostname, resolv.conf
    RUN/ns/<uid>/{net,ipc,uts}          pinned namespaces (mounts)
    RUN/exits/<id>  RUN/oci/  RUN/s/    exit files, the OCI runtime's state, conmon's sockets
    RUN/specs/<id>                      what a run was started with: its environment may hold Secrets, and RUN is memory

Blocking work runs in threads. The files are enough to take everything up again after the agent was restarted; what a power cut left
behind (mounts, namespaces, groups) is swept by our own prefix.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kubeedge.api.pod import Container, Pod
from kubeedge.appengine.images.store import Image, ImageStore
from kubeedge.appengine.runtime import (
    accounts,
    cgroups,
    conmon,
    image_volumes,
    mounts,
    oci_spec,
    sandbox_files,
    seccomp,
)
from kubeedge.appengine.runtime.base import (
    EXEC_OUTPUT,
    BindMount,
    ContainerConfig,
    ExecResult,
    Exit,
    Found,
    FoundPod,
    Started,
    StartError,
)
from kubeedge.appengine.runtime.cni import Network, masquerade, port_mapping
from kubeedge.appengine.runtime.exits import ExitWatch, read_exit
from kubeedge.errors import Invalid
from kubeedge.kit import private, trees

log = logging.getLogger("kubeedge.runtime")

_MESSAGE_BYTES = 4096  # of a termination message, as in Kubernetes
_KILL_TIMEOUT = 10.0  # seconds after SIGKILL; a process that writes to a dead disk may take longer
_HOST_NETWORK_KINDS = ("ipc",)  # of its own; net and uts are the machine's, as with the kubelet
_LOST_AFTER = 2.0  # seconds after a container's process is gone in which conmon may report


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedSettings:
    root: Path
    run: Path  # short: sockets live here
    node: str
    pod_cidr: str
    bridge: str = "cni0"
    cgroup_prefix: str = "kubeedge"
    cni_bin_dirs: Sequence[str] = ("/opt/cni/bin", "/usr/lib/cni")
    pod_pids: int = 1024  # processes and threads of one pod
    all_pids: int = 0  # of all pods together; 0: three quarters of what the machine can have
    overlay_cidrs: Sequence[str] = ("10.244.0.0/16", "100.64.0.0/16")  # reached with the pod's own address


@dataclass(slots=True)
class _Run:
    """The newest run of a container, as its file keeps it."""

    name: str
    attempt: int
    id: str
    pid: int
    image: str
    image_id: str
    started_at: float
    boot: str
    stop_signal: str
    finished_at: float = 0.0
    exit_code: int = 0
    reason: str = ""
    message: str = ""


@dataclass(slots=True)
class _Sandbox:
    uid: str
    namespace: str
    name: str
    ip: str
    host_network: bool
    boot: str
    ports: list[dict[str, Any]] = field(default_factory=list)  # of the node that lead to it, as CNI has them
    runs: dict[str, _Run] = field(default_factory=dict)


class EmbeddedRuntime:
    def __init__(self, settings: EmbeddedSettings, images: ImageStore) -> None:
        self._settings = settings
        self._images = images
        self._pods = settings.root / "pods"
        self._exits = settings.run / "exits"
        self._programs, self._version = _find_programs(settings.run / "oci")
        self._sandboxes: dict[str, _Sandbox] = {}
        self._by_id: dict[str, tuple[str, str]] = {}
        self._network = Network(
            settings.bridge, settings.pod_cidr, settings.root / "cni", [d for d in settings.cni_bin_dirs]
        )
        self._filters = seccomp.Filters(
            settings.root / "seccomp",
            os.uname().machine,
            supported=self._programs.has_seccomp and seccomp.kernel_filters(),
        )
        self._pod_pids = 0  # until it is known that this machine can count them
        self._boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        self._watch: ExitWatch | None = None
        self._on_exit: Callable[[Exit], None] = lambda _: None
        self._lost: dict[str, asyncio.TimerHandle] = {}
        self._pidfds: dict[str, int] = {}
        self._stopping: dict[str, asyncio.Event] = {}  # set when that run is over
        self._possible = _possible_capabilities()

    @property
    def version(self) -> str:
        return self._version

    # -- start and end -------------------------------------------------------------------------------------------------

    async def start(self, on_exit: Callable[[Exit], None]) -> Sequence[FoundPod]:
        self._on_exit = on_exit
        for directory in (self._pods, self._exits, self._settings.run / "ns", self._settings.run / "s"):
            private.directory(directory, 0o711)
        private.directory(self._specs, 0o700)
        self._watch = ExitWatch(self._exits, self._ended)
        self._pod_pids = await asyncio.to_thread(self._bound_processes)
        found = await asyncio.to_thread(self._recover)
        for pod in found:
            for container in pod.containers:
                if container.exit is None:
                    self._attend(self._sandboxes[pod.uid].runs[container.name])
        try:
            await asyncio.to_thread(masquerade, self._settings.pod_cidr, self._settings.overlay_cidrs)
        except (OSError, subprocess.SubprocessError) as exc:
            log.warning("pods will not reach the outside: %s", exc)
        return found

    async def close(self) -> None:
        if self._watch:
            self._watch.close()
            self._watch = None
        for timer in self._lost.values():
            timer.cancel()
        self._lost.clear()
        for id in list(self._pidfds):
            self._unattend(id)

    def _bound_processes(self) -> int:
        """Of all pods together; what one of them may have, 0 where nothing counts them."""
        machine = cgroups.machine_processes()
        every = min(self._settings.all_pids or machine * 3 // 4, machine)
        try:
            cgroups.limit_processes(self._settings.cgroup_prefix, every)
        except OSError as exc:
            log.error("the number of processes in pods has no bound: %s", exc)
            return 0
        return min(self._settings.pod_pids, every)

    def _recover(self) -> list[FoundPod]:
        found = []
        known = set()
        self._sandboxes.clear()
        self._by_id.clear()
        for directory in sorted(self._pods.iterdir()):
            sandbox = _load_sandbox(directory)
            if sandbox is None:
                self._sweep(directory.name)
                continue
            known.add(sandbox.uid)
            self._sandboxes[sandbox.uid] = sandbox
            containers = [self._recover_run(sandbox, run) for run in sandbox.runs.values()]
            ip = sandbox.ip
            if not any(c.exit is None for c in containers) and not sandbox.host_network:
                # nothing lives in it: after a power cut the network may be half gone, a new one is sure
                self._remove_network(sandbox)
                ip = ""
            found.append(FoundPod(sandbox.uid, sandbox.namespace, sandbox.name, ip, containers))
        for group in cgroups.hierarchies():
            ours = group / self._settings.cgroup_prefix
            for stale in ours.glob("pod*") if ours.is_dir() else ():
                if stale.name.removeprefix("pod") not in known:
                    cgroups.kill_and_remove(f"{self._settings.cgroup_prefix}/{stale.name}")
        for stale in (self._settings.run / "ns").iterdir():
            if stale.name not in known:
                self._sweep(stale.name)
        for directory in (self._settings.run / "s", self._exits, self._specs):
            for stale in directory.iterdir():
                if stale.name not in self._by_id:
                    _remove_entry(stale)
        return found

    def _recover_run(self, sandbox: _Sandbox, run: _Run) -> Found:
        self._by_id[run.id] = (sandbox.uid, run.name)
        if run.finished_at == 0.0:
            status = read_exit(self._exits, run.id) if run.boot == self._boot else None
            if status is not None:
                self._note_end(sandbox, run, status, _oom(self._bundle(sandbox.uid, run.name)))
            elif run.boot != self._boot or not self._alive(sandbox.uid, run):
                self._note_end(sandbox, run, 137, "ContainerStatusUnknown")
        exit = None
        if run.finished_at:
            exit = Exit(sandbox.uid, run.name, run.id, run.exit_code, run.reason, run.message)
        return Found(
            run.name, run.attempt, run.id, run.pid, run.image, run.image_id, run.started_at, exit, run.finished_at
        )

    def _alive(self, uid: str, run: _Run) -> bool:
        """Its process is in its control group: a process id alone may be somebody else's by now."""
        return run.pid in cgroups.processes(f"{self._group(uid)}/{run.id}")

    # -- the sandbox ---------------------------------------------------------------------------------------------------

    async def create_sandbox(self, pod: Pod) -> str:
        return await asyncio.to_thread(self._create_sandbox, pod)

    def _create_sandbox(self, pod: Pod) -> str:
        directory = self._pods / pod.uid
        sandbox = self._sandboxes.get(pod.uid)
        if sandbox is None:
            sandbox = _Sandbox(pod.uid, pod.namespace, pod.name, "", pod.host_network, self._boot)
        try:
            (directory / "runs").mkdir(parents=True, exist_ok=True)
            directory.chmod(0o711)
            if self._pod_pids:
                cgroups.limit_processes(self._group(pod.uid), self._pod_pids)
            self._remove_network(sandbox)
            sandbox.boot, sandbox.ip = self._boot, ""
            sandbox.ports = [port_mapping(p) for p in pod.host_ports]
            _save(directory / "pod.json", _record(sandbox))  # what is made from here on will be swept
            kinds = _HOST_NETWORK_KINDS if pod.host_network else sandbox_files.EVERY_KIND
            sandbox_files.pin_namespaces(self._settings.run / "ns" / pod.uid, pod.hostname, kinds)
            if not pod.host_network:
                sandbox.ip = self._network.add(pod.uid, self._namespace(pod.uid, "net"), sandbox.ports)
            sandbox_files.write_etc(directory / "etc", pod, sandbox.ip)
            shm = directory / "shm"
            shm.mkdir(exist_ok=True, mode=0o1777)
            mounts.unmount(shm)
            mounts.mount("shm", shm, "tmpfs", mounts.MS_NOSUID | mounts.MS_NODEV, "mode=1777,size=65536k")
            _save(directory / "pod.json", _record(sandbox))
        except (OSError, subprocess.SubprocessError) as exc:
            raise StartError("FailedCreatePodSandBox", str(exc)) from exc
        self._sandboxes[pod.uid] = sandbox
        return sandbox.ip

    def _remove_network(self, sandbox: _Sandbox) -> None:
        directory = self._settings.run / "ns" / sandbox.uid
        if not sandbox.host_network and (sandbox.ip or sandbox.boot != self._boot or directory.is_dir()):
            with contextlib.suppress(StartError):
                self._network.remove(sandbox.uid, directory / "net", sandbox.ports)
        if directory.is_dir():
            sandbox_files.unpin_namespaces(directory)

    # -- containers ----------------------------------------------------------------------------------------------------

    async def start_container(self, pod: Pod, config: ContainerConfig) -> Started:
        image = self._images.find(config.image)
        if image is None:
            raise StartError("ErrImageNeverPull", f"image {config.image} is not on this node")
        run = await asyncio.to_thread(self._start_container, pod, config, image)
        self._by_id[run.id] = (pod.uid, run.name)
        self._attend(run)
        status = read_exit(self._exits, run.id)
        if status is not None:  # it ended before we knew its name
            asyncio.get_running_loop().call_soon(self._ended, run.id)
        return Started(run.id, run.pid, run.image_id)

    def _start_container(self, pod: Pod, config: ContainerConfig, image: Image) -> _Run:
        container, sandbox = config.container, self._sandboxes.get(pod.uid)
        if sandbox is None:
            raise StartError("CreateContainerError", f"pod {pod.uid} has no sandbox")
        self._check_programs()
        self._remove_run(pod.uid, container.name)
        id = uuid.uuid4().hex
        base = self._pods / pod.uid / "c" / container.name
        bundle, rootfs = base / "bundle", base / "rootfs"
        try:
            for directory in (base / "upper", base / "work", rootfs, bundle):
                directory.mkdir(parents=True)
            mounts.overlay(image.layers, base / "upper", base / "work", rootfs)
            image_mounts = image_volumes.prepare(
                rootfs,
                image.config.volumes,
                [mount.target for mount in config.mounts],
                read_only_root=container.security.read_only_root,
            )
            account = accounts.resolve(rootfs, image.config.user, container.security.user, container.security.group)
            held = oci_spec.effective_capabilities(container, account.uid, self._possible)["bounding"]
            spec = oci_spec.build(
                container,
                image.config,
                account=account,
                rootfs=rootfs,
                env=config.env,
                mounts=[*image_mounts, *config.mounts, *self._own_mounts(pod, container, base)],
                namespaces=self._namespaces(pod),
                cgroup=f"/{self._group(pod.uid)}/{id}",
                oom_score_adj=_oom_score(),
                capabilities=self._possible,
                groups=[*pod.groups, *([pod.fs_group] if pod.fs_group is not None else [])],
                pids_limit=self._pod_pids,
                seccomp=self._filters.of(container.security, held),
            )
            self._write_spec(id, bundle, spec)
            config.log_path.parent.mkdir(parents=True, exist_ok=True)
            pid = conmon.create_and_start(
                self._programs,
                id=id,
                bundle=bundle,
                exit_dir=self._exits,
                socket_dir=self._settings.run / "s",
                log_path=config.log_path,
                tty=container.tty,
                stdin=container.stdin,
            )
        except StartError:
            self._remove_run(pod.uid, container.name)
            raise
        except (Invalid, OSError, ValueError, subprocess.SubprocessError) as exc:
            self._remove_run(pod.uid, container.name)
            raise StartError("CreateContainerError", str(exc)) from exc
        stop_signal = image.config.stop_signal
        run = _Run(
            container.name, config.attempt, id, pid, config.image, image.id, time.time(), self._boot, stop_signal
        )
        sandbox.runs[container.name] = run
        try:
            _save(self._run_file(pod.uid, container.name), asdict(run))
        except OSError as exc:  # a full disk: a run that nobody would find again must not go on
            self._remove_run(pod.uid, container.name)
            del sandbox.runs[container.name]
            raise StartError("CreateContainerError", str(exc)) from exc
        return run

    def _check_programs(self) -> None:
        """They may be removed, or come back elsewhere, while the agent runs."""
        paths = (self._programs.conmon, self._programs.runtime)
        if not all(os.access(path, os.X_OK) for path in paths):
            self._programs, self._version = _find_programs(self._programs.state)
        for name, path in (("conmon", self._programs.conmon), ("crun or runc", self._programs.runtime)):
            if not os.access(path, os.X_OK):
                raise StartError("CreateContainerError", f"{name} is missing on this node: containers cannot start")

    def _write_spec(self, id: str, bundle: Path, spec: dict[str, Any]) -> None:
        file = self._specs / id
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as out:
            json.dump(spec, out)
        (bundle / "config.json").symlink_to(file)

    def _own_mounts(self, pod: Pod, container: Container, base: Path) -> list[BindMount]:
        etc = self._pods / pod.uid / "etc"
        message = base / "termination-log"
        message.touch(mode=0o666)
        message.chmod(0o666)
        taken = {m.path for m in container.mounts}
        own = [
            BindMount(etc / "hosts", "/etc/hosts"),
            BindMount(etc / "hostname", "/etc/hostname"),
            BindMount(etc / "resolv.conf", "/etc/resolv.conf"),
            BindMount(self._pods / pod.uid / "shm", "/dev/shm"),
            BindMount(message, container.termination_message_path),
        ]
        return [m for m in own if m.target and m.target not in taken]

    async def stop_container(self, uid: str, name: str, grace: float) -> None:
        run = self._run(uid, name)
        if run is None or run.finished_at:
            return
        over = self._stopping.setdefault(run.id, asyncio.Event())
        try:
            for sign, timeout in ((run.stop_signal, grace), ("KILL", _KILL_TIMEOUT)):
                if timeout > 0:
                    await asyncio.to_thread(self._signal, run, sign)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(timeout):
                            await over.wait()
                if run.finished_at:
                    return
        finally:
            self._stopping.pop(run.id, None)
        await asyncio.to_thread(cgroups.kill_and_remove, f"{self._group(uid)}/{run.id}")
        self._gone(run.id)

    def _signal(self, run: _Run, sign: str) -> None:
        done = conmon.run(self._programs, ["kill", run.id, sign])
        if done.returncode:
            log.debug("signal %s to container %s: %s", sign, run.id, done.stderr.strip())

    def reopen_log(self, uid: str, name: str) -> None:
        fd = os.open(self._bundle(uid, name) / "ctl", os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(fd, b"2 0 0\n")  # conmon's word for it
        finally:
            os.close(fd)

    async def exec(self, uid: str, name: str, command: Sequence[str], timeout: float) -> ExecResult:
        run = self._run(uid, name)
        if run is None or run.finished_at:
            return ExecResult(126, b"the container does not run")
        pid_file = self._settings.run / "s" / f"exec-{uuid.uuid4().hex}"
        process = await asyncio.create_subprocess_exec(
            *self._programs.runtime_command("exec", "--pid-file", str(pid_file), run.id, *command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(timeout):
                output = await process.stdout.read(EXEC_OUTPUT)
                while await process.stdout.read(EXEC_OUTPUT):
                    pass
                code = await process.wait()
        except TimeoutError:
            return ExecResult(124, f"no answer within {timeout:g} s".encode())
        finally:
            if process.returncode is None:
                self._kill_exec(pid_file, f"{self._group(uid)}/{run.id}")
                process.kill()
                await process.wait()
            pid_file.unlink(missing_ok=True)
        return ExecResult(code, output)

    def _kill_exec(self, pid_file: Path, group: str) -> None:
        """The process in the container: the runtime that started it would leave it behind."""
        with contextlib.suppress(OSError, ValueError):
            pid = int(pid_file.read_text())
            fd = os.pidfd_open(pid)
            try:
                if pid in cgroups.processes(group):
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
            finally:
                os.close(fd)

    async def remove_pod(self, uid: str) -> None:
        for run in self._sandboxes[uid].runs.values() if uid in self._sandboxes else ():
            self._unattend(run.id)
            self._by_id.pop(run.id, None)
        self._sandboxes.pop(uid, None)
        await asyncio.to_thread(self._sweep, uid)

    # -- exits ---------------------------------------------------------------------------------------------------------

    def _attend(self, run: _Run) -> None:
        """conmon tells how a container ended; should conmon be gone too, the process id tells that it did."""
        try:
            fd = os.pidfd_open(run.pid)
        except OSError:
            self._expect_report(run.id)
            return
        self._pidfds[run.id] = fd
        asyncio.get_running_loop().add_reader(fd, self._expect_report, run.id)

    def _unattend(self, id: str) -> None:
        fd = self._pidfds.pop(id, None)
        if fd is not None:
            asyncio.get_running_loop().remove_reader(fd)
            os.close(fd)

    def _expect_report(self, id: str) -> None:
        self._unattend(id)
        if id not in self._lost:
            self._lost[id] = asyncio.get_running_loop().call_later(_LOST_AFTER, self._gone, id)

    def _gone(self, id: str) -> None:
        """Nobody said how it ended; unless the word was lost."""
        self._ended(id)
        self._finish(id, 137, "ContainerStatusUnknown")

    def _ended(self, id: str) -> None:
        uid, name = self._by_id.get(id, ("", ""))
        status = read_exit(self._exits, id)
        if status is not None and uid:
            self._finish(id, status, _oom(self._bundle(uid, name)))

    def _finish(self, id: str, status: int, reason: str) -> None:
        if timer := self._lost.pop(id, None):
            timer.cancel()
        self._unattend(id)
        uid, name = self._by_id.get(id, ("", ""))
        run = self._run(uid, name)
        if run is None or run.id != id or run.finished_at:
            return
        self._note_end(self._sandboxes[uid], run, status, reason)
        if over := self._stopping.get(id):
            over.set()
        self._on_exit(Exit(uid, name, id, run.exit_code, run.reason, run.message))

    def _note_end(self, sandbox: _Sandbox, run: _Run, status: int, reason: str) -> None:
        run.finished_at, run.exit_code, run.reason = time.time(), status, reason
        with contextlib.suppress(OSError):
            path = self._pods / sandbox.uid / "c" / run.name / "termination-log"
            with open(path, "rb") as file:
                run.message = file.read(_MESSAGE_BYTES).decode(errors="replace")
        with contextlib.suppress(OSError):
            _save(self._run_file(sandbox.uid, run.name), asdict(run))

    # -- removing ------------------------------------------------------------------------------------------------------

    def _remove_run(self, uid: str, name: str) -> None:
        """What the last run of a container left: runtime state, mount, files. Blocking, tolerant."""
        run = self._run(uid, name)
        if run is not None:
            with contextlib.suppress(subprocess.SubprocessError, OSError):
                conmon.run(self._programs, ["delete", "--force", run.id])
            cgroups.kill_and_remove(f"{self._group(uid)}/{run.id}")
            self._remove_traces(run.id)
        base = self._pods / uid / "c" / name
        with contextlib.suppress(OSError):
            mounts.unmount(base / "rootfs")
        trees.remove(base)  # of the container: its upper directory

    def _remove_traces(self, id: str) -> None:
        for directory in (self._exits, self._specs, self._settings.run / "s"):
            _remove_entry(directory / id)

    def _sweep(self, uid: str) -> None:
        """Everything of one pod, whatever is left of it."""
        directory = self._pods / uid
        sandbox = _load_sandbox(directory) or _Sandbox(uid, "", "", "", False, "unknown")
        for file in (directory / "runs").glob("*.json") if directory.is_dir() else ():
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                id = json.loads(file.read_bytes())["id"]
                conmon.run(self._programs, ["delete", "--force", id])
                self._remove_traces(id)
        cgroups.kill_and_remove(self._group(uid))
        self._remove_network(sandbox)
        for point in mounts.mounted_below(directory):
            with contextlib.suppress(OSError):
                mounts.unmount(point)
        if left := mounts.mounted_below(directory):
            raise OSError(f"{left[0]} is still mounted")
        trees.remove(directory)

    # -- names ---------------------------------------------------------------------------------------------------------

    def _run(self, uid: str, name: str) -> _Run | None:
        sandbox = self._sandboxes.get(uid)
        return sandbox.runs.get(name) if sandbox else None

    @property
    def _specs(self) -> Path:
        return self._settings.run / "specs"

    def _group(self, uid: str) -> str:
        return f"{self._settings.cgroup_prefix}/pod{uid}"

    def _run_file(self, uid: str, name: str) -> Path:
        return self._pods / uid / "runs" / f"{name}.json"

    def _bundle(self, uid: str, name: str) -> Path:
        return self._pods / uid / "c" / name / "bundle"

    def _namespace(self, uid: str, kind: str) -> Path:
        return self._settings.run / "ns" / uid / kind

    def _namespaces(self, pod: Pod) -> oci_spec.Namespaces:
        if pod.host_network:
            ipc = self._namespace(pod.uid, "ipc")
            if not ipc.exists():  # a pod from before this agent
                sandbox_files.pin_namespaces(ipc.parent, pod.hostname, _HOST_NETWORK_KINDS)
            return oci_spec.Namespaces("", str(ipc), "")
        return oci_spec.Namespaces(*(str(self._namespace(pod.uid, kind)) for kind in ("net", "ipc", "uts")))


def _load_sandbox(directory: Path) -> _Sandbox | None:
    try:
        sandbox = _Sandbox(**json.loads((directory / "pod.json").read_bytes()))
        for file in (directory / "runs").glob("*.json"):
            run = _Run(**json.loads(file.read_bytes()))
            sandbox.runs[run.name] = run
    except (OSError, ValueError, TypeError):
        return None
    return sandbox


def _remove_entry(path: Path) -> None:
    """conmon leaves a link to a directory where its socket is looked for; no tree is removed through a link."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _record(sandbox: _Sandbox) -> dict[str, Any]:
    return {key: value for key, value in asdict(sandbox).items() if key != "runs"}


def _save(path: Path, values: dict[str, Any]) -> None:
    """Whole or not at all. Not synced: after a power cut the processes that it speaks of are gone as well."""
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(values))
    temporary.replace(path)


def _oom(bundle: Path) -> str:
    return "OOMKilled" if (bundle / "oom").exists() else ""


def _oom_score() -> int:
    """Above the agent's: a workload goes first. Never below our own, which would need CAP_SYS_RESOURCE."""
    own = int(Path("/proc/self/oom_score_adj").read_text())
    return min(1000, max(own, 500))


def _possible_capabilities() -> list[str] | None:
    """What this process may give at all: a machine in a container may lack some."""
    names = (
        "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
        "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
        "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE "
        "MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
    ).split()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapBnd:"):
            mask = int(line.split()[1], 16)
            return [f"CAP_{name}" for bit, name in enumerate(names) if mask >> bit & 1]
    return None


def _find_programs(state: Path) -> tuple[conmon.Programs, str]:
    """crun, unless the machine's cgroup layout makes it refuse; then runc."""
    candidates = ("runc", "crun") if cgroups.layout() == "hybrid" else ("crun", "runc")
    runtime = next((p for name in candidates if (p := shutil.which(name))), "crun")
    said = ""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        said = subprocess.run([runtime, "--version"], capture_output=True, text=True, timeout=10).stdout
    words = said.split()
    version = "-" + words[2] if len(words) > 2 else ""
    programs = conmon.Programs(shutil.which("conmon") or "conmon", runtime, state, seccomp.runtime_filters(said))
    return programs, f"embedded://{Path(runtime).name}{version}"
