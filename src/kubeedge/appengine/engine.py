"""Module "appengine": one worker a pod, driven by the local store and by exits.

    /desired/pods      ── worker: observe, plan(), perform one action, report ──> /reported/pods
    /desired/configmaps, /desired/secrets ── volumes of running pods, containers that wait for them
    exits, probes      ── wake the worker of that pod

Desired state comes from the local store alone, so a start without the cloud is the normal path. Nothing is written unless it changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from kubeedge.api import keys
from kubeedge.api.names import Object, Revision
from kubeedge.api.pod import Container, Pod, Unsupported, parse
from kubeedge.appengine import core, logs, node, probes, resolve, status
from kubeedge.appengine.core import ContainerObservation, PodObservation
from kubeedge.appengine.events import EventRecorder
from kubeedge.appengine.images.fetch import run_helper
from kubeedge.appengine.images.store import ImageStore
from kubeedge.appengine.prepare import Preparer
from kubeedge.appengine.pulls import ImagePulls, registry_auth
from kubeedge.appengine.runtime.base import ExecResult, Exit, FoundPod, Runtime, StartError
from kubeedge.appengine.worker import AppEngineSettings, Worker, take_up
from kubeedge.errors import Invalid, KubeEdgeError
from kubeedge.store.model import ChangeKind, Store

__all__ = ["AppEngine", "AppEngineSettings"]

log = logging.getLogger("kubeedge.appengine")

_SYNC_VOLUMES = ("configmaps", "secrets")
_RETRY = 2.0  # seconds after something failed that has no back-off of its own
_HOOK_TIMEOUT = 300.0  # seconds for a postStart command
_LOOK_AT_VOLUMES = 10.0  # seconds
_AFTER_HOOK = 2.0  # seconds that a container has for SIGTERM, at least, after its preStop command


class AppEngine:
    name = "appengine"

    def __init__(
        self,
        store: Store,
        settings: AppEngineSettings,
        runtime: Runtime,
        images: ImageStore,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """What is waited for goes by `clock`, what people read by `wall`."""
        self._store = store
        self._settings = settings
        self._runtime = runtime
        self._images = images
        self._clock, self._wall = clock, wall
        self._workers: dict[str, Worker] = {}
        self._pulls = ImagePulls(images, settings.insecure_registries)
        self._events = EventRecorder(store, settings.node, wall)
        self._host_ip = settings.address.split("/")[0]
        self._prepare = Preparer(
            node=settings.node, host_ip=self._host_ip, state=settings.state, log_root=settings.logs
        )

    # -- the module ----------------------------------------------------------------------------------------------------

    async def run(self, ready: asyncio.Event) -> None:
        self._workers.clear()
        self._prepare.clear()
        found = {pod.uid: pod for pod in await self._runtime.start(self._exited)}
        try:
            await self._preload()
            await self._report_node()
            async with asyncio.TaskGroup() as group:
                revision = await self._load(found)
                ready.set()
                group.create_task(self._follow(revision), name="desired state")
                group.create_task(self._rotate_logs(), name="log rotation")
                group.create_task(self._watch_volumes(), name="size of volumes")
        finally:
            await self._stop_workers()
            await self._runtime.close()

    async def remove_all(self) -> None:
        """Every pod of this node ends, for `kubeedge reset`."""
        for worker in list(self._workers.values()):
            worker.end()
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
                self._prepare.keep(resource, namespace, name, _json(kv.value))
        for kv in everything.kvs:
            resource, namespace, name = keys.split(kv.key)
            if resource == "pods":
                self._desire(namespace, name, _json(kv.value), found, before)
        for left in found.values():
            if left.uid not in self._workers:
                self._adopt(left)
        await asyncio.to_thread(self._prepare.sweep, frozenset(self._workers))
        for key, value in before.items():
            _, namespace, name = keys.split(key)
            if value.get("uid") not in self._workers:
                await self._forget(namespace, name, str(value.get("uid", "")))
        return everything.revision

    async def _follow(self, revision: int) -> None:
        async with contextlib.aclosing(self._store.watch(keys.DESIRED, after=Revision(revision))) as batches:
            async for batch in batches:
                for change in batch.changes:
                    resource, namespace, name = keys.split(change.key)
                    obj = None if change.kind is ChangeKind.DELETE else _json(change.value)
                    if resource == "pods":
                        self._desire(namespace, name, obj, {}, {})
                        if obj is None and not self._named(namespace, name):
                            await self._forget(namespace, name, "")
                    elif resource in _SYNC_VOLUMES:
                        self._object_changed(resource, namespace, name, obj)

    def _desire(
        self, namespace: str, name: str, obj: Object | None, found: dict[str, FoundPod], before: dict[str, Any]
    ) -> None:
        """A pod appeared, changed, or went."""
        metadata = (obj or {}).get("metadata")
        metadata = metadata if isinstance(metadata, dict) else {}
        uid = str(metadata.get("uid") or "")
        for worker in self._named(namespace, name):
            if worker.uid != uid:
                worker.end()
        if obj is None:
            return
        if not uid:
            log.error("pod %s/%s has no uid", namespace, name)
            return
        worker = self._workers.get(uid) or self._new_worker(uid, namespace, name, found.get(uid))
        told = worker.desired
        try:
            worker.desired = worker.last = parse(obj)
            worker.invalid = ""
            worker.observed.grace = worker.desired.grace
            if worker.desired.deleting:
                worker.ending.set()
        except Invalid as exc:
            if metadata.get("deletionTimestamp"):
                worker.end()
            elif worker.desired is None:
                worker.invalid, worker.unsupported = str(exc), isinstance(exc, Unsupported)
            else:  # it runs, and goes on as it was
                log.error("pod %s/%s was changed to something impossible: %s", namespace, name, exc)
        if _told_apart(told, worker.desired):
            worker.stale_volumes = True
        earlier = before.get(keys.reported("pods", namespace, name), {})
        if worker.reported is None and earlier.get("uid") == uid and isinstance(earlier.get("status"), dict):
            self._take_up(worker, earlier["status"], known=uid in found)
        worker.wake.set()

    def _take_up(self, worker: Worker, earlier: dict[str, Any], *, known: bool) -> None:
        """What was reported before the agent restarted still holds."""
        worker.reported = earlier
        if earlier.get("reason") == "Evicted":
            worker.observed.evicted = str(earlier.get("message") or "Evicted")
        if not known and earlier.get("phase") in ("Succeeded", "Failed"):
            worker.observed.final = earlier["phase"]
        kept = [*(earlier.get("initContainerStatuses") or ()), *(earlier.get("containerStatuses") or ())]
        for entry in kept:
            state = worker.observed.containers.get(entry.get("name", ""))
            if state is not None and state.running and entry.get("containerID") == f"embedded://{state.id}":
                state.started, state.ready = bool(entry.get("started")), bool(entry.get("ready"))

    def _named(self, namespace: str, name: str) -> list[Worker]:
        return [w for w in self._workers.values() if (w.namespace, w.name) == (namespace, name)]

    def _adopt(self, left: FoundPod) -> None:
        """A pod that nobody wants any more, from before the start: it ends."""
        self._new_worker(left.uid, left.namespace, left.name, left).end()

    def _new_worker(self, uid: str, namespace: str, name: str, found: FoundPod | None) -> Worker:
        observed = PodObservation(uid) if found is None else take_up(found)
        worker = Worker(uid, namespace, name, None, observed)
        self._workers[uid] = worker
        worker.task = asyncio.create_task(self._work(worker), name=f"pod {namespace}/{name}")
        worker.task.add_done_callback(lambda t: self._ended(worker, t))
        return worker

    def _ended(self, worker: Worker, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            log.error("worker of pod %s/%s failed", worker.namespace, worker.name, exc_info=error)

    async def _stop_workers(self) -> None:
        tasks = [w.task for w in self._workers.values() if w.task]
        tasks += [t for w in self._workers.values() for t in w.probes.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._pulls.close()

    # -- one pod -------------------------------------------------------------------------------------------------------

    async def _work(self, worker: Worker) -> None:
        while True:
            worker.wake.clear()
            try:
                if worker.invalid:
                    await self._report_invalid(worker)
                    await worker.wake.wait()
                    continue
                if self._predecessor(worker):
                    await worker.wake.wait()  # until that one is gone
                    continue
                if worker.stale_volumes:
                    worker.stale_volumes = False
                    if worker.desired:
                        await asyncio.to_thread(self._prepare.refresh, worker.desired, worker.observed.ip)
                action = core.plan(worker.desired, worker.observed, self._clock())
                if isinstance(action, core.ReportRemoved):
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
                await self._wait(worker, self._clock() + _RETRY)
            except (
                Exception,
                asyncio.CancelledError,
            ):  # whatever it is, this pod is tried again, and the others do not notice
                if (task := asyncio.current_task()) is not None and task.cancelling():
                    raise
                log.exception("pod %s/%s failed", worker.namespace, worker.name)
                await self._wait(worker, self._clock() + _RETRY)

    def _predecessor(self, worker: Worker) -> bool:
        """An older pod of the same name is still ending."""
        if worker.desired is None or worker.observed.sandbox:
            return False
        return any(w is not worker and w.desired is None for w in self._named(worker.namespace, worker.name))

    async def _wait(self, worker: Worker, until: float | None) -> None:
        delay = None if until is None else max(0.0, until - self._clock())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await worker.wake.wait()

    async def _perform(self, worker: Worker, action: core.Action) -> None:
        observed = worker.observed
        match action:
            case core.CreateSandbox():
                assert worker.desired is not None
                observed.started_at = observed.started_at or self._wall()
                try:
                    observed.ip = await self._runtime.create_sandbox(worker.desired)
                except (StartError, OSError) as exc:
                    observed.failures += 1
                    observed.retry_at = self._clock() + core.SANDBOX_BACKOFF.delay(observed.failures)
                    observed.sandbox_error = str(exc)
                    await self._event(worker, "Warning", "FailedCreatePodSandBox", str(exc))
                    return
                observed.sandbox, observed.sandbox_error, observed.failures = True, "", 0
                if worker.desired.unsupported:
                    fields = ", ".join(worker.desired.unsupported)
                    await self._event(worker, "Warning", "UnsupportedFields", f"Without effect on this node: {fields}")
            case core.StartContainer(container, attempt):
                assert worker.desired is not None
                await self._start(worker, worker.desired, container, attempt)
            case core.StopContainers(names, grace, why, replacing):
                for name in names:
                    self._end_probes(worker, name)
                    observed.of(name).replacing = replacing
                    await self._event(worker, "Normal", "Killing", f"Stopping container {name}: {why}")
                await self._report(worker)
                await self._stop(worker, names, grace)
            case core.RemovePod():
                for name in list(worker.probes):
                    self._end_probes(worker, name)
                self._note_last_status(worker)
                await self._runtime.remove_pod(worker.uid)
                await asyncio.to_thread(self._prepare.remove, worker.namespace, worker.name, worker.uid)
                observed.containers.clear()
                observed.sandbox, observed.ip = False, ""

    async def _start(self, worker: Worker, pod: Pod, container: Container, attempt: int) -> None:
        state = worker.observed.of(container.name)
        try:
            await self._unless_ending(worker, self._ensure_image(worker, pod, container))
            config = await self._prepare.configure(pod, container, attempt, worker.observed.ip)
            started = await self._runtime.start_container(pod, config)
        except Exception as exc:  # whatever it is, it must be seen in the status
            if worker.ending.is_set():
                return
            reason = "CreateContainerError"  # a full disk, most likely
            if isinstance(exc, StartError):
                reason = exc.reason
            elif isinstance(exc, resolve.Missing | Invalid):
                reason = "CreateContainerConfigError"
            elif not isinstance(exc, KubeEdgeError | OSError):
                log.exception("container %s of pod %s/%s", container.name, pod.namespace, pod.name)
            core.note_failure(state, reason=reason, message=str(exc), now=self._clock())
            await self._event(worker, "Warning", "Failed", f"Error: {exc}", container.name)
            return
        core.note_start(
            state,
            attempt=attempt,
            id=started.id,
            pid=started.pid,
            image=container.image,
            image_id=started.image_id,
            wall=self._wall(),
            now=self._clock(),
        )
        state.started = container.startup is None
        state.ready = state.started and container.readiness is None
        await self._event(worker, "Normal", "Started", f"Started container {container.name}", container.name)
        if container.post_start:
            await self._unless_ending(worker, self._post_start(worker, container, state))

    async def _unless_ending(self, worker: Worker, work: Coroutine[Any, Any, None]) -> None:
        """What may take long is given up when the pod is deleted meanwhile."""
        doing, ending = asyncio.create_task(work), asyncio.create_task(worker.ending.wait())
        try:
            await asyncio.wait((doing, ending), return_when=asyncio.FIRST_COMPLETED)
        finally:
            ending.cancel()
            doing.cancel()
            await asyncio.gather(doing, ending, return_exceptions=True)
        if doing.cancelled():
            raise StartError("ContainerCreating", "the pod is deleted")
        doing.result()

    async def _post_start(self, worker: Worker, container: Container, state: ContainerObservation) -> None:
        result = await self._runtime.exec(worker.uid, container.name, container.post_start, _HOOK_TIMEOUT)
        if result.exit_code and state.running:
            state.unhealthy = f"postStart hook failed: {_said(result)}"
            await self._event(worker, "Warning", "FailedPostStartHook", state.unhealthy, container.name)

    async def _stop(self, worker: Worker, names: Sequence[str], grace: float) -> None:
        """Together. A deletion that becomes more urgent meanwhile shortens what is left."""
        hooked: set[str] = set()
        while True:
            stopping = asyncio.create_task(self._stop_all(worker, names, grace, hooked))
            hurry = asyncio.create_task(self._hurry(worker, grace))
            try:
                await asyncio.wait((stopping, hurry), return_when=asyncio.FIRST_COMPLETED)
            finally:
                hurry.cancel()
                stopping.cancel()
                await asyncio.gather(stopping, hurry, return_exceptions=True)
            if not stopping.cancelled():
                return stopping.result()
            grace = worker.desired.grace if worker.desired else grace

    async def _hurry(self, worker: Worker, grace: float) -> None:
        while not (worker.desired and worker.desired.deleting and worker.desired.grace < grace):
            worker.wake.clear()  # everything else is looked at after this action
            await worker.wake.wait()

    async def _stop_all(self, worker: Worker, names: Sequence[str], grace: float, hooked: set[str]) -> None:
        """A task for it, not a gather(): that one is not cancelled() when it was cancelled, and has the cancellation for a result."""
        tasks = [asyncio.create_task(self._stop_one(worker, name, grace, hooked)) for name in names]
        try:
            await asyncio.wait(tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks:
            task.result()

    async def _stop_one(self, worker: Worker, name: str, grace: float, hooked: set[str]) -> None:
        begun = time.monotonic()
        pod = worker.desired or worker.last
        container = next((c for c in pod.containers if c.name == name), None) if pod else None
        if container and container.pre_stop and grace > 0 and name not in hooked:
            hooked.add(name)
            result = await self._runtime.exec(worker.uid, name, container.pre_stop, grace)
            if result.exit_code:
                await self._event(worker, "Warning", "FailedPreStopHook", f"preStop hook failed: {_said(result)}", name)
            grace = max(_AFTER_HOOK, grace - (time.monotonic() - begun))
        await self._runtime.stop_container(worker.uid, name, grace)

    async def _ensure_image(self, worker: Worker, pod: Pod, container: Container) -> None:
        async def pulling() -> None:
            await self._report(worker)
            await self._event(worker, "Normal", "Pulling", f"Pulling image {container.image}", container.name)

        auth = registry_auth(self._prepare.find("secrets", pod.namespace, name) for name in pod.pull_secrets)
        if await self._pulls.ensure(container.image, container.pull_policy, auth, pulling):
            await self._event(worker, "Normal", "Pulled", f"Pulled image {container.image}", container.name)

    def _object_changed(self, resource: str, namespace: str, name: str, obj: Object | None) -> None:
        """A ConfigMap or Secret: running pods get new files, waiting ones are tried again."""
        self._prepare.keep(resource, namespace, name, obj)
        for worker in self._workers.values():
            if worker.desired is None or worker.namespace != namespace:
                continue
            for state in worker.observed.containers.values():
                if state.waiting_reason == "CreateContainerConfigError":
                    state.retry_at = 0.0
            worker.stale_volumes = True
            worker.wake.set()

    # -- what happens to it --------------------------------------------------------------------------------------------

    def _exited(self, exit: Exit) -> None:
        worker = self._workers.get(exit.uid)
        state = worker.observed.containers.get(exit.container) if worker else None
        if worker is None or state is None or state.id != exit.id or state.exited:
            return
        self._end_probes(worker, exit.container)
        message = exit.message or (self._last_words(worker, exit.container, state) if exit.exit_code else "")
        core.note_exit(state, exit.exit_code, exit.reason, message, wall=self._wall(), now=self._clock())
        worker.wake.set()

    def _last_words(self, worker: Worker, name: str, state: ContainerObservation) -> str:
        """terminationMessagePolicy FallbackToLogsOnError."""
        pod = worker.desired or worker.last
        if pod is None or not any(c.name == name and c.log_is_message for c in pod.all_containers):
            return ""
        path = logs.path(self._settings.logs, worker.namespace, worker.name, worker.uid, name, state.attempt)
        return logs.last_words(path)

    def _keep_probes(self, worker: Worker) -> None:
        """Probes run for containers that run and have any."""
        if worker.desired is None:
            return
        for container in (*worker.desired.sidecars, *worker.desired.containers):
            state = worker.observed.of(container.name)
            has = container.liveness or container.readiness or container.startup
            if has and state.running and container.name not in worker.probes:
                worker.probes[container.name] = asyncio.create_task(
                    self._probe(worker, container, state), name=f"probes of {worker.name}/{container.name}"
                )

    async def _probe(self, worker: Worker, container: Container, state: ContainerObservation) -> None:
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

    def _end_probes(self, worker: Worker, name: str) -> None:
        if task := worker.probes.pop(name, None):
            task.cancel()

    # -- reports -------------------------------------------------------------------------------------------------------

    async def _report(self, worker: Worker) -> None:
        pod = worker.desired
        if pod is None or worker.observed.final:
            return
        now = self._wall()
        current = status.pod_status(pod, worker.observed, host_ip=self._host_ip, previous=worker.reported, now=now)
        await self._write_status(worker, current)

    def _note_last_status(self, worker: Worker) -> None:
        pod = worker.desired
        if pod is not None and pod.has_finalizers and worker.observed.containers:
            worker.last_status = status.pod_status(
                pod, worker.observed, host_ip=self._host_ip, previous=worker.reported, now=self._wall(), over=True
            )

    async def _report_invalid(self, worker: Worker) -> None:
        reason = "UnsupportedPod" if worker.unsupported else "InvalidPod"
        say = status.waiting_status if worker.unsupported else status.failed_status
        current = say(reason, worker.invalid, host_ip=self._host_ip, now=self._wall())
        if worker.reported is None or worker.reported.get("message") != worker.invalid:
            await self._write_status(worker, current)
            await self._event(worker, "Warning", reason, worker.invalid)

    async def _write_status(self, worker: Worker, current: dict[str, Any]) -> None:
        if current == worker.reported:
            return
        value = _canonical({"uid": worker.uid, "status": current})
        await self._put(keys.reported("pods", worker.namespace, worker.name), value)
        worker.reported = current

    async def _gone(self, worker: Worker) -> None:
        """Nothing is left of it: say so, once, and forget it."""
        if worker.namespace:
            await self._forget(worker.namespace, worker.name, worker.uid, worker.last_status)
        self._workers.pop(worker.uid, None)
        for other in self._named(worker.namespace, worker.name):
            other.wake.set()

    async def _forget(self, namespace: str, name: str, uid: str, last_status: Object | None = None) -> None:
        """The cloud is told while the pod is still desired (it is being deleted); after that there is nothing to tell.

        `uid` "" is any.
        """
        key = keys.reported("pods", namespace, name)
        wanted = await self._store.get(keys.desired("pods", namespace, name))
        if uid and wanted is not None and (_json(wanted.value).get("metadata") or {}).get("uid") == uid:
            kept = {"status": last_status} if last_status is not None else {}
            await self._put(key, _canonical({"gone": True, "uid": uid, **kept}))
            return
        found = await self._store.get(key)
        if found is not None and uid in ("", _json(found.value).get("uid")):
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

    async def _event(self, worker: Worker, kind: str, reason: str, message: str, container: str = "") -> None:
        if worker.namespace:
            await self._events.record(worker.about, kind, reason, message, container)

    # -- around --------------------------------------------------------------------------------------------------------

    async def _preload(self) -> None:
        """Archives that were put beside the agent."""
        await asyncio.to_thread(self._images.sweep)
        for archive in sorted(self._images.preload.glob("*.tar")):
            if self._images.imported(archive):
                continue
            try:
                names = await run_helper({"root": str(self._images.root), "archive": str(archive)})
                self._images.mark_imported(archive, names)
                log.info("imported archive=%s images=%s", archive.name, ",".join(names))
            except (Invalid, OSError) as exc:
                log.error("cannot import %s: %s", archive, exc)

    async def import_image(self, archive: str, names: Sequence[str]) -> list[str]:
        return await run_helper({"root": str(self._images.root), "archive": archive, "names": list(names)})

    def images(self) -> list[str]:
        return self._images.names()

    async def _rotate_logs(self) -> None:
        delay, sizes = logs.FIRST_CHECK, dict[Path, int]()
        while True:
            await asyncio.sleep(delay)
            running = [
                (logs.path(self._settings.logs, w.namespace, w.name, w.uid, name, state.attempt), w.uid, name)
                for w in self._workers.values()
                for name, state in w.observed.containers.items()
                if state.running
            ]
            now = await asyncio.to_thread(self._rotate, running)
            growth = max((size - sizes.get(path, 0) for path, size in now.items()), default=0)
            delay, sizes = logs.next_check(delay, growth, self._settings.log_max_bytes), now

    def _rotate(self, running: Sequence[tuple[Path, str, str]]) -> dict[Path, int]:
        """Their sizes now."""
        sizes = {}
        for path, uid, name in running:
            with contextlib.suppress(OSError):
                logs.rotate(path, self._settings.log_max_bytes, functools.partial(self._runtime.reopen_log, uid, name))
                sizes[path] = path.stat().st_size
        return sizes

    async def _watch_volumes(self) -> None:
        while True:
            begun = time.monotonic()
            for worker in list(self._workers.values()):
                pod, observed = worker.desired, worker.observed
                if pod is None or not observed.sandbox or observed.evicted or observed.final:
                    continue
                if message := await asyncio.to_thread(self._prepare.over_limit, pod):
                    observed.evicted = message
                    worker.wake.set()
                    await self._event(worker, "Warning", "Evicted", message)
            await asyncio.sleep(max(_LOOK_AT_VOLUMES, 20 * (time.monotonic() - begun)))

    def pod_list(self) -> list[Object]:
        return [
            {"metadata": {"namespace": w.namespace, "name": w.name, "uid": w.uid}, "status": w.reported or {}}
            for w in self._workers.values()
            if w.namespace
        ]

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


def _told_apart(before: Pod | None, now: Pod | None) -> bool:
    """What the downward API writes into volumes changed."""
    if before is None or now is None:
        return False
    return (before.labels, before.annotations) != (now.labels, now.annotations)


def _still_writes(state: ContainerObservation, previous: bool) -> bool:
    return state.running and not previous


def _said(result: ExecResult) -> str:
    return result.output.decode(errors="replace").strip()[:200] or f"exit status {result.exit_code}"


def _json(value: bytes) -> dict[str, Any]:
    try:
        obj = json.loads(value)
    except ValueError:
        return {}
    return obj if isinstance(obj, dict) else {}


def _canonical(obj: dict[str, Any]) -> bytes:
    return json.dumps(obj, sort_keys=True, separators=(",", ":")).encode()
