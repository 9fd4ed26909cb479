"""Containers of the embedded runtime on their way up and down: root file system, OCI configuration, conmon. Blocking."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kubeedge.api.pod import Container, ResourceRequirements
from kubeedge.appengine.images.store import Image
from kubeedge.appengine.runtime import (
    app_armor,
    cgroups,
    conmon,
    image_volumes,
    mounts,
    oci_spec,
    records,
    sandbox_files,
    seccomp_profiles,
    user_namespaces,
    users,
)
from kubeedge.appengine.runtime.base import BindMount, ContainerConfig, SandboxConfig, StartError, User
from kubeedge.appengine.runtime.device_files import device_files
from kubeedge.appengine.runtime.group_limits import swap_limit
from kubeedge.appengine.runtime.layout import Layout
from kubeedge.appengine.runtime.programs import Programs, possible_capabilities
from kubeedge.appengine.runtime.records import Run
from kubeedge.appengine.runtime.sandboxes import Sandboxes
from kubeedge.errors import Invalid
from kubeedge.kit import trees
from kubeedge.kit.dataclasses import asdict, replace


class Containers:
    """Starts and removes single runs. `boot` is the kernel's boot id, by which mounts of an earlier boot are known."""

    def __init__(self, layout: Layout, sandboxes: Sandboxes, programs: Programs, boot: str) -> None:
        self._layout = layout
        self._sandboxes = sandboxes
        self._boot = boot
        self.programs = programs
        self._possible = possible_capabilities()
        self._filters = seccomp_profiles.Filters(
            layout.root / "seccomp",
            os.uname().machine,
            supported=programs.has_seccomp and seccomp_profiles.kernel_filters(),
        )

    def start(
        self,
        sandbox: SandboxConfig,
        config: ContainerConfig,
        images: Mapping[str, Image],
        last: Run | None,
        target: int,
    ) -> Run:
        """A new run that replaces `last`. `images` has its own and those that it mounts, `target` is the process whose PID namespace it
        joins (0: none). Raises StartError; then nothing of either is left."""
        container, image = config.container, images[config.image]
        self.programs = self.programs.check()
        oci = self.programs.of(sandbox.handler)
        self.remove(sandbox.uid, container.name, last, oci)
        id = secrets.token_hex(16)
        if sandbox.resources is not None:
            self._layout.groups.update(sandbox.uid, sandbox.resources)
        try:
            user = self._make_bundle(sandbox, config, images, id, target)
            config.log_path.parent.mkdir(parents=True, exist_ok=True)
            pid = conmon.create_and_start(
                oci,
                id=id,
                bundle=self._layout.bundle(sandbox.uid, container.name),
                exit_dir=self._layout.exits,
                socket_dir=self._layout.sockets,
                log_path=config.log_path,
                tty=container.tty,
                stdin=container.stdin,
                stdin_once=container.stdin_once,
            )
        except (StartError, Invalid, OSError, ValueError, subprocess.SubprocessError) as exc:
            self.remove(sandbox.uid, container.name, last, oci)
            self._layout.remove_traces(id)
            if isinstance(exc, StartError):
                raise
            raise StartError("CreateContainerError", str(exc)) from exc
        run = Run(
            name=container.name,
            attempt=config.attempt,
            id=id,
            pid=pid,
            image=config.image,
            image_id=image.id,
            started_at=time.time(),
            boot=self._boot,
            stop_signal=_stop_signal(container) or image.config.stop_signal,
            layers=[layer.name for used in images.values() for layer in used.layers],
            tty=container.tty,
            stdin=container.stdin,
            stdin_once=container.stdin_once,
            shares_processes=bool(target) or sandbox.share_processes or sandbox.host_pid,
            user=asdict(user),
            resources=asdict(container.resources),
        )
        try:
            records.save_run(self._layout.pod(sandbox.uid), run)
        except OSError as exc:  # a full disk: a run without a record must not go on
            self.remove(sandbox.uid, container.name, run, oci)
            raise StartError("CreateContainerError", str(exc)) from exc
        return run

    def _make_bundle(
        self, sandbox: SandboxConfig, config: ContainerConfig, images: Mapping[str, Image], id: str, target: int
    ) -> User:
        """Root file system and configuration, as the OCI runtime takes them (runtime-spec, bundle.md)."""
        container, image = config.container, images[config.image]
        base = self._layout.container(sandbox.uid, container.name)
        bundle = base / "bundle"
        for directory in (base / "upper", base / "work", bundle):
            directory.mkdir(parents=True)
        rootfs, mounted = self._mount(sandbox, config, images, base)
        image_mounts = image_volumes.prepare(
            rootfs,
            image.config.volumes,
            [mount.target for mount in config.mounts],
            read_only_root=container.security.read_only_root,
        )
        security = container.security
        user = users.resolve(rootfs, image.config.user, security.user, security.group, strict=sandbox.strict_groups)
        held = oci_spec.effective_capabilities(container, user.uid, self._possible)["bounding"]
        files = device_files(config.devices)
        spec = oci_spec.build(
            container,
            image.config,
            user=user,
            rootfs=rootfs,
            env=config.env,
            mounts=[*image_mounts, *mounted],
            namespaces=self._namespaces(sandbox, target),
            cgroup=f"/{self._layout.group(sandbox.uid)}/{id}",
            oom_score_adj=oom_score(config.oom_score_adj),
            capabilities=self._possible,
            groups=sandbox.groups,
            pids_limit=self._sandboxes.groups.pids,
            seccomp=self._filters.of(security, held),
            app_armor=app_armor.profile_of(security),
            devices=files.nodes,
            allowed=files.allowed,
            annotations=config.annotations,
        )
        if config.swap is not None and cgroups.limits_swap(self._layout.group(sandbox.uid)):
            spec["linux"]["resources"] |= swap_limit(config.swap)
        if config.cdi:
            from kubeedge.appengine.runtime import cdi  # most nodes have no such device

            cdi.apply(spec, config.cdi)
        self._write_spec(id, bundle, spec)
        return User(user.uid, user.gid, tuple(spec["process"]["user"]["additionalGids"]))

    def _mount(
        self, sandbox: SandboxConfig, config: ContainerConfig, images: Mapping[str, Image], base: Path
    ) -> tuple[Path, list[BindMount]]:
        """The root file system, and what is mounted in it besides."""
        uid, name, image = sandbox.uid, config.container.name, images[config.image]
        own = self._own_mounts(uid, config.container)
        if not sandbox.first_user:
            (base / "rootfs").mkdir()
            mounts.overlay(image.layers, base / "upper", base / "work", base / "rootfs")
            return base / "rootfs", [*image_volumes.mount(base / "images", config.mounts, images), *own]
        place = user_namespaces.directory(self._layout.of_users(uid), sandbox.first_user) / name
        (place / "rootfs").mkdir(parents=True)
        os.chown(base / "upper", sandbox.first_user, sandbox.first_user)
        with user_namespaces.opened(self._layout.namespaces(uid) / sandbox_files.USER) as userns:
            with user_namespaces.shifted(image.layers, place / "layers", userns) as layers:
                mounts.overlay(layers, base / "upper", base / "work", place / "rootfs")
            whole = [mount for mount in config.mounts if not mount.image]
            shifted = user_namespaces.shift([*whole, *own], place / "mounts", userns)
            if len(whole) < len(config.mounts):
                of_images = [mount for mount in config.mounts if mount.image]
                shifted += self._shifted_images(of_images, images, place, userns)
        return place / "rootfs", shifted

    @staticmethod
    def _shifted_images(
        wanted: Sequence[BindMount], images: Mapping[str, Image], place: Path, userns: int
    ) -> list[BindMount]:
        layers = {name: image.layers for name, image in images.items()}
        made: list[BindMount] = []
        for number, mount in enumerate(wanted):
            with user_namespaces.shifted(layers[mount.image], place / "layers", userns) as shifted:
                own = {mount.image: replace(images[mount.image], layers=shifted)}
                made += image_volumes.mount(place / "images" / str(number), [mount], own)
        return made

    def _namespaces(self, sandbox: SandboxConfig, target: int) -> oci_spec.Namespaces:
        namespaces = self._sandboxes.namespaces(sandbox, self.programs.of(sandbox.handler))
        return replace(namespaces, pid=f"/proc/{target}/ns/pid") if target else namespaces

    def update(self, uid: str, run: Run, resources: ResourceRequirements, oci: Programs) -> None:
        """CPU and memory of a run. Raises StartError."""
        group = f"{self._layout.group(uid)}/{run.id}"
        limit, used = resources.memory_limit, cgroups.memory_in_use(group)
        if limit and used > limit:
            raise StartError("Error", f"the memory limit {limit} is below what is in use ({used} bytes)")
        document = json.dumps(oci_spec.limits_of(resources))
        done = conmon.run(oci, ["update", "--resources", "-", run.id], text=document)
        if done.returncode:
            raise StartError("Error", done.stderr.strip()[-500:] or f"{oci.runtime} update failed")
        if not resources.cpu_limit:
            cgroups.lift(group, "cpu")
        if not limit:
            cgroups.lift(group, "memory")
        run.resources = asdict(resources)
        with contextlib.suppress(OSError):
            records.save_run(self._layout.pod(uid), run)

    def _own_mounts(self, uid: str, container: Container) -> list[BindMount]:
        pod = self._layout.pod(uid)
        message = self._layout.termination_log(uid, container.name)
        message.touch(mode=0o666)
        message.chmod(0o666)
        taken = {m.path for m in container.mounts}
        own = [
            BindMount(pod / "etc/hosts", "/etc/hosts"),
            BindMount(pod / "etc/hostname", "/etc/hostname"),
            BindMount(pod / "etc/resolv.conf", "/etc/resolv.conf"),
            BindMount(pod / "shm", "/dev/shm"),
            BindMount(message, container.termination_message_path),
        ]
        return [m for m in own if m.target and m.target not in taken]

    def _write_spec(self, id: str, bundle: Path, spec: dict[str, Any]) -> None:
        file = self._layout.specs / id
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as out:
            json.dump(spec, out)
        (bundle / "config.json").symlink_to(file)

    def remove(self, uid: str, name: str, run: Run | None, oci: Programs) -> None:
        """What a run of a container left: runtime state, mount, files. Tolerant."""
        if run is not None:
            with contextlib.suppress(subprocess.SubprocessError, OSError):
                conmon.run(oci, ["delete", "--force", run.id])
            cgroups.kill_and_remove(f"{self._layout.group(uid)}/{run.id}")
            self._layout.remove_traces(run.id)
        base = self._layout.container(uid, name)
        for mounted in (base / "rootfs", *image_volumes.mounted(base / "images")):
            with contextlib.suppress(OSError):
                mounts.unmount(mounted)
        trees.remove(base)  # of the container: its upper directory
        if self._layout.of_users(uid).is_dir():
            with contextlib.suppress(OSError):
                mounts.remove_tree(self._layout.of_users(uid) / name)

    def is_alive(self, uid: str, run: Run) -> bool:
        """Its process is in its control group: the process id alone may have been reused."""
        return run.pid in cgroups.processes(f"{self._layout.group(uid)}/{run.id}")

    def oom_killed(self, uid: str, name: str) -> bool:
        """Whether conmon has seen the kernel's OOM killer in the container's newest run."""
        return (self._layout.bundle(uid, name) / "oom").exists()

    def control(self, uid: str, name: str, command: Sequence[int]) -> None:
        """A word to conmon (its ctl_fd): "2 0 0" reopens the log, "1 ROWS COLUMNS" is the terminal's size. Raises OSError."""
        fd = os.open(self._layout.bundle(uid, name) / "ctl", os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(fd, b"%d %d %d\n" % tuple(command))
        finally:
            os.close(fd)


def oom_score(wanted: int) -> int:
    """Above our own: below it would need CAP_SYS_RESOURCE, and the kernel should end a workload rather than the agent."""
    own = int(Path("/proc/self/oom_score_adj").read_text())
    return min(1000, max(own + 1, wanted))


def _stop_signal(container: Container) -> str:
    """Of a real-time signal the number: the OCI runtimes know no names for them."""
    name = container.stop_signal
    for base, first in (("SIGRTMIN", signal.SIGRTMIN), ("SIGRTMAX", signal.SIGRTMAX)):
        if name.startswith(base):
            return str(first + int(name.removeprefix(base) or 0))
    return name
