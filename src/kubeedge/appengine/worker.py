"""What AppEngine keeps of each pod."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from typing import Any

from kubeedge.api.json_fields import UnknownValue
from kubeedge.api.meta import parse_timestamp
from kubeedge.api.pod import NotAdmitted, Pod, Unsupported
from kubeedge.appengine import core
from kubeedge.appengine.core import ContainerObservation, PodObservation
from kubeedge.appengine.events import About
from kubeedge.appengine.runtime.base import FoundPod
from kubeedge.appengine.status import container_id
from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass, field

UNSUPPORTED = "UnsupportedPod"  # status.reason of a pod that this node cannot run, and another one may


@dataclass(slots=True)
class Worker:
    """A pod, by uid: a pod of the same name with another uid waits until this one is gone."""

    uid: str
    namespace: str
    name: str
    desired: Pod | None
    observed: PodObservation
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    probes: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    told_to_end: set[str] = field(default_factory=set)  # of these containers only readiness is probed
    #: container -> (probe_type, result) -> how many answers; of containers with probes
    probed: dict[str, dict[tuple[str, str], int]] = field(default_factory=dict)
    reported: dict[str, Any] | None = None
    invalid: str = ""  # why it cannot run at all
    invalid_reason: str = "InvalidPod"  # for status.reason; UNSUPPORTED: it waits, and has not failed
    last_status: dict[str, Any] | None = None  # of a pod that outlives its containers in the API
    last: Pod | None = None  # as it was last desired
    ending: asyncio.Event = field(default_factory=asyncio.Event)  # what takes long is given up for it
    stale_volumes: bool = False  # a ConfigMap or Secret changed
    stale_limits: bool = False  # what the pod asks for as a whole changed
    limits_refused: bool = False  # and could not be: an event has said so, once
    mirror: dict[str, Any] | None = None  # of a static pod: what the API is to show

    @property
    def about(self) -> About:
        """What Events of this pod name as their involvedObject."""
        return About(self.namespace, self.name, self.uid)

    def want(self, pod: Pod) -> None:
        """Desired, or desired otherwise. A pod that was on its way out and is desired after all, because its node was removed and joined again,
        say, goes on with what is left of it."""
        revived = self.desired is None and not pod.deleting
        self.stale_limits |= self.desired is not None and self.desired.resources != pod.resources
        self.desired = self.last = pod
        self.invalid = ""
        self.observed.grace = pod.grace
        if pod.deleting:
            self.ending.set()
        elif revived:
            self.ending.clear()
            self.observed.ending_since, self.last_status = None, None

    @property
    def is_wanted(self) -> bool:
        """It shall run here, and is not on its way out."""
        return self.desired is not None and not self.desired.deleting

    def refuse(self, exc: Invalid) -> None:
        """It cannot run here, and its status says why."""
        self.invalid, self.invalid_reason = str(exc), "InvalidPod"
        if isinstance(exc, NotAdmitted):
            self.invalid_reason = exc.reason
        elif isinstance(exc, Unsupported | UnknownValue):
            self.invalid_reason = UNSUPPORTED

    def retry(self, *reasons: str) -> None:
        """Containers that wait for one of these are tried at once: something has changed."""
        for state in self.observed.containers.values():
            if state.waiting_reason in reasons:
                state.retry_at = 0.0
        self.wake.set()

    def end(self, grace: float = math.inf) -> None:
        """Not desired any more: the driver wakes, gives up what takes long, and removes the pod within its own grace period or
        `grace` seconds, whichever is shorter, even if it is ending already."""
        self.desired, self.invalid = None, ""
        self.observed.grace = min(self.observed.grace, grace)
        self.ending.set()
        self.wake.set()


def take_over(worker: Worker, earlier: dict[str, Any], *, known: bool, scheme: str, now: float, wall: float) -> None:
    """What was reported before the agent restarted still holds. `known`: the runtime has something of the pod; `scheme` is that of its ids;
    `now` is of the clock of plan(), `wall` the time of day."""
    observed = worker.observed
    worker.reported = earlier
    if earlier.get("reason") in ("Evicted", core.DEADLINE_EXCEEDED):
        observed.evicted_reason = earlier["reason"]
        observed.evicted = str(earlier.get("message") or earlier["reason"])
    if (begun := parse_timestamp(earlier.get("startTime"))) is not None:
        observed.active_since = now - max(0.0, wall - begun)
    if not known and earlier.get("phase") in ("Succeeded", "Failed"):
        observed.final = earlier["phase"]
    kinds = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
    for entry in (entry for kind in kinds for entry in earlier.get(kind) or ()):
        state = observed.containers.get(entry.get("name", ""))
        if state is not None and state.running and entry.get("containerID") == container_id(scheme, state.id):
            state.started, state.ready = bool(entry.get("started")), bool(entry.get("ready"))


class Workers:
    """By uid. Two pods may have the same name: the older one is on its way out."""

    def __init__(self) -> None:
        self._by_uid: dict[str, Worker] = {}
        #: pods with users of their own: how many were started, and how often one of them, or a container in it, could not be
        self.with_own_users, self.failed_with_own_users = 0, 0

    def __iter__(self) -> Iterator[Worker]:
        """The workers at this moment; their set may change meanwhile."""
        return iter(list(self._by_uid.values()))

    def __len__(self) -> int:
        return len(self._by_uid)

    def __contains__(self, uid: object) -> bool:
        return uid in self._by_uid

    def get(self, uid: str) -> Worker | None:
        """None for a pod that this node does not have."""
        return self._by_uid.get(uid)

    def named(self, namespace: str, name: str) -> list[Worker]:
        """In the order in which they came; more than one while an older pod of this name ends."""
        return [w for w in self._by_uid.values() if (w.namespace, w.name) == (namespace, name)]

    def add(self, worker: Worker) -> None:
        """Replaces a worker of the same uid."""
        self._by_uid[worker.uid] = worker

    def discard(self, worker: Worker) -> None:
        """One that is not here is no error."""
        self._by_uid.pop(worker.uid, None)

    def clear(self) -> None:
        """Forgets them without ending their tasks."""
        self._by_uid.clear()


def take_up(found: FoundPod) -> PodObservation:
    """What the runtime found of a pod when the agent started."""
    observed = PodObservation(found.uid, ip=found.ip, ipv6=found.ipv6, sandbox=bool(found.ip))
    for c in found.containers:
        state = ContainerObservation(
            c.attempt, c.id, c.pid, c.image_id, c.started_at, spec_image=c.image, ready=True, started=True,
            user=c.user, resources=c.resources,
        )  # fmt: skip
        if c.exit is not None:
            state.finished_at, state.exit_code = c.finished_at, c.exit.exit_code
            state.reason = c.exit.reason or ("Completed" if c.exit.exit_code == 0 else "Error")
            state.message, state.ready, state.started = c.exit.message, False, False
        observed.containers[c.name] = state
    if any(s.running for s in observed.containers.values()):
        observed.sandbox = True  # host network has no address of its own
    return observed
