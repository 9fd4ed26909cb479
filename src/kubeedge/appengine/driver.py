"""Drives one pod: observe, plan(), perform one action, report. All decisions live in core.py."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from kubeedge.api.defaults import image_pull_policy
from kubeedge.api.meta import parse_timestamp
from kubeedge.api.pod import Container, Hook, Pod
from kubeedge.appengine import core, resize, resolve
from kubeedge.appengine.core import ContainerObservation
from kubeedge.appengine.hooks import Hooks
from kubeedge.appengine.prepare import Preparer
from kubeedge.appengine.prober import Prober
from kubeedge.appengine.pulls import ImagePulls, registry_auth
from kubeedge.appengine.reports import Reports
from kubeedge.appengine.runtime.base import Runtime, StartError
from kubeedge.appengine.settings import AdmitPod, at_once
from kubeedge.appengine.termination import Termination
from kubeedge.appengine.volumes.base import NotMounted
from kubeedge.appengine.volumes.registry import has_remote_volumes
from kubeedge.appengine.worker import Worker, Workers
from kubeedge.errors import Invalid, KubeEdgeError
from kubeedge.kit.dataclasses import replace

log = logging.getLogger("kubeedge.appengine")

_RETRY = 2.0  # seconds after something failed that has no back-off of its own
_LIMITS_RETRY = 10.0  # seconds after a pod could not have the limits that it asks for now
_HOOK_TIMEOUT = 300.0  # seconds for a postStart hook


class PodDriver:
    """The loop of one pod's worker. `clock` is monotonic and decides when to act, `wall` is the time of day that statuses show."""

    def __init__(
        self,
        runtime: Runtime,
        workers: Workers,
        prepare: Preparer,
        reports: Reports,
        prober: Prober,
        hooks: Hooks,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
        admit: AdmitPod = at_once,
    ) -> None:
        self._runtime, self._admit = runtime, admit
        self._workers = workers
        self._prepare = prepare
        self._reports = reports
        self._prober = prober
        self._pulls = ImagePulls(runtime.images)
        self._hooks = hooks
        self.termination = Termination(runtime, reports, hooks)
        self._clock, self._wall = clock, wall

    async def drive(self, worker: Worker) -> None:
        """Returns when nothing of the pod is left on this node. What goes wrong is logged and tried again after some seconds."""
        while True:
            worker.wake.clear()
            try:
                if worker.invalid:
                    await self._reports.report_invalid(worker)
                    await worker.wake.wait()
                    continue
                if self._predecessor(worker):
                    await worker.wake.wait()  # until that one is gone
                    continue
                if worker.stale_volumes:
                    worker.stale_volumes = False
                    if (pod := worker.desired) is not None:  # until it is deleted meanwhile
                        await self._prepare.refresh(pod, worker.observed.ips)
                        await self._let_grow(worker, pod)
                if worker.stale_limits:
                    await resize.limit_pod(self._runtime, self._reports, self._prepare, worker)
                action = core.plan(worker.desired, worker.observed, self._clock())
                if isinstance(action, core.ReportRemoved):
                    if await self._gone(worker):
                        return
                    continue
                if isinstance(action, core.Wait):
                    await self._reports.report(worker)
                    self._prober.keep(worker)
                    await self._wait(worker, self._until(worker, action))
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

    def _until(self, worker: Worker, wait: core.Wait) -> float | None:
        """When to look at the pod again, if nothing happens."""
        if not worker.stale_limits:
            return wait.until
        soon = self._clock() + _LIMITS_RETRY
        return soon if wait.until is None else min(soon, wait.until)

    def _predecessor(self, worker: Worker) -> bool:
        """An older pod of the same name is still ending."""
        if worker.desired is None or worker.observed.sandbox:
            return False
        return any(w is not worker and w.desired is None for w in self._workers.named(worker.namespace, worker.name))

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
                self._note_begin(worker)
                self._workers.with_own_users += not worker.desired.host_users
                try:
                    sandbox = await self._runtime.create_sandbox(self._prepare.sandbox(worker.desired, observed))
                    observed.ip, observed.ipv6 = sandbox.ip, sandbox.ipv6
                except (StartError, OSError) as exc:
                    observed.failures += 1
                    self._workers.failed_with_own_users += not worker.desired.host_users
                    observed.retry_at = self._clock() + core.SANDBOX_BACKOFF.delay(observed.failures)
                    observed.sandbox_error = str(exc)
                    await self._reports.event(worker, "Warning", "FailedCreatePodSandBox", str(exc))
                    return
                observed.sandbox, observed.sandbox_error, observed.failures = True, "", 0
                if worker.desired.unsupported:
                    fields = ", ".join(worker.desired.unsupported)
                    await self._reports.event(
                        worker, "Warning", "UnsupportedFields", f"Without effect on this node: {fields}"
                    )
            case core.StartContainer(container, attempt):
                assert worker.desired is not None
                await self._start(worker, worker.desired, container, attempt)
            case core.ResizeContainer(container):
                await resize.perform(self._runtime, self._reports, self._prepare, worker, container, self._clock())
            case core.StopContainers(names, grace, why, replacing):
                if worker.desired is None or worker.desired.deleting:
                    observed.ending_since = observed.ending_since or self._clock()
                for name in names:
                    self._prober.only_readiness(worker, name)
                    observed.of(name).replacing = replacing
                    await self._reports.event(worker, "Normal", "Killing", f"Stopping container {name}: {why}")
                await self._reports.report(worker)
                await self.termination.stop(worker, names, grace)
            case core.FailPod(reason, message):
                observed.evicted, observed.evicted_reason = message, reason
                await self._reports.event(worker, "Normal", reason, message)
            case core.RemovePod():
                self._prober.end_all(worker)
                self._reports.note_last_status(worker)
                await self._runtime.remove_pod(worker.uid)
                pod = worker.desired or worker.last
                try:
                    await self._prepare.remove(worker.namespace, worker.name, worker.uid, pod)
                except (StartError, OSError) as exc:
                    await self._reports.event(worker, "Warning", "FailedUnMount", str(exc))
                    raise
                observed.containers.clear()
                observed.sandbox, observed.ip, observed.ipv6 = False, "", ""

    def _note_begin(self, worker: Worker) -> None:
        """The pod begins here; what was reported before the agent restarted says since when."""
        observed, now = worker.observed, self._wall()
        if observed.active_since is None:
            begun = parse_timestamp((worker.reported or {}).get("startTime"))
            observed.started_at = observed.started_at or now
            observed.active_since = self._clock() - max(0.0, now - (begun or observed.started_at))

    async def _start(self, worker: Worker, pod: Pod, container: Container, attempt: int) -> None:
        state = worker.observed.of(container.name)
        try:
            await self._unless_ending(worker, self._ensure_images(worker, pod, container))
            await self._unless_ending(worker, self._attach(pod, container))
            config = await self._prepare.configure(pod, container, attempt, worker.observed.ips)
            if worker.observed.ip and not pod.host_network and worker.mirror is None:
                await self._unless_ending(
                    worker, self._admit(pod.namespace, pod.name, pod.uid, worker.observed.ips.split(","))
                )
            if container.target:
                config = replace(config, target_id=worker.observed.of(container.target).id or "none")
            started = await self._runtime.start_container(self._prepare.sandbox(pod, worker.observed), config)
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
            self._workers.failed_with_own_users += not pod.host_users
            core.note_failure(state, reason=reason, message=str(exc), now=self._clock())
            kind = "FailedMount" if isinstance(exc, NotMounted) else "Failed"
            await self._reports.event(worker, "Warning", kind, f"Error: {exc}", container.name)
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
            user=started.user,
            resources=config.container.resources,
        )
        state.started = container.startup is None
        state.ready = state.started and container.readiness is None
        await self._reports.event(worker, "Normal", "Started", f"Started container {container.name}", container.name)
        if container.post_start:
            await self._unless_ending(worker, self._post_start(worker, container, container.post_start, state))

    async def _attach(self, pod: Pod, container: Container) -> None:
        for name, claim, capacity in await self._prepare.attach(pod, container):
            await self._reports.report_claim(pod.namespace, name, claim, capacity)

    async def _let_grow(self, worker: Worker, pod: Pod) -> None:
        """Volumes of containers that run: their claims may have more by now."""
        if not has_remote_volumes(pod):
            return
        for container in pod.all_containers:
            if worker.observed.of(container.name).running:
                try:
                    await self._unless_ending(worker, self._attach(pod, container))
                except StartError as exc:
                    await self._reports.event(worker, "Warning", "VolumeResizeFailed", str(exc), container.name)

    async def _unless_ending(self, worker: Worker, work: Awaitable[None]) -> None:
        """What may take long is given up when the pod is deleted meanwhile."""
        doing, ending = asyncio.ensure_future(work), asyncio.create_task(worker.ending.wait())
        try:
            await asyncio.wait((doing, ending), return_when=asyncio.FIRST_COMPLETED)
        finally:
            ending.cancel()
            doing.cancel()
            await asyncio.gather(doing, ending, return_exceptions=True)
        if doing.cancelled():
            raise StartError("ContainerCreating", "the pod is deleted")
        doing.result()

    async def _post_start(self, worker: Worker, container: Container, hook: Hook, state: ContainerObservation) -> None:
        problem = await self._hooks.run(worker, container, hook, _HOOK_TIMEOUT)
        if problem and state.running:
            state.unhealthy = f"postStart hook failed: {problem}"
            await self._reports.event(worker, "Warning", "FailedPostStartHook", state.unhealthy, container.name)

    async def _ensure_images(self, worker: Worker, pod: Pod, container: Container) -> None:
        """The container's own, and those that it mounts."""
        await self._ensure_image(worker, pod, container, container.image, container.pull_policy)
        for mount in container.mounts:
            if (image := pod.image_of(mount)) is not None:
                policy = pod.volumes[mount.name].source.get("pullPolicy") or image_pull_policy(image)
                await self._ensure_image(worker, pod, container, image, policy)

    async def _ensure_image(self, worker: Worker, pod: Pod, container: Container, image: str, policy: str) -> None:
        async def pulling() -> None:
            await self._reports.report(worker)
            await self._reports.event(worker, "Normal", "Pulling", f"Pulling image {image}", container.name)

        auth = registry_auth(self._prepare.find("secrets", pod.namespace, name) for name in pod.pull_secrets)
        if await self._pulls.ensure(image, policy, auth, pulling):
            await self._reports.event(worker, "Normal", "Pulled", f"Pulled image {image}", container.name)

    async def _gone(self, worker: Worker) -> bool:
        """Nothing is left of it: say so, once, and forget it. False: it is desired again since then."""
        if worker.namespace:
            await self._reports.forget(worker.namespace, worker.name, worker.uid, worker.last_status)
        if worker.is_wanted:
            worker.reported = None  # what was said of it is taken back
            return False
        self._workers.discard(worker)
        for other in self._workers.named(worker.namespace, worker.name):
            other.wake.set()
        return True
