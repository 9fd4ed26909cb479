"""Module "appengine": one worker a pod, driven by the local store and by exits.

    /desired/pods      ── worker: observe, plan(), perform one action, report ──> /reported/pods
    /desired/configmaps, /desired/secrets ── volumes of running pods, containers that wait for them
    exits, probes      ── wake the worker of that pod

Desired state comes from the local store alone, so a start without the cloud is the normal path. Nothing is written unless it changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import functools
import json
import logging
import shutil
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubeedge.api import keys
from kubeedge.api.names import Object
from kubeedge.appengine import core, logs, node, probes, resolve, status, volumes
from kubeedge.appengine.core import ContainerObservation, PodObservation
from kubeedge.appengine.images.fetch import run_helper
from kubeedge.appengine.images.names import parse as parse_image
from kubeedge.appengine.images.store import ImageStore
from kubeedge.appengine.pod import Container, Pod, parse
from kubeedge.appengine.runtime.base import BindMount, ContainerConfig, Exit, FoundPod, Runtime, StartError
from kubeedge.errors import Invalid, KubeEdgeError
from kubeedge.store.model import ChangeKind, Delete, Op, Put, Store

log = logging.getLogger("kubeedge.appengine")

MAX_EVENTS = 100  # kept for the cloud; older ones go
_SYNC_VOLUMES = ("configmaps", "secrets")
_LOG_CHECK = 300.0  # seconds between two looks at the size of logs
_FINAL_GRACE = 2.0  # seconds between two tries to remove what did not go


@dataclass(frozen=True, slots=True, kw_only=True)
class AppEngineSettings:
    node: str
    address: str  # on the overlay
    state: Path
    logs: Path
    max_pods: int = 110
    log_max_bytes: int = 10 * 1024 * 1024
    insecure_registries: Sequence[str] = ()


@dataclass(slots=True)
class _Worker:
    """A pod, by uid: a pod of the same name with another uid waits until this one is gone."""

    uid: str
    namespace: str
    name: str
    desired: Pod | None
    observed: PodObservation
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    probes: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    reported: dict[str, Any] | None = None
    invalid: str = ""
    removed: bool = False


class AppEngine:
    name = "appengine"

    def __init__(
        self,
        store: Store,
        settings: AppEngineSettings,
        runtime: Runtime,
        images: ImageStore,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._settings = settings
        self._runtime = runtime
        self._images = images
        self._clock = clock
        self._workers: dict[str, _Worker] = {}
        self._objects: dict[tuple[str, str, str], Object] = {}  # configmaps and secrets of this node
        self._pulls: dict[str, asyncio.Task[None]] = {}
        self._events = 0
        self._host_ip = settings.address.split("/")[0]

    # -- the module ----------------------------------------------------------------------------------------------------

    async def run(self, ready: asyncio.Event) -> None:
        self._workers.clear()
        self._objects.clear()
        found = {pod.uid: pod for pod in await self._runtime.start(self._exited)}
        try:
            await self._preload()
            await self._report_node()
            async with asyncio.TaskGroup() as group:
                revision = await self._load(found)
                ready.set()
                group.create_task(self._follow(revision), name="desired state")
                group.create_task(self._rotate_logs(), name="log rotation")
        finally:
            await self._stop_workers()
            await self._runtime.close()

    async def remove_all(self) -> None:
        """Every pod of this node ends, for `kubeedge reset`."""
        for worker in list(self._workers.values()):
            worker.desired = None
            worker.wake.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(60):
                while self._workers:
                    await asyncio.sleep(0.05)

    async def _load(self, found: dict[str, FoundPod]) -> int:
        """What is desired now, and what is left of what was; the revision to follow from."""
        everything = await self._store.range(keys.DESIRED, keys.prefix_end(keys.DESIRED))
        reported = await self._store.range(f"{keys.REPORTED}pods/", keys.prefix_end(f"{keys.REPORTED}pods/"))
        before = {kv.key: _json(kv.value) for kv in reported.kvs}
        for kv in everything.kvs:
            resource, namespace, name = keys.split(kv.key)
            if resource in _SYNC_VOLUMES:
                self._objects[resource, namespace, name] = _json(kv.value)
        for kv in everything.kvs:
            resource, namespace, name = keys.split(kv.key)
            if resource == "pods":
                self._desire(namespace, name, _json(kv.value), found, before)
        for left in found.values():
            if left.uid not in self._workers:
                self._adopt(left)
        for key, value in before.items():
            _, namespace, name = keys.split(key)
            if value.get("uid") not in self._workers:
                await self._forget(namespace, name, str(value.get("uid", "")))
        return everything.revision

    async def _follow(self, revision: int) -> None:
        from kubeedge.api.names import Revision

        async with contextlib.aclosing(self._store.watch(keys.DESIRED, after=Revision(revision))) as batches:  # type: ignore[type-var]
            async for batch in batches:
                for change in batch.changes:
                    resource, namespace, name = keys.split(change.key)
                    obj = None if change.kind is ChangeKind.DELETE else _json(change.value)
                    if resource == "pods":
                        self._desire(namespace, name, obj, {}, {})
                    elif resource in _SYNC_VOLUMES:
                        self._object_changed(resource, namespace, name, obj)

    def _desire(
        self, namespace: str, name: str, obj: Object | None, found: dict[str, FoundPod], before: dict[str, Any]
    ) -> None:
        """A pod appeared, changed, or went."""
        uid = str((obj or {}).get("metadata", {}).get("uid", ""))
        for worker in self._workers.values():
            if (worker.namespace, worker.name) == (namespace, name) and worker.uid != uid:
                worker.desired = None
                worker.wake.set()
        if obj is None or not uid:
            return
        worker = self._workers.get(uid) or self._new_worker(uid, namespace, name, found.get(uid))
        try:
            worker.desired, worker.invalid = parse(obj), ""
            worker.observed.grace = worker.desired.grace
        except Invalid as exc:
            worker.desired, worker.invalid = None, str(exc)
        if worker.reported is None:
            worker.reported = before.get(keys.reported("pods", namespace, name), {}).get("status")
        worker.wake.set()

    def _adopt(self, left: FoundPod) -> None:
        """A pod that nobody wants any more, from before the start: it ends."""
        self._new_worker(left.uid, "", "", left)

    def _new_worker(self, uid: str, namespace: str, name: str, found: FoundPod | None) -> _Worker:
        observed = PodObservation(uid)
        if found is not None:
            observed.ip, observed.sandbox = found.ip, bool(found.ip)
            for c in found.containers:
                state = ContainerObservation(
                    c.attempt, c.id, c.pid, c.image_id, c.started_at, spec_image=c.image, ready=True, started=True
                )
                if c.exit is not None:
                    state.finished_at, state.exit_code = c.finished_at, c.exit.exit_code
                    state.reason = c.exit.reason or ("Completed" if c.exit.exit_code == 0 else "Error")
                    state.message, state.ready, state.started = c.exit.message, False, False
                observed.containers[c.name] = state
            if any(s.running for s in observed.containers.values()):
                observed.sandbox = True  # host network has no address of its own
        worker = _Worker(uid, namespace, name, None, observed)
        self._workers[uid] = worker
        worker.task = asyncio.create_task(self._work(worker), name=f"pod {namespace}/{name}")
        worker.task.add_done_callback(lambda t: self._ended(worker, t))
        return worker

    def _ended(self, worker: _Worker, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            log.error("worker of pod %s/%s failed", worker.namespace, worker.name, exc_info=error)

    async def _stop_workers(self) -> None:
        tasks = [w.task for w in self._workers.values() if w.task]
        tasks += [t for w in self._workers.values() for t in w.probes.values()]
        tasks += list(self._pulls.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- one pod -------------------------------------------------------------------------------------------------------

    async def _work(self, worker: _Worker) -> None:
        while True:
            worker.wake.clear()
            try:
                if worker.invalid:
                    await self._report_invalid(worker)
                    await worker.wake.wait()
                    continue
                predecessor = self._predecessor(worker)
                if predecessor is not None:
                    await self._wait(worker, self._clock() + 0.2)
                    continue
                action = core.plan(worker.desired, worker.observed, self._clock())
                if isinstance(action, core.Gone):
                    await self._gone(worker)
                    return
                if isinstance(action, core.Wait):
                    await self._report(worker)
                    self._keep_probes(worker)
                    await self._wait(worker, action.until)
                    continue
                await self._perform(worker, action)
            except KubeEdgeError as exc:
                log.warning("pod %s/%s: %s", worker.namespace, worker.name, exc)
                await self._wait(worker, self._clock() + _FINAL_GRACE)

    def _predecessor(self, worker: _Worker) -> _Worker | None:
        """An older pod of the same name that is still ending."""
        for other in self._workers.values():
            if other is not worker and (other.namespace, other.name) == (worker.namespace, worker.name):
                if other.desired is None and worker.desired is not None and not worker.observed.sandbox:
                    return other
        return None

    async def _wait(self, worker: _Worker, until: float | None) -> None:
        delay = None if until is None else max(0.0, until - self._clock())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await worker.wake.wait()

    async def _perform(self, worker: _Worker, action: core.Action) -> None:
        observed, now = worker.observed, self._clock()
        match action:
            case core.CreateSandbox():
                assert worker.desired is not None
                observed.started_at = observed.started_at or now
                try:
                    observed.ip = await self._runtime.create_sandbox(worker.desired)
                except StartError as exc:
                    observed.failures += 1
                    observed.retry_at = self._clock() + min(60.0, 2.0**observed.failures)
                    observed.sandbox_error = str(exc)
                    await self._event(worker, "Warning", "FailedCreatePodSandBox", str(exc))
                    return
                observed.sandbox, observed.sandbox_error, observed.failures = True, "", 0
            case core.StartContainer(container, attempt):
                assert worker.desired is not None
                await self._start(worker, worker.desired, container, attempt)
            case core.StopContainers(names, grace, why):
                for name in names:
                    self._end_probes(worker, name)
                    await self._event(worker, "Normal", "Killing", f"Stopping container {name}: {why}")
                await self._report(worker)
                await asyncio.gather(*(self._runtime.stop_container(worker.uid, name, grace) for name in names))
            case core.RemovePod():
                for name in list(worker.probes):
                    self._end_probes(worker, name)
                await self._runtime.remove_pod(worker.uid)
                await asyncio.to_thread(volumes.remove, self._volumes(worker.uid))
                if worker.namespace:
                    kept = logs.directory(self._settings.logs, worker.namespace, worker.name, worker.uid)
                    await asyncio.to_thread(shutil.rmtree, kept, True)
                observed.containers.clear()
                observed.sandbox, observed.ip = False, ""

    async def _start(self, worker: _Worker, pod: Pod, container: Container, attempt: int) -> None:
        state = worker.observed.of(container.name)
        try:
            await self._ensure_image(worker, pod, container, state)
            config = await self._configure(worker, pod, container, attempt)
            started = await self._runtime.start_container(pod, config)
        except StartError as exc:
            core.note_failure(state, reason=exc.reason, message=str(exc), now=self._clock())
            await self._event(worker, "Warning", "Failed", f"Error: {exc}", container.name)
            return
        except (resolve.Missing, Invalid) as exc:
            core.note_failure(state, reason="CreateContainerConfigError", message=str(exc), now=self._clock())
            await self._event(worker, "Warning", "Failed", f"Error: {exc}", container.name)
            return
        except OSError as exc:  # a full disk, most likely
            core.note_failure(state, reason="CreateContainerError", message=str(exc), now=self._clock())
            await self._event(worker, "Warning", "Failed", f"Error: {exc}", container.name)
            return
        core.note_start(
            state,
            attempt=attempt,
            id=started.id,
            pid=started.pid,
            image=container.image,
            image_id=started.image_id,
            now=self._clock(),
        )
        state.started = container.startup is None
        state.ready = state.started and container.readiness is None
        await self._event(worker, "Normal", "Started", f"Started container {container.name}", container.name)

    async def _ensure_image(self, worker: _Worker, pod: Pod, container: Container, state: ContainerObservation) -> None:
        try:
            name = str(parse_image(container.image))
        except Invalid as exc:
            raise StartError("InvalidImageName", str(exc)) from exc
        here = self._images.find(container.image) is not None
        if here and container.pull_policy != "Always":
            return
        if container.pull_policy == "Never":
            raise StartError("ErrImageNeverPull", f"image {container.image} is not on this node and may not be pulled")
        try:
            await self._pull(name, pod)
        except Invalid as exc:
            if here:  # offline is normal: what is here will do
                return
            raise StartError("ErrImagePull", f"failed to pull image {container.image}: {exc}") from exc
        await self._event(worker, "Normal", "Pulled", f"Successfully pulled image {container.image}", container.name)

    async def _pull(self, name: str, pod: Pod) -> None:
        """Several containers that wait for one image share one pull."""
        task = self._pulls.get(name)
        if task is None:
            request = {
                "root": str(self._images.root),
                "pull": name,
                "insecure": list(self._settings.insecure_registries),
                "auth": self._registry_auth(pod),
            }

            async def pull() -> None:
                await run_helper(request)

            task = self._pulls[name] = asyncio.create_task(pull(), name=f"pull {name}")
            task.add_done_callback(lambda _: self._pulls.pop(name, None))
        await asyncio.shield(task)

    def _registry_auth(self, pod: Pod) -> dict[str, str]:
        auth: dict[str, str] = {}
        for name in pod.pull_secrets:
            secret = self._objects.get(("secrets", pod.namespace, name))
            with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
                import base64

                document = json.loads(base64.b64decode((secret or {})["data"][".dockerconfigjson"]))
                for registry, entry in document["auths"].items():
                    text = (
                        entry.get("auth")
                        or base64.b64encode(f"{entry['username']}:{entry['password']}".encode()).decode()
                    )
                    auth[registry.removeprefix("https://").rstrip("/")] = text
        return auth

    async def _configure(self, worker: _Worker, pod: Pod, container: Container, attempt: int) -> ContainerConfig:
        env = resolve.environment(
            pod,
            container,
            self._lookup,
            pod_ip=worker.observed.ip,
            host_ip=self._host_ip,
            node=self._settings.node,
        )
        binds = await asyncio.to_thread(self._prepare_volumes, pod, container, worker.observed.ip)
        path = logs.path(self._settings.logs, pod.namespace, pod.name, pod.uid, container.name, attempt)
        return ContainerConfig(container, attempt, container.image, env, binds, path)

    def _prepare_volumes(self, pod: Pod, container: Container, ip: str) -> list[BindMount]:
        binds = []
        for mount in container.mounts:
            volume = pod.volumes[mount.name]
            directory = self._volumes(pod.uid) / volume.name
            match volume.kind:
                case "emptyDir":
                    volumes.empty_dir(directory, volume, pod.fs_group)
                case "hostPath":
                    directory = volumes.host_path(volume)
                case _:
                    self._write_volume(pod, volume.name, ip)
            binds.append(volumes.bind(pod, mount, directory))
        return binds

    def _write_volume(self, pod: Pod, name: str, ip: str) -> None:
        volume = pod.volumes[name]
        files = resolve.volume_files(
            pod, volume, self._lookup, pod_ip=ip, host_ip=self._host_ip, node=self._settings.node
        )
        volumes.write_files(
            self._volumes(pod.uid) / name, files, default_mode=volumes.default_mode(volume), group=pod.fs_group
        )

    def _object_changed(self, resource: str, namespace: str, name: str, obj: Object | None) -> None:
        """A ConfigMap or Secret: running pods get new files, waiting ones are tried again."""
        if obj is None:
            self._objects.pop((resource, namespace, name), None)
        else:
            self._objects[resource, namespace, name] = obj
        for worker in self._workers.values():
            pod = worker.desired
            if pod is None or pod.namespace != namespace:
                continue
            for volume in pod.volumes.values():
                if (
                    volume.kind in ("configMap", "secret", "projected")
                    and (self._volumes(pod.uid) / volume.name).is_dir()
                ):
                    with contextlib.suppress(KubeEdgeError, OSError):
                        self._write_volume(pod, volume.name, worker.observed.ip)
            for state in worker.observed.containers.values():
                if state.waiting_reason == "CreateContainerConfigError":
                    state.retry_at = 0.0
            worker.wake.set()

    def _lookup(self, resource: str, namespace: str, name: str) -> Object | None:
        return self._objects.get((resource, namespace, name))

    def _volumes(self, uid: str) -> Path:
        return self._settings.state / "volumes" / uid

    # -- what happens to it --------------------------------------------------------------------------------------------

    def _exited(self, exit: Exit) -> None:
        worker = self._workers.get(exit.uid)
        state = worker.observed.containers.get(exit.container) if worker else None
        if worker is None or state is None or state.id != exit.id or state.exited:
            return
        self._end_probes(worker, exit.container)
        core.note_exit(state, exit_code=exit.exit_code, reason=exit.reason, message=exit.message, now=self._clock())
        worker.wake.set()

    def _keep_probes(self, worker: _Worker) -> None:
        """Probes run for containers that run and have any."""
        if worker.desired is None:
            return
        for container in worker.desired.containers:
            state = worker.observed.of(container.name)
            has = container.liveness or container.readiness or container.startup
            if has and state.running and container.name not in worker.probes:
                worker.probes[container.name] = asyncio.create_task(
                    self._probe(worker, container, state), name=f"probes of {worker.name}/{container.name}"
                )

    async def _probe(self, worker: _Worker, container: Container, state: ContainerObservation) -> None:
        loop = asyncio.get_running_loop()

        async def exec(command: list[str], timeout: float) -> Any:
            return await self._runtime.exec(worker.uid, container.name, command, timeout)

        def changed(message: str) -> None:
            worker.wake.set()
            if message:
                task = loop.create_task(self._event(worker, "Warning", "Unhealthy", message, container.name))
                task.add_done_callback(lambda t: t.exception() if not t.cancelled() else None)

        pod = worker.desired
        ip = self._host_ip if pod is not None and pod.host_network else worker.observed.ip
        await probes.watch(container, state, ip, exec, changed)

    def _end_probes(self, worker: _Worker, name: str) -> None:
        if task := worker.probes.pop(name, None):
            task.cancel()

    # -- reports -------------------------------------------------------------------------------------------------------

    async def _report(self, worker: _Worker) -> None:
        pod = worker.desired
        if pod is None:
            return
        now = self._clock()
        current = status.pod_status(pod, worker.observed, host_ip=self._host_ip, previous=worker.reported, now=now)
        await self._write_status(worker, current)

    async def _report_invalid(self, worker: _Worker) -> None:
        current = status.failed_status("InvalidPod", worker.invalid, host_ip=self._host_ip, now=self._clock())
        if worker.reported is None or worker.reported.get("message") != worker.invalid:
            await self._write_status(worker, current)
            await self._event(worker, "Warning", "InvalidPod", worker.invalid)

    async def _write_status(self, worker: _Worker, current: dict[str, Any]) -> None:
        if current == worker.reported:
            return
        worker.reported = current
        value = _canonical({"uid": worker.uid, "status": current})
        await self._put(keys.reported("pods", worker.namespace, worker.name), value)

    async def _gone(self, worker: _Worker) -> None:
        """Nothing is left of it: say so, once, and forget it."""
        self._workers.pop(worker.uid, None)
        if worker.namespace:
            await self._forget(worker.namespace, worker.name, worker.uid)

    async def _forget(self, namespace: str, name: str, uid: str) -> None:
        """The cloud is told while the pod is still desired (it is being deleted); after that there is nothing to tell."""
        key = keys.reported("pods", namespace, name)
        wanted = await self._store.get(keys.desired("pods", namespace, name))
        if wanted is not None and _json(wanted.value).get("metadata", {}).get("uid") == uid:
            await self._put(key, _canonical({"gone": True, "uid": uid}))
            return
        kept = await self._store.get(key)
        if kept is not None and _json(kept.value).get("uid") == uid:
            await self._store.delete(key)

    async def _report_node(self) -> None:
        current = node.status(
            node=self._settings.node,
            address=self._settings.address,
            runtime_version=self._runtime.version,
            max_pods=self._settings.max_pods,
            state=self._settings.state,
        )
        await self._put(keys.reported("nodes", "", self._settings.node), _canonical({"status": current}))

    async def _put(self, key: str, value: bytes) -> None:
        """Flash is dear: what is there already is not written again."""
        kept = await self._store.get(key)
        if kept is None or kept.value != value:
            await self._store.put(key, value)

    async def _event(self, worker: _Worker, kind: str, reason: str, message: str, container: str = "") -> None:
        """A Kubernetes event for `kubectl describe`; a full disk must not stop a pod for it."""
        if not worker.namespace:
            return
        at = datetime.datetime.fromtimestamp(self._clock(), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        name = f"{worker.name}.{uuid.uuid4().hex[:16]}"
        event: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": worker.namespace},
            "involvedObject": {
                "kind": "Pod",
                "apiVersion": "v1",
                "namespace": worker.namespace,
                "name": worker.name,
                "uid": worker.uid,
                **({"fieldPath": f"spec.containers{{{container}}}"} if container else {}),
            },
            "type": kind,
            "reason": reason,
            "message": message[:1024],
            "source": {"component": "kubelet", "host": self._settings.node},
            "firstTimestamp": at,
            "lastTimestamp": at,
            "count": 1,
        }
        with contextlib.suppress(KubeEdgeError):
            ops: list[Op] = [Put(keys.reported("events", worker.namespace, name), _canonical(event))]
            self._events += 1
            if self._events % 10 == 0:
                ops += await self._old_events()
            await self._store.txn((), ops)

    async def _old_events(self) -> list[Op]:
        prefix = f"{keys.REPORTED}events/"
        kept = (await self._store.range(prefix, keys.prefix_end(prefix), keys_only=True)).kvs
        oldest = sorted(kept, key=lambda kv: kv.mod_revision)[: max(0, len(kept) - MAX_EVENTS)]
        return [Delete(kv.key) for kv in oldest]

    # -- around --------------------------------------------------------------------------------------------------------

    async def _preload(self) -> None:
        """Archives that were put beside the agent."""
        for archive in sorted(self._images.preload.glob("*.tar")):
            if self._images.imported(archive):
                continue
            try:
                names = await run_helper({"root": str(self._images.root), "archive": str(archive)})
                self._images.mark_imported(archive)
                log.info("imported archive=%s images=%s", archive.name, ",".join(names))
            except (Invalid, OSError) as exc:
                log.error("cannot import %s: %s", archive, exc)

    async def import_image(self, archive: str, names: Sequence[str]) -> list[str]:
        return await run_helper({"root": str(self._images.root), "archive": archive, "names": list(names)})

    def images(self) -> list[str]:
        return self._images.names()

    async def _rotate_logs(self) -> None:
        while True:
            await asyncio.sleep(_LOG_CHECK)
            for worker in list(self._workers.values()):
                for name, state in worker.observed.containers.items():
                    if state.running:
                        path = logs.path(
                            self._settings.logs, worker.namespace, worker.name, worker.uid, name, state.attempt
                        )
                        await asyncio.to_thread(self._rotate, path, worker.uid, name)

    def _rotate(self, path: Path, uid: str, name: str) -> None:
        control = self._settings.state / "pods" / uid / "c" / name / "bundle" / "ctl"
        with contextlib.suppress(OSError):
            logs.rotate(path, self._settings.log_max_bytes, lambda: _write_control(control))

    def pod_list(self) -> list[Object]:
        return [
            {"metadata": {"namespace": w.namespace, "name": w.name, "uid": w.uid}, "status": w.reported or {}}
            for w in self._workers.values()
            if w.namespace
        ]

    def since(self, seconds: str | None, stamp: str | None) -> float | None:
        """Raises ValueError."""
        if seconds is not None:
            return self._clock() - int(seconds)
        if stamp is not None:
            return datetime.datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()
        return None

    def find_log(
        self, namespace: str, name: str, container: str, *, previous: bool
    ) -> tuple[Path, Callable[[], bool]] | str:
        """The file and whether its container still runs; or what is wrong, in the kubelet's words."""
        for worker in self._workers.values():
            if (worker.namespace, worker.name) != (namespace, name):
                continue
            pod = worker.desired
            names = [c.name for c in pod.all_containers] if pod else list(worker.observed.containers)
            if container not in names:
                return f"container {container} is not valid for pod {name}"
            state = worker.observed.of(container)
            attempt = state.attempt - 1 if previous else state.attempt
            if attempt < 0:
                if previous:
                    return f'previous terminated container "{container}" in pod "{name}" not found'
                reason = state.waiting_reason or "ContainerCreating"
                return f'container "{container}" in pod "{name}" is waiting to start: {reason}'
            path = logs.path(self._settings.logs, namespace, name, worker.uid, container, attempt)
            return path, functools.partial(_still_writes, state, previous)
        return f'pod "{name}" is not on this node'


def _still_writes(state: ContainerObservation, previous: bool) -> bool:
    return state.running and not previous


def _write_control(path: Path) -> None:
    """Tell conmon to open its log anew (code 2 on its control fifo)."""
    import os

    fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    try:
        os.write(fd, b"2 0 0\n")
    finally:
        os.close(fd)


def _json(value: bytes) -> dict[str, Any]:
    try:
        obj = json.loads(value)
    except ValueError:
        return {}
    return obj if isinstance(obj, dict) else {}


def _canonical(obj: dict[str, Any]) -> bytes:
    return json.dumps(obj, sort_keys=True, separators=(",", ":")).encode()
