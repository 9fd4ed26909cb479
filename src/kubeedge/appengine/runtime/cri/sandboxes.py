"""The sandboxes of pods behind a CRI socket, their control groups and the files of /etc that their containers get."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path

from kubeedge.api.names import Object
from kubeedge.appengine.runtime import cni, sandbox_files
from kubeedge.appengine.runtime.base import SandboxConfig, SandboxStatus, StartError
from kubeedge.appengine.runtime.cri import configs, found
from kubeedge.appengine.runtime.cri.client import CriClient
from kubeedge.appengine.runtime.cri.features import CriFeatures
from kubeedge.appengine.runtime.cri.own import OwnObjects
from kubeedge.appengine.runtime.cri.settings import CriSettings
from kubeedge.appengine.runtime.pod_groups import PodGroups
from kubeedge.kit import trees
from kubeedge.kit.grpc import NOT_FOUND, GrpcError

log = logging.getLogger("kubeedge.appengine.runtime")


class CriSandboxes:
    """By the uid of the pod. `features` are those of the runtime, once it has answered."""

    def __init__(self, settings: CriSettings, client: CriClient, own: OwnObjects, files: Path) -> None:
        self._settings = settings
        self._client = client
        self._own = own
        self._files = files
        self._sandboxes: dict[str, tuple[str, SandboxStatus]] = {}  # uid -> id, what is known of it
        self._groups = PodGroups(settings.cgroup_prefix)
        self._parents: dict[str, str] = {}  # uid -> control group
        self.features = CriFeatures()

    def __contains__(self, uid: str) -> bool:
        return uid in self._sandboxes

    def id_of(self, uid: str) -> str:
        """The runtime's id; "": the pod has no sandbox."""
        return self._sandboxes[uid][0] if uid in self._sandboxes else ""

    def clear(self) -> None:
        """Forget all sandboxes, before they are read from the runtime again."""
        self._sandboxes.clear()
        self._parents.clear()
        self._groups.clear()

    def parent(self, uid: str) -> str:
        """The control group of a pod by the name that the runtime's driver wants."""
        return self._parents.get(uid, "")

    def known(self, uid: str, id: str, status: Object) -> SandboxStatus:
        """Keep the status of a sandbox from a PodSandboxStatus message, and return it."""
        is_ready = status.get("state", found.READY) == found.READY
        is_on_node = configs.HOST_NETWORK in status.get("annotations", {})
        ip, ipv6 = found.addresses(status) if is_ready and not is_on_node else ("", "")
        if uid not in self._parents:
            self._take_up_group(uid, str(status.get("annotations", {}).get(configs.GROUP, "")))
        known = SandboxStatus(uid, ip, is_ready, str(status.get("runtime_handler", "")), ipv6)
        self._sandboxes[uid] = id, known
        return known

    async def recover(self, uid: str, id: str) -> SandboxStatus:
        """When the agent starts. One with an address that is not this node's any more, which has joined again, is stopped. Raises GrpcError."""
        known = self.known(uid, id, await self._own.sandbox(id))
        network = cni.Network(self._settings.bridge, self._settings.pod_cidrs, self._settings.root / "cni", ())
        if self._settings.cni_conf is None or network.has(known.ip):
            return known
        log.warning("pod=%s had address %s: it gets another", uid, known.ip)
        await self._own.end("StopPodSandbox", pod_sandbox_id=id)
        return self.known(uid, id, await self._own.sandbox(id))

    async def create(self, config: SandboxConfig) -> SandboxStatus:
        """RunPodSandbox, and the files of /etc that its containers get. Raises StartError."""
        try:
            return await self._create(config)
        except GrpcError as exc:
            raise StartError("FailedCreatePodSandBox", str(exc)) from exc

    async def _create(self, config: SandboxConfig) -> SandboxStatus:
        if len(self.features.handlers) > 1 and config.handler not in self.features.handlers:
            raise StartError("FailedCreatePodSandBox", f'the runtime has no handler "{config.handler}"')
        if config.first_user and config.handler not in self.features.users:
            message = f"{self.features.version} has no user namespaces: hostUsers: false cannot be"
            raise StartError("FailedCreatePodSandBox", message)
        if config.strict_groups and not self.features.strict_groups:  # it would be passed over in silence
            raise StartError(
                "FailedCreatePodSandBox", f"{self.features.version} has no supplementalGroupsPolicy Strict"
            )
        attempt = 0
        for old in await self._own.sandboxes():
            if found.label(old, configs.POD_UID) == config.uid:
                attempt = max(attempt, int(old.get("metadata", {}).get("attempt", 0)) + 1)
                await self._own.remove_sandbox(str(old["id"]))
        group = await asyncio.to_thread(self._prepare, config)
        made = configs.sandbox(config, node=self._settings.node, attempt=attempt, cgroup_parent=group)
        answer = await self._client.call("RunPodSandbox", config=made, runtime_handler=config.handler)
        id = str(answer.get("pod_sandbox_id", ""))
        known = self.known(config.uid, id, await self._own.sandbox(id))
        await asyncio.to_thread(
            sandbox_files.write_etc, self._files / config.uid / "etc", config, known.ips, self._settings.dns
        )
        return known

    def _prepare(self, config: SandboxConfig) -> str:
        """Blocking. Directories, and the control group of the pod, by the name that the runtime's driver wants."""
        if config.log_directory is not None:
            config.log_directory.mkdir(parents=True, exist_ok=True)
        uid = config.uid
        group = self._groups.choose(uid, config.qos)
        if self.features.systemd:  # which makes the groups itself, by the runtime's resources
            self._parents[uid] = _slice(group)
            return self._parents[uid]
        with contextlib.suppress(OSError):  # a machine that does not count processes
            self._groups.create(uid, config.resources)
        self._parents[uid] = f"/{group}"
        return self._parents[uid]

    def _take_up_group(self, uid: str, parent: str) -> None:
        """Of a sandbox that was there when the agent started. Annotations are the user's, too: only a group that could be its own counts."""
        if not self.features.systemd:
            self._groups.restore(uid, parent.strip("/"))
            self._parents[uid] = f"/{self._groups.of(uid)}"
            return
        found = (group for group in self._groups.possible(uid) if _slice(group) == parent)
        self._parents[uid] = _slice(next(found, self._groups.of(uid)))

    def prepare(self) -> None:
        """Blocking. The groups of all pods, once the runtime has said which driver of them it has."""
        if not self.features.systemd:
            self._groups.prepare(self._settings.bounds)

    def update(self, config: SandboxConfig) -> None:
        """Blocking. The resources of a pod as a whole."""
        if config.resources is not None and not self.features.systemd:
            self._groups.update(config.uid, config.resources)

    async def status(self, uid: str) -> SandboxStatus | None:
        """Asked of the runtime. Raises OSError when it does not answer."""
        if uid not in self._sandboxes:
            return None
        id, _ = self._sandboxes[uid]
        try:
            status = await self._own.sandbox(id)
        except GrpcError as exc:
            if exc.code == NOT_FOUND:
                self._sandboxes.pop(uid, None)
                return None
            raise OSError(str(exc)) from exc
        return self.known(uid, id, status)

    async def remove(self, uid: str) -> None:
        """All its sandboxes, also those of earlier attempts, with what is in them. Raises OSError."""
        self._sandboxes.pop(uid, None)
        problem: GrpcError | None = None
        try:
            for sandbox in await self._own.sandboxes():
                if found.label(sandbox, configs.POD_UID) == uid:
                    await self._own.remove_sandbox(str(sandbox["id"]))
        except GrpcError as exc:
            problem = exc
        if problem is not None:
            raise OSError(str(problem)) from problem
        self._parents.pop(uid, None)
        await asyncio.to_thread(self._groups.remove, uid)
        await asyncio.to_thread(trees.remove, self._files / uid)


def _slice(group: str) -> str:
    """systemd's name of a control group: each "-" is a level below (systemd.slice(5)), but for that of the prefix."""
    prefix, _, rest = group.partition("/")
    return f"{prefix}-{rest.replace('-', '_').replace('/', '-')}.slice"
