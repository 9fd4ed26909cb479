"""Services whose annotations do not do what they say, as Events of those Services."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kubeedge.api import meta
from kubeedge.api.names import Object
from kubeedge.api.resources import SERVICES
from kubeedge.errors import Invalid
from kubeedge.kubebus.http.access import KINDS
from kubeedge.kubebus.http.url import service_name
from kubeedge_cloud.controllers.objects import uid_of
from kubeedge_cloud.controllers.queue import WorkQueue
from kubeedge_cloud.edgecontroller import node_objects
from kubeedge_cloud.edgecontroller.state import EdgeState

_TOGETHER = 1.0  # seconds: what is applied at once is looked at once

Faults = Mapping[str, str]  # reason of an Event -> its message


def faults(services: Iterable[Object]) -> dict[str, tuple[Object, Faults]]:
    """The faults of those Services that have any, by uid. Pure."""
    found: dict[str, tuple[Object, Faults]] = {}
    owners: dict[str, Object] = {}
    for service in sorted((s for s in services if node_objects.publishes(s)), key=node_objects.age):
        wrong = _own_faults(service)
        owner = owners.setdefault(node_objects.publishes(service), service)
        if owner is not service:
            wrong["PublishedNameTaken"] = (
                f"{node_objects.publishes(service)!r:.80} is published by the older Service {meta.namespace_of(owner)}/{meta.name_of(owner)} too: "
                "on a node with pods of both, that one has it"
            )
        if wrong:
            found[uid_of(service)] = service, wrong
    return found


def _own_faults(service: Object) -> dict[str, str]:
    wrong: dict[str, str] = {}
    annotations = service["metadata"]["annotations"]
    try:
        service_name(node_objects.publishes(service))
    except Invalid as exc:
        wrong["InvalidPublishedName"] = str(exc)
    if node_objects.web_service(service) is None:
        wrong["NotPublished"] = "a Service that is published needs a selector and a port"
    access = annotations.get(node_objects.ACCESS) or "public"
    if access not in KINDS:
        wrong["UnknownAccess"] = (
            f"{node_objects.ACCESS} {access!r:.80} is not {', '.join(KINDS)}: no request is answered"
        )
    elif access == "token" and node_objects.token_secret(service) is None:
        wrong["NoTokens"] = f"{node_objects.ACCESS} token without {node_objects.ACCESS_SECRET}: no request is answered"
    return wrong


class Publications:
    """Says each fault once for each change of it."""

    def __init__(self, state: EdgeState) -> None:
        self._state = state
        self._told: dict[str, Faults] = {}  # by uid
        self.queue: WorkQueue[str] = WorkQueue(f"published Services of {state.tenant}", self._look)

    def service_changed(self, before: Object | None, after: Object | None) -> None:
        """A Service came, went or is another; also each that is known at the start."""
        if any(obj is not None and node_objects.publishes(obj) for obj in (before, after)):
            self.queue.add_after("", _TOGETHER)

    async def _look(self, _: str) -> None:
        now = faults(self._state.services)
        for uid, (service, wrong) in now.items():
            told = self._told.get(uid, {})
            for reason, message in wrong.items():
                if told.get(reason) != message:
                    self._state.recorder.event(
                        SERVICES, service, reason, message, component="edgecontroller", warning=True
                    )
        self._told = {uid: wrong for uid, (_, wrong) in now.items()}
