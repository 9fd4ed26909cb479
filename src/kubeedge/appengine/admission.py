"""Whether a pod that was bound to this node may start beside those that are here, as the kubelet asks once of each.

The scheduler asks the same before; who names a node in a pod passes it by.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kubeedge.api.pod import NotAdmitted, Pod, Port
from kubeedge.appengine.worker import Worker

PORTS_TAKEN = "NodePorts"  # status.reason, in the kubelet's word
_MESSAGE = "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
_ANY = frozenset(("", "0.0.0.0", "::"))


def admit(worker: Worker, pod: Pod, workers: Iterable[Worker], *, known: bool) -> None:
    """Raises NotAdmitted for a new pod that asks for a port of the node which another has. `known`: it is not new, it ran here, or its status was
    reported, before the agent started. One that was refused stays so: by its status it has failed, and others have taken its place."""
    if worker.invalid and worker.invalid_reason == PORTS_TAKEN:
        raise NotAdmitted(PORTS_TAKEN, _MESSAGE, path="spec.containers")
    new = not known and worker.desired is None and worker.reported is None
    if not new or pod.deleting or not (wanted := _ports(pod)):
        return
    for other in workers:
        if other is not worker and other.is_wanted and other.desired is not None and not _has_ended(other):
            if _overlap(wanted, _ports(other.desired)):
                raise NotAdmitted(PORTS_TAKEN, _MESSAGE, path="spec.containers")


def _ports(pod: Pod) -> dict[tuple[str, int], list[str]]:
    """(protocol, port) on the node -> addresses. With hostNetwork the containers have them themselves."""
    found: dict[tuple[str, int], list[str]] = {}
    ports: Iterable[Port] = (port for c in pod.all_containers for port in c.ports if port.host)
    for port in ports:
        found.setdefault((port.protocol, port.host), []).append(port.host_ip)
    return found


def _overlap(one: Mapping[tuple[str, int], list[str]], other: Mapping[tuple[str, int], list[str]]) -> bool:
    for key in one.keys() & other.keys():
        mine, theirs = set(one[key]), set(other[key])
        if mine & theirs or mine & _ANY or theirs & _ANY:
            return True
    return False


def _has_ended(worker: Worker) -> bool:
    return (worker.reported or {}).get("phase") in ("Succeeded", "Failed")
