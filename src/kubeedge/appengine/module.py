"""Module "appengine": one worker a pod, driven by the local store and by exits.

    /desired/pods      ── worker: observe, plan(), perform one action, report ──> /reported/pods
    /desired/configmaps, /desired/secrets, tokens ── volumes of running pods, containers that wait for them
    exits, probes      ── wake the worker of that pod

Desired state comes from the local store alone, so a start without the cloud is the normal path. Nothing is written unless it changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubeedge.api import keys, pod_certificates, service_accounts, trust_bundles
from kubeedge.api.names import Object, Revision
from kubeedge.api.pod import Pod
from kubeedge.api.pod_parser import parse
from kubeedge.api.resources import CSIDRIVERS, PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, VOLUMEATTACHMENTS
from kubeedge.appengine import admission, core, log_files, node_readings
from kubeedge.appengine.certified_pods import CertifiedPods
from kubeedge.appengine.core import PodObservation
from kubeedge.appengine.desired import DesiredObjects
from kubeedge.appengine.driver import PodDriver
from kubeedge.appengine.eviction import Readings
from kubeedge.appengine.hooks import Hooks
from kubeedge.appengine.housekeeping import Housekeeping
from kubeedge.appengine.image_manager import ImageManager
from kubeedge.appengine.node_plugins import NodePlugins
from kubeedge.appengine.prepare import Preparer
from kubeedge.appengine.prober import Prober
from kubeedge.appengine.reports import Reports, json_object
from kubeedge.appengine.runtime import usage
from kubeedge.appengine.runtime.base import NOT_MOUNTED, Exit, FoundPod, Runtime
from kubeedge.appengine.settings import AppEngineSettings
from kubeedge.appengine.stats import NodeUse
from kubeedge.appengine.upkeep import Upkeep
from kubeedge.appengine.worker import Worker, Workers, take_over, take_up
from kubeedge.errors import Invalid, NotFound
from kubeedge.kit.reflector.driver import reflect
from kubeedge.store.model import Store

if TYPE_CHECKING:
    from kubeedge.appengine.static_pods import StaticPod, StaticPods

__all__ = ["AppEngine", "AppEngineSettings"]

log = logging.getLogger("kubeedge.appengine")

_CLAIMS = tuple(r.plural for r in (PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES, CSIDRIVERS, VOLUMEATTACHMENTS))
_SYNC_VOLUMES = ("configmaps", "secrets", service_accounts.RESOURCE, trust_bundles.RESOURCE, *_CLAIMS)
_LONGEST_GRACE = 600.0  # seconds for pods to end when the node is reset
_REMOVAL = 60.0  # and for their files to be removed
_FOR_LATER = ("services", "nodes")  # their changes are for containers that start later, as with the kubelet


class AppEngine:
    """Runs the pods of this node. It reads and writes only the local store, so it works while the cloud cannot be reached."""

    name = "appengine"

    def __init__(
        self,
        store: Store,
        settings: AppEngineSettings,
        runtime: Runtime,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        readings: Callable[[], Readings] | None = None,
    ) -> None:
        """What is waited for goes by `clock`, what users read by `wall`. `readings`: what the machine has left; None: it is read."""
        self._store = store
        self._settings = settings
        self._runtime = runtime
        self._clock, self._wall = clock, wall
        self._workers = Workers()
        self._static: StaticPods | None = None
        self._shuts_down = False
        self._prepare = Preparer(
            node=settings.node, host_ip=settings.host_ips, state=settings.state, log_root=settings.logs,
            allocatable=settings.allocatable(), api=settings.api, swap_behaviour=settings.swap,
        )  # fmt: skip
        self._reports = Reports(store, settings, runtime, wall)
        self._prober = Prober(runtime, self._reports, settings.host_ip)
        hooks = Hooks(runtime, settings.host_ip)
        self._driver = PodDriver(
            runtime, self._workers, self._prepare, self._reports, self._prober, hooks,
            clock=clock, wall=wall, admit=settings.admit,
        )  # fmt: skip
        #: for operators and for the node's disk
        self.images = ImageManager(runtime.images, self._workers, settings.images, settings.state, clock=clock)
        look = readings or functools.partial(node_readings.read, settings.state, settings.state)
        self._housekeeping = Housekeeping(
            runtime, self._workers, self._prepare.volumes, self._reports, self.images, settings.eviction, look,
            clock=clock,
        )  # fmt: skip
        self._plugins: NodePlugins | None = None
        if settings.kubelet is not None:
            self._plugins = NodePlugins(settings.kubelet, settings.state, self._prepare, self._workers, self._reports)
        self._upkeep = Upkeep(settings, runtime, self._workers, self._prepare.volumes, self._reports)
        changed = functools.partial(self._object_changed, pod_certificates.RESOURCE)
        self._certified = CertifiedPods(store, changed, self._workers, self._reports, wall)

    # -- the module ----------------------------------------------------------------------------------------------------

    async def run(self, ready: asyncio.Event) -> None:
        """Takes up the pods that survived, then follows the store. Containers go on when it is cancelled."""
        self._workers.clear()
        self._prepare.clear()
        found = {pod.uid: pod for pod in await self._runtime.start(self._exited)}
        try:
            if self._plugins is not None:
                await self._plugins.prepare()
            await self._runtime.images.preload()
            await self._reports.report_node(await self.images.node_images())
            before = await self._reported()
            desired = DesiredObjects(self._store, functools.partial(self._take, found, before))
            async with contextlib.aclosing(reflect(desired)) as steps, asyncio.TaskGroup() as group:
                await anext(steps)
                static = await self._static_pods(found, before)
                await self._settle(found, before)
                ready.set()
                group.create_task(_drain(steps), name="desired state")
                group.create_task(self._upkeep.rotate_logs(), name="log rotation")
                group.create_task(self._upkeep.watch_volumes(), name="size of volumes")
                group.create_task(self._housekeeping.run(), name="housekeeping")
                group.create_task(self.images.pre_pull(), name="images to pull beforehand")
                if self._plugins is not None:
                    group.create_task(self._plugins.run(), name="plugins of others")
                if static is not None:
                    group.create_task(static.follow(), name="static pods")
        finally:
            await self._stop_workers()
            await self._runtime.close()

    async def shut_down(self, grace: float, critical: float) -> None:
        """The machine shuts down: pods end within `grace` seconds, the last `critical` of them for critical pods. No pod starts any more."""
        from kubeedge.appengine.shutdown import Shutdown

        self._shuts_down = True
        await self._stop_workers()
        await Shutdown(self._driver.termination, self._reports, clock=self._clock).run(self._workers, grace, critical)

    async def remove_all(self) -> None:
        """Every pod of this node ends, for `kubeedge reset`. Each has its own grace period."""
        grace = max((pod.grace for worker in self._workers if (pod := worker.desired or worker.last)), default=0.0)
        for worker in self._workers:
            worker.end()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(grace, _LONGEST_GRACE) + _REMOVAL):
                while self._workers:
                    await asyncio.sleep(0.05)

    async def _reported(self) -> dict[str, Any]:
        """The pods that were reported before this start, by key."""
        prefix = f"{keys.REPORTED}pods/"
        reported = await self._store.range(prefix, keys.prefix_end(prefix))
        return {kv.key: json_object(kv.value) for kv in reported.kvs}

    async def _take(self, found: dict[str, FoundPod], before: dict[str, Any], key: str, value: bytes | None) -> None:
        """A desired object is there, has changed or is gone (None)."""
        if self._shuts_down:
            return
        resource, namespace, name = keys.split(key)
        obj = None if value is None else json_object(value)
        if resource == "pods":
            if self._static is not None and (namespace, name) in self._static:
                log.error("pod %s/%s of the API has the name of a static pod, and is not run", namespace, name)
                return
            await self._certified.pod(namespace, name, obj)
            self._desire(namespace, name, obj, found, before)
            if obj is None and not self._workers.named(namespace, name):
                await self._reports.forget(namespace, name, "")
        elif resource in _SYNC_VOLUMES:
            self._object_changed(resource, namespace, name, obj)
            if obj is None and resource == PERSISTENTVOLUMECLAIMS.plural:
                await self._reports.forget_claim(namespace, name)
        elif resource == pod_certificates.RESOURCE:
            self._certified.answer(namespace, name, obj)
        elif resource in _FOR_LATER:
            self._prepare.keep(resource, namespace, name, obj)

    async def _static_pods(self, found: dict[str, FoundPod], before: dict[str, Any]) -> StaticPods | None:
        if self._settings.static_pods is None:
            return None
        from kubeedge.appengine.static_pods import StaticPods

        def desire(namespace: str, name: str, pod: StaticPod | None) -> None:
            self._desire(namespace, name, None if pod is None else pod.run, found, before)
            for worker in self._workers.named(namespace, name):
                worker.mirror = pod.mirror if pod is not None and worker.desired is not None else None

        self._static = StaticPods(self._settings.static_pods, self._settings.node, desire)
        await self._static.look()
        return self._static

    async def _settle(self, found: dict[str, FoundPod], before: dict[str, Any]) -> None:
        """Of what was there before this start, that which is not desired any more ends."""
        for left in found.values():
            if left.uid not in self._workers:
                self._adopt(left)
        uids = frozenset(w.uid for w in self._workers)
        await asyncio.to_thread(self._prepare.volumes.sweep, uids)
        self._prepare.users.sweep(uids)
        await self._certified.sweep()
        if self._plugins is not None:
            await self._plugins.sweep(uids)
        for key, value in before.items():
            _, namespace, name = keys.split(key)
            if value.get("uid") not in self._workers:
                await self._reports.forget(namespace, name, str(value.get("uid", "")))
        found.clear()
        before.clear()

    def _desire(
        self, namespace: str, name: str, obj: Object | None, found: dict[str, FoundPod], before: dict[str, Any]
    ) -> None:
        """A pod appeared, changed, or went."""
        metadata = (obj or {}).get("metadata")
        metadata = metadata if isinstance(metadata, dict) else {}
        uid = str(metadata.get("uid") or "")
        for worker in self._workers.named(namespace, name):
            if worker.uid != uid:
                worker.end(core.REMOVED_GRACE)
        if obj is None:
            return
        if not uid:
            log.error("pod %s/%s has no uid", namespace, name)
            return
        worker = self._workers.get(uid) or self._new_worker(uid, namespace, name, found.get(uid))
        before_change = worker.desired
        earlier = before.get(keys.reported("pods", namespace, name), {})
        try:
            pod = parse(obj)
            admission.admit(worker, pod, self._workers, known=uid in found or earlier.get("uid") == uid)
            worker.want(pod)
        except Invalid as exc:
            if metadata.get("deletionTimestamp"):
                worker.end()
            elif worker.desired is None:
                worker.refuse(exc)
            else:  # it runs, and goes on as it was
                log.error("pod %s/%s was changed to something impossible: %s", namespace, name, exc)
        if _downward_fields_differ(before_change, worker.desired):
            worker.stale_volumes = True
        if worker.reported is None and earlier.get("uid") == uid and isinstance(earlier.get("status"), dict):
            take_over(
                worker, earlier["status"], known=uid in found, scheme=self._runtime.scheme,
                now=self._clock(), wall=self._wall(),
            )  # fmt: skip
        worker.wake.set()

    def _adopt(self, left: FoundPod) -> None:
        """A pod that is not desired any more, from before the start: it ends."""
        self._new_worker(left.uid, left.namespace, left.name, left).end(core.REMOVED_GRACE)

    def _new_worker(self, uid: str, namespace: str, name: str, found: FoundPod | None) -> Worker:
        observed = PodObservation(uid) if found is None else take_up(found)
        worker = Worker(uid, namespace, name, None, observed)
        self._workers.add(worker)
        worker.task = asyncio.create_task(self._driver.drive(worker), name=f"pod {namespace}/{name}")
        worker.task.add_done_callback(lambda t: self._ended(worker, t))
        return worker

    def _ended(self, worker: Worker, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            log.error("worker of pod %s/%s failed", worker.namespace, worker.name, exc_info=error)

    async def _stop_workers(self) -> None:
        await self._certified.close()
        tasks = [w.task for w in self._workers if w.task]
        tasks += [t for w in self._workers for t in w.probes.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _object_changed(self, resource: str, namespace: str, name: str, obj: Object | None) -> None:
        """A ConfigMap, Secret or claim: running pods get new files, waiting ones are tried again."""
        self._prepare.keep(resource, namespace, name, obj)
        for worker in self._workers:
            if worker.desired is None or namespace not in ("", worker.namespace):
                continue
            worker.stale_volumes = True
            worker.retry("CreateContainerConfigError", NOT_MOUNTED)

    # -- what happens to it --------------------------------------------------------------------------------------------

    def _exited(self, exit: Exit) -> None:
        worker = self._workers.get(exit.uid)
        state = worker.observed.containers.get(exit.container) if worker else None
        if worker is None or state is None or state.id != exit.id or state.exited:
            return
        self._prober.end(worker, exit.container)
        message = exit.message
        if exit.exit_code and not message:
            message = log_files.last_words(worker, self._settings.logs, exit.container, state.attempt)
        core.note_exit(state, exit.exit_code, exit.reason, message, wall=self._wall(), now=self._clock())
        worker.wake.set()

    # -- what the kubelet API and the command line ask -----------------------------------------------------------------

    async def import_image(self, archive: str, names: Sequence[str]) -> list[str]:
        """The names that it has now. Raises Invalid."""
        found = list(await self._runtime.images.load(Path(archive), names))
        await self._reports.report_node(await self.images.node_images())
        return found

    def pressures(self) -> dict[str, dict[str, str]]:
        """The node conditions MemoryPressure, DiskPressure and PIDPressure, by type, without times."""
        return self._housekeeping.pressure.conditions()

    def not_ready(self) -> str:
        """Why no container can start on this node; "": they can."""
        return self._runtime.not_ready()

    def pod_list(self) -> list[Object]:
        """As the kubelet's /pods has them, without most of the specification."""
        from kubeedge.appengine import pod_list  # an agent without such requests does not load it

        return [pod_list.entry(w, self._settings.node) for w in self._workers if w.namespace]

    @property
    def settings(self) -> AppEngineSettings:
        """What this node was started with."""
        return self._settings

    @property
    def workers(self) -> Workers:
        """The pods of this node, for those who tell about them."""
        return self._workers

    @property
    def runtime(self) -> Runtime:
        """What runs the containers of this node."""
        return self._runtime

    @property
    def slow_threads(self) -> Executor:
        """For what may hang because a server does."""
        return self._prepare.slow_threads

    def claims(self) -> list[tuple[str, str, Path]]:
        """Namespace, name and directory of each claim that a running pod mounts."""
        return [
            (worker.namespace, name, path)
            for worker in self._workers
            if worker.desired is not None and worker.observed.sandbox
            for name, path in self._prepare.volumes.claims(worker.desired)
        ]

    def uid_of(self, namespace: str, name: str) -> str:
        """The uid of the pod that had that name last. Raises NotFound."""
        named = self._workers.named(namespace, name)
        if not named:
            raise NotFound(f'pod "{name}" is not on this node')
        return named[-1].uid

    def running(self, namespace: str, name: str, container: str) -> str:
        """The id of a container that runs. Raises NotFound, in the kubelet's words."""
        worker = self._workers.get(self.uid_of(namespace, name))
        state = worker.observed.containers.get(container) if worker is not None else None
        if state is None or not state.running:
            raise NotFound(f'container not found ("{container}")')
        return state.id

    async def use(self) -> NodeUse:
        """What this node, its pods and their containers have used."""
        machine = await asyncio.to_thread(usage.of_machine)
        return NodeUse(self._settings.node, machine, await self._runtime.stats(), self._wall())

    def find_log(
        self, namespace: str, name: str, container: str, *, previous: bool
    ) -> tuple[Path, Callable[[], bool]] | str:
        """The file and whether its container still runs; or what is wrong, in the kubelet's words."""
        return log_files.find(self._workers, self._settings.logs, namespace, name, container, previous=previous)


async def _drain(steps: AsyncIterator[Revision]) -> None:
    async for _ in steps:
        pass


def _downward_fields_differ(before: Pod | None, now: Pod | None) -> bool:
    """Whether fields differ that the downward API writes into volumes."""
    if before is None or now is None:
        return False
    return (before.labels, before.annotations) != (now.labels, now.annotations)
