"""A runtime alone on one host, for tests of its interface: one pod, no engine, no store.

    python -m tests.kit.runtime_host '{"root": ..., "cgroup": ..., "scenario": NAME, "socket": ...}'

`socket` is that of a CRI runtime; without it the runtime is the embedded one.

stdout: one JSON object, what the scenario (a function of this file) saw.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from kubeedge.api.pod import ResourceRequirements
from kubeedge.api.pod_parser import parse
from kubeedge.appengine import logs
from kubeedge.appengine.images.service import EmbeddedImages
from kubeedge.appengine.images.store import ImageStore
from kubeedge.appengine.prepare import sandbox_config
from kubeedge.appengine.runtime import mounts as runtime_mounts
from kubeedge.appengine.runtime.base import (
    ContainerConfig,
    Exit,
    NotRunning,
    Runtime,
    SandboxConfig,
    StartError,
    Streams,
)
from kubeedge.appengine.runtime.cri.client import CriClient
from kubeedge.appengine.runtime.cri.runtime import CriRuntime
from kubeedge.appengine.runtime.cri.settings import CriSettings
from kubeedge.appengine.runtime.embedded import EmbeddedRuntime
from kubeedge.appengine.runtime.settings import EmbeddedSettings
from kubeedge.appengine.volumes.manager import VolumeManager
from kubeedge.kit.grpc import GrpcError
from tests.kit import containerd, control_groups

IMAGE = "docker.io/library/demo:1"
LINE = b"0123456789abcdef" * 64  # one KiB
#: containerd takes the size of a terminal and input for it from two streams, in any order
SIZE = "while ! stty size 2>/dev/null | grep -v '^0 0'; do sleep 0.05; done"


class Bench:
    """A runtime with one pod, and how its containers ended."""

    def __init__(self, root: Path, cgroup: str, socket: str = "", run: str = "") -> None:
        self.root = root
        self.run = Path(run) if run else root / "run"
        self.is_embedded = not socket
        self.socket, self.cgroup = socket, cgroup
        self.runtime = self.another_runtime()
        self.exits: asyncio.Queue[Exit] = asyncio.Queue()
        self.pod = parse({"metadata": {"name": "p", "namespace": "default", "uid": "u1"}, "spec": {"containers": [
            {"name": "main", "image": IMAGE, "command": ["x"]}]}})  # fmt: skip
        self.sandbox: SandboxConfig = sandbox_config(self.pod, logs.directory(root / "logs", "default", "p", "u1"))

    def another_runtime(self) -> Runtime:
        """As a restart of the agent makes it."""
        return self._cri(Path(self.socket), self.cgroup) if self.socket else self._embedded(self.cgroup)

    def _embedded(self, cgroup: str) -> Runtime:
        self.store = ImageStore(self.root / "state/images")
        settings = EmbeddedSettings(
            root=self.root / "state", run=self.run, node="edge1", pod_cidrs=("10.244.1.0/24",), cgroup_prefix=cgroup,
            cni_bin_dirs=("/usr/lib/cni",),
        )  # fmt: skip
        return EmbeddedRuntime(settings, EmbeddedImages(self.store))

    def _cri(self, socket: Path, cgroup: str) -> Runtime:
        settings = CriSettings(
            socket=socket, root=self.root / "state", node="edge1", pod_cidrs=("10.244.1.0/24",), cgroup_prefix=cgroup,
            cni_conf=containerd.NETWORKS,
        )  # fmt: skip
        return CriRuntime(settings)

    async def __aenter__(self) -> Bench:
        await self.runtime.start(self.exits.put_nowait)
        await self.runtime.images.preload()
        await self.runtime.create_sandbox(self.sandbox)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.is_embedded or containerd.pids():
            await self.runtime.remove_pod("u1")
        await self.runtime.close()

    async def start(self, command: str, name: str = "main", **fields: Any) -> str:
        spec = {"name": name, "image": IMAGE, "command": ["sh", "-c", command], **fields}
        (container,) = parse(
            {"metadata": {"name": "p", "uid": "u1"}, "spec": {"containers": [spec]}}
        ).containers  # fmt: skip
        log = logs.path(self.root / "logs", "default", "p", "u1", name, 0)
        return (await self.runtime.start_container(self.sandbox, ContainerConfig(container, 0, IMAGE, {}, [], log))).id

    @contextlib.asynccontextmanager
    async def another_pod(
        self, uid: str, first_user: int = 0, **spec: Any
    ) -> AsyncIterator[Callable[..., Awaitable[str]]]:
        """A sandbox of its own; what it gives starts one of the pod's containers, by name, and answers its id."""
        pod = parse({"metadata": {"name": uid, "namespace": "default", "uid": uid}, "spec": spec})
        sandbox = sandbox_config(pod, logs.directory(self.root / "logs", "default", uid, uid))
        sandbox = replace(sandbox, first_user=first_user)
        volumes = VolumeManager(self.root / "volumes", find=lambda *_: None, node="edge1", host_ip="")

        async def start(name: str, target_id: str = "") -> str:
            (container,) = [c for c in pod.all_containers if c.name == name]
            mounts = await asyncio.to_thread(volumes.mount, pod, container, "", {})
            log = logs.path(self.root / "logs", "default", uid, uid, name, 0)
            config = ContainerConfig(container, 0, IMAGE, {"GREETING": "héllo"}, mounts, log, target_id)
            return (await self.runtime.start_container(sandbox, config)).id

        await self.runtime.create_sandbox(sandbox)
        try:
            yield start
        finally:
            await self.runtime.remove_pod(uid)
            await asyncio.to_thread(volumes.remove, uid, pod)

    async def printed(self, uid: str, words: bytes) -> None:
        """Returns when the main container of another pod has said that: its trap is set, say. A signal before that is not heard."""
        log = logs.path(self.root / "logs", "default", uid, uid, "main", 0)
        async with asyncio.timeout(60):
            while not log.exists() or words not in log.read_bytes():
                await asyncio.sleep(0.01)

    async def says(self, id: str, command: str) -> str:
        """What a shell in a container answers, with its exit status when that is not 0."""
        result = await self.runtime.exec_sync(id, ["sh", "-c", command], 30)
        return result.output.decode().strip() + (f" [{result.exit_code}]" if result.exit_code else "")

    async def says_at_last(self, id: str, command: str, words: str, count: int = 1) -> str:
        """The same, as soon as the words are in it so often: a container that was started may not run its program yet."""
        async with asyncio.timeout(60):
            while (said := await self.says(id, command)).count(words) < count:
                await asyncio.sleep(0.02)
            return said


def sleeper(name: str = "main", command: str = "sleep 1000", **fields: Any) -> dict[str, Any]:
    return {"name": name, "image": IMAGE, "command": ["sh", "-c", command], **fields}


async def everything(streams: Streams) -> dict[str, Any]:
    """What a process writes to its end."""
    seen = {"stdout": b"", "stderr": b""}
    while output := await streams.receive():
        seen[output.stream] += output.data
    code = await streams.wait()
    await streams.close()
    return {"stdout": seen["stdout"].decode(), "stderr": seen["stderr"].decode(), "code": code}


async def until(streams: Streams, text: bytes) -> str:
    seen = b""
    while text not in seen:
        output = await streams.receive()
        assert output is not None, seen
        seen += output.data
    return seen.decode()


def processes(argument: bytes) -> int:
    found = 0
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += argument in cmdline.read_bytes().split(b"\0")
        except OSError:
            continue
    return found


async def streams_of_exec(bench: Bench) -> dict[str, Any]:
    runtime, id = bench.runtime, await bench.start("sleep 1000")
    apart = await everything(await runtime.exec(id, ["sh", "-c", "echo out; echo err >&2; exit 3"]))
    killed = await everything(await runtime.exec(id, ["sh", "-c", "kill -9 $$"]))
    no_input = await everything(await runtime.exec(id, ["cat"]))
    missing = await everything(await runtime.exec(id, ["/no/such/program"]))

    cat = await runtime.exec(id, ["cat"], stdin=True)

    async def send() -> None:
        for _ in range(1024):  # far more than all buffers together: it goes on because we receive
            await cat.send(LINE)
        await cat.end_input()

    sending = asyncio.create_task(send())
    echoed = await everything(cat)
    await sending
    deaf = await runtime.exec(id, ["sh", "-c", "exec 0<&-; exit 4"], stdin=True)
    for _ in range(1024 if bench.is_embedded else 16):  # containerd tells no end before it has got rid of all input
        await deaf.send(LINE)
    return {
        "apart": apart, "killed": killed["code"], "no_input": no_input, "missing": missing["code"],
        "echoed": [len(echoed["stdout"]), echoed["code"]], "deaf": (await everything(deaf))["code"],
        "version": runtime.version,
    }  # fmt: skip


async def a_child_that_keeps_the_streams(bench: Bench) -> dict[str, Any]:
    id = await bench.start("sleep 1000")
    parent = await bench.runtime.exec(id, ["sh", "-c", "sleep 5678 & exit 8"])
    async with asyncio.timeout(60):
        code = await parent.wait()
    await parent.close()
    return {"code": code}


async def the_end_of_exec(bench: Bench) -> dict[str, Any]:
    """Who goes away takes his process with him, also one that writes without end, and nothing else."""
    runtime, id = bench.runtime, await bench.start("sleep 1000")
    before = 2
    if bench.is_embedded:  # with CRI, who goes away leaves his process behind: nobody tells the runtime
        before = await _streams_that_are_closed(runtime, id)
    stopping = await runtime.exec(id, ["sh", "-c", "echo begun; exec sleep 3456"])
    await until(stopping, b"begun")
    await runtime.stop_container(id, 0)
    ended = await everything(stopping)
    refused = []
    for late in (runtime.exec(id, ["true"]), runtime.attach(id), runtime.exec("0" * 32, ["true"])):
        try:
            await late
        except NotRunning as exc:
            refused.append(str(exc))
    sync = await runtime.exec_sync(id, ["true"], 30)
    pid_files = [p.name for p in (bench.root / "run").glob("*/exec-*")]
    return {
        "before": before, "ended": ended["code"], "refused": refused, "sync": sync.exit_code, "pid_files": pid_files,
    }  # fmt: skip


async def _streams_that_are_closed(runtime: Runtime, id: str) -> int:
    """How many processes there were before."""
    first = await runtime.exec(id, ["sh", "-c", "echo begun; exec sleep 2345"])
    await until(first, b"begun")
    flood = await runtime.exec(id, ["sh", "-c", "echo begun; exec cat /dev/zero 2345"])
    await until(flood, b"begun")
    async with asyncio.timeout(60):
        while (before := processes(b"2345")) != 2:  # "begun" comes from the shells that became them
            await asyncio.sleep(0.01)
    await first.close()
    await flood.close()
    await flood.close()
    async with asyncio.timeout(60):
        while processes(b"2345"):
            await asyncio.sleep(0.01)
    return before


async def a_terminal(bench: Bench) -> dict[str, Any]:
    runtime, id = bench.runtime, await bench.start("sleep 1000")
    size = "stty size" if bench.is_embedded else SIZE
    shell = await runtime.exec(
        id, ["sh", "-c", "test -t 0 && test -t 1 && test -t 2 && echo terminal; read line; " + size + "; exit 5"],
        stdin=True, tty=True,
    )  # fmt: skip
    begun = await until(shell, b"terminal")
    early = await runtime.exec(id, ["sh", "-c", f"echo begun; read line; {size}"], stdin=True, tty=True)
    early.resize(44, 55)
    await until(early, b"begun")
    await early.send(b"go\r")
    first = (await everything(early))["stdout"]
    shell.resize(33, 101)
    await shell.send(b"go\r")
    rest = await everything(shell)
    if bench.is_embedded:
        hung_up = await runtime.exec(id, ["sh", "-c", "echo begun; exec sleep 4567"], tty=True)
        await until(hung_up, b"begun")
        await hung_up.close()
        async with asyncio.timeout(60):
            while processes(b"4567"):
                await asyncio.sleep(0.01)
    return {
        "begun": begun,
        "rest": rest,
        "early": first,
        "status": (await runtime.exec_sync(id, ["true"], 30)).exit_code,
    }


async def _both(attached: Any) -> str:
    """Output until a line came on each stream."""
    seen = ""
    while "got two" not in seen or "err two" not in seen:
        output = await attached.receive()
        assert output is not None
        seen += output.data.decode()
    return seen


async def streams_of_attach(bench: Bench) -> dict[str, Any]:
    runtime = bench.runtime
    command = 'while read line; do [ "$line" = end ] && exit 6; echo "got $line"; echo "err $line" >&2; done'
    id = await bench.start(command, stdin=True)
    first = await runtime.attach(id, stdin=True)
    await first.send(b"one\n")
    seen = {}
    while set(seen) != {"stdout", "stderr"}:
        output = await first.receive()
        assert output is not None
        seen[output.stream] = output.data.decode()
    await first.end_input()
    await first.close()
    left = await first.wait()
    second = await runtime.attach(id, stdin=True)  # the input is still open
    watcher = await runtime.attach(id)
    await watcher.send(b"not heard\n")
    listening = [asyncio.create_task(_both(one)) for one in (second, watcher)]
    while not all(task.done() for task in listening):  # a runtime may begin to pass output on after it has answered
        await second.send(b"two\n")
        await asyncio.wait(listening, timeout=1, return_when=asyncio.ALL_COMPLETED)
    heard = [task.result() for task in listening]
    await second.send(b"end\n")
    codes = [(await everything(second))["code"], (await everything(watcher))["code"]]
    exit = await bench.exits.get()
    return {"seen": seen, "left": left, "heard": heard, "codes": codes, "exit": [exit.id == id, exit.exit_code]}


async def input_that_ends(bench: Bench) -> dict[str, Any]:
    """stdinOnce: what `kubectl run -i` asks for."""
    id = await bench.start("cat; exit 6", stdin=True, stdinOnce=True)
    attached = await bench.runtime.attach(id, stdin=True)
    for _ in range(64):
        await attached.send(LINE)
    await attached.end_input()
    seen = await everything(attached)
    second = await bench.start("cat; exit 7", name="second", stdin=True, stdinOnce=True)
    left = await bench.runtime.attach(second, stdin=True)
    await left.send(b"x")
    await until(left, b"x")
    await left.close()
    await bench.exits.get()
    return {"whole": [len(seen["stdout"]), seen["code"]], "left": (await bench.exits.get()).exit_code}


async def attach_to_a_terminal(bench: Bench) -> dict[str, Any]:
    # a size comes on another way than input, and may be there later
    runtime, id = bench.runtime, await bench.start(f"read go; {SIZE}; exit 7", stdin=True, tty=True)
    attached = await runtime.attach(id, stdin=True)
    attached.resize(22, 77)
    await attached.send(b"go\n")
    seen = await everything(attached)
    return {"stdout": seen["stdout"], "code": seen["code"]}


async def images_and_sandboxes(bench: Bench) -> dict[str, Any]:
    runtime, images = bench.runtime, bench.runtime.images
    id = await bench.start("sleep 1000")
    (image,) = [image for image in await images.list() if IMAGE in image.names]
    status = await runtime.sandbox_status("u1")
    assert status is not None
    seen: dict[str, Any] = {}
    if bench.is_embedded:
        seen["layers"] = await _layers_in_use(bench, id)
    else:
        await images.remove("demo:1")
        await images.remove("demo:1")
        seen["gone"] = await images.status("demo:1") is None
        seen["still"] = (await runtime.exec_sync(id, ["echo", "still"], 30)).output.decode()
        await runtime.remove_pod("u1")
    try:
        await runtime.create_sandbox(SandboxConfig(uid="u2", namespace="d", name="n", hostname="n", handler="kata"))
        seen["handler"] = ""
    except StartError as exc:
        seen["handler"] = f"{exc.reason}: {exc}"
    return {
        **seen, "image": [image.id.startswith("sha256:"), list(image.names)], "status": [status.ready, status.ip],
        "none": await runtime.sandbox_status("u1") is None, "handlers": list(runtime.handlers),
        "version": runtime.version, "scheme": runtime.scheme,
    }  # fmt: skip


async def _layers_in_use(bench: Bench, id: str) -> dict[str, Any]:
    runtime, images = bench.runtime, bench.runtime.images
    layers = {p.name for p in bench.store.layers.iterdir() if p.is_dir()}
    await images.remove("demo:1")
    used = {p.name for p in bench.store.layers.iterdir() if p.is_dir()}
    still = (await runtime.exec_sync(id, ["echo", "still"], 30)).output.decode()
    gone = await images.status("demo:1")
    restored = await images.restore("demo:1")
    await runtime.remove_pod("u1")
    await images.remove("demo:1")
    await images.remove("demo:1")
    left = sorted(p.name for p in bench.store.layers.iterdir())
    return {
        "kept": used == layers and bool(layers), "still": still, "gone": gone is None, "restored": restored, "left": left,
    }  # fmt: skip


async def namespaces_and_parameters(bench: Bench) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    sysctls = [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "81"},
               {"name": "kernel/shm_rmid_forced", "value": "1"}]  # fmt: skip
    spec = {"hostname": "web-0", "subdomain": "web", "setHostnameAsFQDN": True, "securityContext": {"sysctls": sysctls}}
    async with bench.another_pod("u2", containers=[sleeper()], ephemeralContainers=[sleeper("debug")], **spec) as start:
        id = await start("main")
        files = "/proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced"
        seen["parameters"] = (await bench.says(id, f"cat {files}")).split()
        seen["environment"] = await bench.says(id, "echo $GREETING")
        seen["names"] = (await bench.says(id, "hostname; cat /etc/hostname")).split()
        debug = await start("debug", id)
        look = "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; done"
        seen["target"] = [await bench.says_at_last(one, look, "sleep 1000", n) for n, one in enumerate((id, debug), 1)]
        ipc = os.readlink("/proc/self/ns/ipc")
        seen["own ipc"] = await bench.says(id, "readlink /proc/self/ns/ipc") != ipc
        try:
            await start("debug", "0" * 32)
        except StartError as exc:
            seen["no target"] = str(exc)
    async with bench.another_pod("u3", hostPID=True, hostIPC=True, hostNetwork=True, containers=[sleeper()]) as start:
        id = await start("main")
        marker = Path("/dev/shm/of-the-machine")
        marker.touch()
        pid = await bench.says(id, f"tr '\\0' ' ' < /proc/{os.getpid()}/cmdline")
        seen["host"] = ["runtime_host" in pid, await bench.says(id, "readlink /proc/self/ns/ipc") == ipc,
                        await bench.says(id, "ls /dev/shm/of-the-machine")]  # fmt: skip
        marker.unlink()
    try:
        async with bench.another_pod("u4", containers=[sleeper()], **{**spec, "hostname": "x" * 60}):
            pass
    except StartError as exc:
        seen["too long"] = str(exc)
    kept = bench.root / ("run/ns" if bench.is_embedded else "state/cri")
    seen["left"] = sorted(p.name for p in kept.iterdir())
    return seen


async def shared_processes(bench: Bench) -> dict[str, Any]:
    """One PID namespace, whose first process is neither of the containers and reaps what they leave behind."""
    seen: dict[str, Any] = {}
    other = sleeper("other", "(sleep 1001 & sleep 1002 & exec sleep 0.2); exit 3")
    debugger = sleeper("debugger", securityContext={"capabilities": {"add": ["SYS_PTRACE"]}})
    spec = {"shareProcessNamespace": True, "containers": [sleeper(), other, debugger]}
    async with bench.another_pod("u2", **spec) as start:
        id, debug = await start("main"), await start("debugger")
        seen["first"] = await bench.says(id, "tr '\\0' ' ' < /proc/1/cmdline")
        seen["both"] = await bench.says_at_last(id, "grep -l 'sleep' /proc/[0-9]*/comm | wc -l", "2")
        seen["root of the first"] = await bench.says(
            debug, "ls /proc/1/root; ls /proc/1/root/etc 2>/dev/null || echo none"
        )
        await start("other")
        ended = await bench.exits.get()
        left = "grep -l '100[12]' /proc/[0-9]*/cmdline; grep -l 'State:.Z' /proc/[0-9]*/status; true"
        async with asyncio.timeout(60):
            while await bench.says(id, left):
                await asyncio.sleep(0.05)
        seen["ended"] = [ended.container, ended.exit_code]
        pid = int((bench.root / "state/pods/u2/pause/pid").read_text())
        memory = Path(f"/proc/{pid}/smaps_rollup").read_text()
        seen["kilobytes"] = sum(int(line.split()[1]) for line in memory.splitlines() if line.startswith("Private_"))
        os.kill(pid, signal.SIGKILL)  # by its number: nobody else's
        gone = {(await bench.exits.get()).container, (await bench.exits.get()).container}
        again = await start("main")
        seen["again"] = [sorted(gone), await bench.says(again, "tr '\\0' ' ' < /proc/1/cmdline")]
        before = processes(b"/pause")
    seen["left"] = [before, processes(b"/pause"), [str(path) for path in control_groups.find(bench.cgroup, "*podu2")]]
    return seen


async def mounts_and_groups(bench: Bench) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    host = bench.root / "host"
    host.mkdir()
    runtime_mounts.bind(str(host), host)
    shared = await asyncio.create_subprocess_exec("mount", "--make-shared", str(host))  # as the root of a machine is
    assert await shared.wait() == 0
    (host / "below").mkdir()
    runtime_mounts.mount("tmpfs", host / "below", "tmpfs")
    volumes = [{"name": "h", "hostPath": {"path": str(host)}}, {"name": "i", "image": {"reference": IMAGE}}]
    mounts = [
        {"name": "h", "mountPath": "/plain", "readOnly": True},
        {"name": "h", "mountPath": "/all", "readOnly": True, "recursiveReadOnly": "Enabled"},
        {"name": "h", "mountPath": "/slave", "mountPropagation": "HostToContainer"},
        {"name": "i", "mountPath": "/image"},
        {"name": "i", "mountPath": "/part", "subPath": "bin"},
    ]
    if is_old := bench.runtime.version.startswith("containerd://1."):
        seen["refused"] = await _refusals(bench, volumes, mounts)
        mounts = [mounts[0], mounts[2]]
    strict = {"supplementalGroupsPolicy": "Merge" if is_old else "Strict", "supplementalGroups": [4321]}
    user = {"runAsUser": 1000, "runAsGroup": 1000}
    async with bench.another_pod(
        "u2", volumes=volumes, securityContext=strict,
        containers=[sleeper(volumeMounts=mounts), sleeper("other", securityContext=user)],
    ) as start:  # fmt: skip
        id, other = await start("main"), await start("other")
        deep = ("/plain",) if is_old else ("/plain", "/all")
        writes = {p: await bench.says(id, f"touch {p}/below/x 2>/dev/null || echo no") for p in deep}
        seen["writes"] = writes
        late = host / "late"
        late.mkdir()
        runtime_mounts.mount("tmpfs", late, "tmpfs")
        (late / "file").touch()
        seen["late"] = [await bench.says(id, f"ls {p}/late") for p in ("/slave", "/plain")]
        seen["image"] = await bench.says(id, "test -e /image/bin/sh && test -e /part/sh && echo there")
        seen["image writes"] = await bench.says(id, "touch /image/x 2>/dev/null || echo no")
        seen["image runs"] = await bench.says(id, "/image/bin/sh -c true 2>/dev/null || echo no")
        seen["groups"] = await bench.says(other, "id -G; grep Groups /proc/1/status")
        runtime_mounts.unmount(late)
    runtime_mounts.unmount(host / "below")
    runtime_mounts.unmount(host)
    await bench.runtime.remove_pod("u1")
    await bench.runtime.images.remove("demo:1")
    if bench.is_embedded:
        seen["layers"] = sorted(p.name for p in bench.store.layers.iterdir())
    return seen


async def _refusals(bench: Bench, volumes: list[dict[str, Any]], mounts: list[dict[str, Any]]) -> list[str]:
    """What a runtime without these features says to each of them."""
    said = []
    for mount in (mounts[1], mounts[3]):
        async with bench.another_pod("u2", volumes=volumes, containers=[sleeper(volumeMounts=[mount])]) as start:
            try:
                await start("main")
            except StartError as exc:
                said.append(str(exc))
    try:
        async with bench.another_pod(
            "u2", securityContext={"supplementalGroupsPolicy": "Strict"}, containers=[sleeper()]
        ):
            pass
    except StartError as exc:
        said.append(str(exc))
    return said


async def signals_and_resizes(bench: Bench) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    loop = "trap 'exit 9' USR1; trap 'exit 15' TERM; echo set; while :; do sleep 0.05; done"
    fields = {"lifecycle": {"stopSignal": "SIGUSR1"}, "resources": {"limits": {"cpu": "500m", "memory": "32Mi"}}}
    async with bench.another_pod("u2", containers=[sleeper(command=loop, **fields)]) as start:
        id = await start("main")
        group = control_groups.find(bench.cgroup, "*podu2", id)

        def limits() -> list[str]:
            names = ("memory.limit_in_bytes", "cpu.cfs_quota_us", "cpu.shares", "memory.max", "cpu.max")
            return [(p / name).read_text().strip() for name in names for p in group if (p / name).exists()]

        seen["before"] = limits()
        await bench.runtime.update_container(id, ResourceRequirements(1000, 64 << 20, 250, 0))
        seen["after"] = limits()
        await bench.runtime.update_container(id, ResourceRequirements(None, None, 250, 0))
        seen["lifted"] = limits()
        try:
            await bench.runtime.update_container(id, ResourceRequirements(1000, 1, 250, 0))
        except StartError as exc:
            seen["too small"] = str(exc)
        seen["still"] = limits() == seen["lifted"]
        await bench.printed("u2", b"set")
        await bench.runtime.stop_container(id, 20)
        seen["exit"] = (await bench.exits.get()).exit_code
        try:
            await bench.runtime.update_container(id, ResourceRequirements(1000, None, 250, 0))
        except NotRunning:
            seen["over"] = True
    return seen


async def users_of_its_own(bench: Bench) -> dict[str, Any]:
    """A pod with a user namespace: who its processes and files are, inside and on the machine; and what it cannot have."""
    first, seen = 0x70010000, dict[str, Any]()
    volumes = [
        {"name": "data", "emptyDir": {}}, {"name": "memory", "emptyDir": {"medium": "Memory"}},
        {"name": "node", "hostPath": {"path": str(bench.root / "node")}}, {"name": "proc", "hostPath": {"path": "/proc/sys"}},
        {"name": "image", "image": {"reference": IMAGE}}, {"name": "kept", "hostPath": {"path": str(bench.root / "kept")}},
    ]  # fmt: skip
    (bench.root / "node").mkdir()
    (bench.root / "kept").mkdir()
    runtime_mounts.tmpfs(bench.root / "kept", 1 << 20, 0o755)  # as a Secret is: nosuid, nodev
    (bench.root / "kept/token").write_text("of the pod")
    (bench.root / "node/secret").write_text("of root")
    (bench.root / "node/secret").chmod(0o600)
    names = ("data", "memory", "node", "image")
    mounts: list[dict[str, Any]] = [{"name": name, "mountPath": f"/{name}"} for name in names]
    mounts.append({"name": "kept", "mountPath": "/kept", "readOnly": True})
    admin = {"capabilities": {"add": ["NET_ADMIN", "SYS_ADMIN"]}}
    bad = sleeper("bad", volumeMounts=[{"name": "proc", "mountPath": "/x"}])
    whole = sleeper("whole", securityContext={"procMount": "Unmasked", "runAsUser": 1000})
    spec = {"hostUsers": False, "shareProcessNamespace": True, "volumes": volumes,
            "containers": [sleeper(volumeMounts=mounts, securityContext=admin), bad, whole]}  # fmt: skip
    async with bench.another_pod("u-users", first, **spec) as start:
        id = await start("main")
        seen["map"] = (await bench.says(id, "cat /proc/self/uid_map /proc/self/gid_map")).split()
        seen["root"] = await bench.says(id, "id -u; stat -c %u:%g /bin /etc/hosts /dev/shm /image/bin / | sort -u")
        seen["volumes"] = [
            await bench.says(id, f"cd /{name} && echo x > new && chown 5:6 new && stat -c %u:%g new")
            for name in names[:3]
        ]
        seen["read"] = await bench.says(id, "cat /node/secret")
        seen["kept"] = await bench.says(
            id, "cat /kept/token; touch /kept/x 2>/dev/null; echo $?; grep ' /kept ' /proc/mounts"
        )
        seen["image"] = await bench.says(id, "touch /image/x 2>/dev/null; echo $?")
        seen["network"] = await bench.says(
            id, "ip link set lo mtu 1400 && cat /sys/class/net/lo/mtu; hostname x && hostname"
        )
        seen["device"] = await bench.says(id, "chmod 0 /dev/null 2>/dev/null; mknod /d c 1 3 2>/dev/null; echo $?")
        data = bench.root / "volumes/u-users/data"
        seen["on disk"] = [(data / "new").stat().st_uid, (bench.root / "node/new").stat().st_gid]
        seen["null"] = [os.stat("/dev/null").st_uid, os.stat("/dev/null").st_mode & 0o777]
        seen["processes"] = sorted({p.stat().st_uid for p in Path("/proc").glob("[0-9]*") if _argument(p, b"sleep")})
        other = await start("whole")
        seen["unmasked"] = await bench.says(other, "grep -c ' /proc/' /proc/self/mountinfo; id -u")
        try:
            await start("bad")
        except StartError as exc:
            seen["bad"] = str(exc)
        await bench.runtime.close()
        bench.runtime = bench.another_runtime()
        await bench.runtime.start(bench.exits.put_nowait)
        seen["again"] = await bench.says(id, "cat /proc/self/uid_map | wc -l")
        top = bench.run.with_name(f"{bench.run.name}-users")
        seen["closed"] = [oct(top.stat().st_mode & 0o777), oct((top / "u-users").stat().st_mode & 0o777)]
    runtime_mounts.unmount(bench.root / "kept")
    seen["left"] = top.exists()
    seen["mounted"] = [str(point) for point in runtime_mounts.mounted_below(top)]
    refused = {"hostUsers": False, "runtimeClassName": "crun", "containers": [sleeper()]}
    try:
        async with bench.another_pod("u-crun", first, **refused):
            pass
    except StartError as exc:
        seen["crun"] = str(exc)
    return seen


async def what_crictl_shows(bench: Bench) -> dict[str, Any]:
    """Pods of ours, as the tool of CRI's makers sees and uses them. It is on the PATH."""

    async def crictl(*arguments: str) -> str:
        command = ("crictl", "-r", f"unix://{bench.socket}", "-i", f"unix://{bench.socket}", "-t", "60s", *arguments)
        done = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    id = await bench.start("echo said; echo wrong >&2; exec sleep 1000")
    log = logs.path(bench.root / "logs", "default", "p", "u1", "main", 0)
    async with asyncio.timeout(60):
        while not log.exists() or log.read_bytes().count(b"\n") < 2:
            await asyncio.sleep(0.01)
    pods, containers = json.loads(await crictl("pods", "-o", "json")), json.loads(await crictl("ps", "-o", "json"))
    inspected = json.loads(await crictl("inspect", id))
    return {
        "pods": [[p["metadata"]["name"], p["metadata"]["namespace"], p["state"]] for p in pods["items"]],
        "labels": pods["items"][0]["labels"]["io.kubernetes.pod.uid"],
        "containers": [[c["metadata"]["name"], c["state"], c["id"] == id] for c in containers["containers"]],
        "logs": sorted((await crictl("logs", id)).splitlines()),
        "log path": inspected["status"]["logPath"] == str(log),
        "exec": [await crictl("exec", id, "echo", "by a stream"), await crictl("exec", "-s", id, "echo", "at once")],
        "stats": [s["attributes"]["id"] == id for s in json.loads(await crictl("stats", "-o", "json"))["stats"]],
        "images": IMAGE in json.dumps(json.loads(await crictl("images", "-o", "json"))),
    }


def _argument(process: Path, word: bytes) -> bool:
    with contextlib.suppress(OSError):
        return process.joinpath("cmdline").read_bytes().split(b"\0")[:1] == [word]
    return False


async def another_oci_runtime(bench: Bench) -> dict[str, Any]:
    """Pods of two RuntimeClasses side by side, each by its own program."""
    seen: dict[str, Any] = {"handlers": list(bench.runtime.handlers)}
    loop = sleeper(command="trap 'exit 9' TERM; echo set; while :; do sleep 0.05; done")
    for handler in [name for name in bench.runtime.handlers if name]:
        spec = {"runtimeClassName": handler, "shareProcessNamespace": True, "containers": [loop]}
        async with bench.another_pod(f"u-{handler}", **spec) as start:
            id = await start("main")
            status = await bench.runtime.sandbox_status(f"u-{handler}")
            states = [p.name for p in (bench.root / f"run/oci-{handler}").iterdir()]
            streams = await everything(await bench.runtime.exec(id, ["echo", handler]))
            await bench.runtime.update_container(id, ResourceRequirements(500, 64 << 20, 0, 0))
            await bench.printed(f"u-{handler}", b"set")
            await bench.runtime.stop_container(id, 10)
            ended = await bench.exits.get()
            seen[handler] = [status and status.handler, sorted(states) == sorted([id, f"pause-u-{handler}"]),
                             streams["stdout"], ended.exit_code]  # fmt: skip
        seen[handler].append([p.name for p in (bench.root / f"run/oci-{handler}").iterdir()])
    return seen


async def ends_and_survivors(bench: Bench) -> dict[str, Any]:
    """How runs end, what is counted, and what the next start finds."""
    runtime, seen = bench.runtime, dict[str, Any]()
    message = "echo why > /dev/termination-log; exit 3"
    id = await bench.start(message, name="short")
    ended = await bench.exits.get()
    seen["ended"] = [ended.id == id, ended.uid, ended.container, ended.exit_code, ended.reason, ended.message]
    await bench.start(
        "while true; do x=$x$x-----------------; done", name="hog", resources={"limits": {"memory": "16Mi"}}
    )
    oom = await bench.exits.get()
    seen["oom"] = [oom.container, oom.exit_code, oom.reason]
    await bench.start("sleep 1000", name="again", lifecycle={})
    server = await bench.start("nc -l -p 7070 -e cat", name="server")
    async with asyncio.timeout(60):
        while "7070" not in await bench.says(server, "netstat -ltn"):
            await asyncio.sleep(0.02)
    reader, writer = await runtime.port_forward("u1", 7070)
    writer.write(b"hello\n")
    seen["forwarded"] = (await reader.readline()).decode()
    writer.close()
    await bench.exits.get()
    main = await bench.start("while :; do echo tick; sleep 0.05; done")
    log = logs.path(bench.root / "logs", "default", "p", "u1", "main", 0)
    async with asyncio.timeout(60):
        while not log.exists() or b"tick" not in log.read_bytes():
            await asyncio.sleep(0.01)
        log.rename(log.with_suffix(".old"))
        await asyncio.to_thread(runtime.reopen_log, main)
        while not log.exists() or b"tick" not in log.read_bytes():
            await asyncio.sleep(0.01)
    (whole,) = await runtime.stats()
    counted = {s.name: s for s in whole.containers}
    seen["stats"] = [
        sorted(counted),
        counted["main"].usage.memory > 0,
        counted["main"].image == IMAGE,
        counted["main"].usage.cpu_ns > 0,
        (whole.uid, whole.namespace, whole.name) == ("u1", "default", "p"),
        whole.usage.cpu_ns > 0 and whole.usage.working_set > 0,
    ]
    (detail,) = await runtime.details()
    seen["details"] = [
        detail.uid == "u1",
        {name: of.cache is not None and of.system_ns is not None for name, of in detail.containers.items()},
        [each.name for each in detail.network if each.received_bytes >= 0],
    ]
    seen["timeout"] = (await runtime.exec_sync(main, ["sleep", "100"], 1)).exit_code
    seen["hosts"] = "10.244.1." in await bench.says(main, "cat /etc/hosts")
    await runtime.close()
    bench.runtime = bench.another_runtime()
    (pod,) = await bench.runtime.start(bench.exits.put_nowait)
    found = {c.name: c for c in pod.containers}
    seen["found"] = [pod.uid, pod.namespace, pod.name, pod.ip.startswith("10.244.1."), found["main"].id == main]
    seen["runs"] = {name: c.exit.exit_code if c.exit else None for name, c in sorted(found.items())}
    seen["message"] = found["short"].exit.message if found["short"].exit else None
    await bench.runtime.stop_container(main, 0)
    last = await bench.exits.get()
    seen["last"] = [last.id == main, last.exit_code]
    return seen


async def a_runtime_that_disappears(bench: Bench) -> dict[str, Any]:
    """It is killed while containers run, one of which ends meanwhile; it hangs; it comes back."""
    runtime, seen = bench.runtime, dict[str, Any]()
    stays = await bench.start("sleep 1000")
    await bench.start("until test -e /tmp/go; do sleep 0.05; done; exit 5", name="ends")
    (ends,) = [s.id for pod in await runtime.stats() for s in pod.containers if s.name == "ends"]
    (pid,) = containerd.pids()
    command = Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
    seen["before"] = runtime.not_ready()
    await bench.says(ends, "(sleep 1; touch /tmp/go) >/dev/null 2>&1 &")
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(60):
        while not runtime.not_ready():
            await asyncio.sleep(0.01)
    seen["gone"] = runtime.not_ready()
    seen["refused"] = (await runtime.exec_sync(stays, ["true"], 30)).exit_code
    while processes(b"until test -e /tmp/go; do sleep 0.05; done; exit 5"):
        await asyncio.sleep(0.01)
    again = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        ended = await bench.exits.get()
        seen["ended"] = [ended.id == ends, ended.exit_code, ended.reason]
        async with asyncio.timeout(60):
            while runtime.not_ready():
                await asyncio.sleep(0.01)
        seen["still"] = await bench.says(stays, "echo here")
        os.kill(again.pid, signal.SIGSTOP)
        while Path(f"/proc/{again.pid}/stat").read_text().rpartition(") ")[2][0] != "T":
            await asyncio.sleep(0.01)
        client = CriClient(Path(bench.socket))
        try:
            await client.call("Version", within=0.3)
        except GrpcError as exc:
            seen["hangs"] = exc.code
        finally:
            os.kill(again.pid, signal.SIGCONT)
        seen["answers"] = (await client.call("Version")).get("runtime_name")
        await client.close()
        await runtime.remove_pod("u1")
    finally:
        again.kill()
        await again.wait()
    return seen


async def main(config: dict[str, Any]) -> None:
    scenario = globals()[config["scenario"]]
    async with asyncio.timeout(config.get("limit", 250)):
        # pytest's directories are closed for the users of a pod; /run is this host's own
        run = "/run/kb" if scenario is users_of_its_own else ""
        async with Bench(Path(config["root"]), config["cgroup"], config.get("socket", ""), run) as bench:
            seen = await scenario(bench)
    print(json.dumps(seen), flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    asyncio.run(main(json.loads(sys.argv[1])))
