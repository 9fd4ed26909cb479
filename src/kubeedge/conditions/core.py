"""The conditions KubeBusReady, ContainerRuntimeReady, SecretsEncrypted, ServiceProxyReady, NetworkPolicyReady and PodIPv6Ready of this node, and those of pressure. Pure.

Links may be down while the hub's channel is up, so the node has to report it. Only what lasts is reported: a link that is replaced within a few
seconds is not worth it, and each report is a write to flash.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

from kubeedge.store.sealing_status import SealingStatus

Condition: TypeAlias = dict[str, str]

KUBEBUS = "KubeBusReady"
RUNTIME = "ContainerRuntimeReady"
ENCRYPTION = "SecretsEncrypted"
PRESSURES = ("MemoryPressure", "DiskPressure", "PIDPressure")
SERVICES = "ServiceProxyReady"
POLICIES = "NetworkPolicyReady"
IPV6 = "PodIPv6Ready"
DOWN_FOR = 10.0  # seconds without a link before it is reported


class Bus(Protocol):
    """What KubeBus says of itself (kubebus.core.BusStatus)."""

    @property
    def up(self) -> bool:
        """There is a link to a relay."""
        ...

    @property
    def since(self) -> float:
        """Loop time of the last change of `up`."""
        ...

    @property
    def relay(self) -> str:
        """ "host:port" of the current or the last one."""
        ...

    @property
    def last_error(self) -> str:
        """Why the last attempt or link failed; "" when none did."""
        ...

    @property
    def conflicts(self) -> Sequence[str]:
        """Networks of this machine that have addresses of the overlay."""
        ...

    @property
    def shadowed(self) -> bool:
        """Because of one of them the overlay is not reached."""
        ...


def of_bus(bus: Bus, reported: Condition | None, now: float) -> Condition | None:
    """The condition to report; None while what was `reported` still holds."""
    if bus.up and bus.conflicts:
        new = _condition(KUBEBUS, not bus.shadowed, "AddressConflict", "; ".join(bus.conflicts))
    elif bus.up:
        new = _condition(KUBEBUS, True, "LinkUp", f"linked to relay {bus.relay}")
    elif now - bus.since >= DOWN_FOR:
        new = _condition(KUBEBUS, False, "NoLink", f"no link to a relay: {bus.last_error or 'no relay answers'}")
        if reported is not None and reported["reason"] == "NoLink":
            return None  # each attempt may fail with another message
    else:
        return None
    return new if new != reported else None


def of_runtime(not_ready: str, reported: Condition | None) -> Condition | None:
    """`not_ready`: why no container can start, "" when they can. None: what was `reported` is still right."""
    if not_ready:
        new = _condition(RUNTIME, False, "ContainerRuntimeNotReady", not_ready)
    else:
        new = _condition(RUNTIME, True, "ContainerRuntimeReady", "containers can start")
    return new if new != reported else None


def of_encryption(sealing: SealingStatus, reported: Condition | None) -> Condition | None:
    """The condition of the store as it was opened; None while what was `reported` still holds."""
    if sealing.unreadable:
        why = sealing.problem or "none of the configured keys is theirs"
        text = f"{sealing.unreadable} values cannot be decrypted until the agent starts with their key: {why}"
        new = _condition(ENCRYPTION, False, "KeyMissing", text)
    elif sealing.enabled and not sealing.lasting:
        new = _condition(ENCRYPTION, False, "KeyMissing" if sealing.key else "NotEncrypted", sealing.problem)
    elif sealing.problem:
        new = _condition(ENCRYPTION, False, "NotRewritten", sealing.problem)
    else:
        new = _condition(ENCRYPTION, True, "Encrypted", f"encrypted with the key {sealing.key}")
    return new if new != reported else None


def of_pressure(now: Condition, reported: Condition | None) -> Condition | None:
    """`now`: MemoryPressure, DiskPressure or PIDPressure. Before the first pressure nothing is reported: the cloud takes its absence for
    granted."""
    if reported is None and now["status"] == "False":
        return None
    return now if now != reported else None


def of_mesh(problem: str | None, reported: Condition | None) -> Condition | None:
    """`problem`: why Services do not work here, "" when they do, None when it is not known yet. None: what was `reported` is still right."""
    if problem is None:
        return None
    if problem:
        new = _condition(SERVICES, False, "NotProgrammed", problem)
    else:
        new = _condition(SERVICES, True, "Programmed", "names and addresses of Services work")
    return new if new != reported else None


def of_policy(problem: str | None, reported: Condition | None) -> Condition | None:
    """The same for NetworkPolicies. None: what was `reported` is still right."""
    if problem is None:
        return None
    if problem:
        new = _condition(POLICIES, False, "NotEnforced", problem)
    else:
        new = _condition(POLICIES, True, "Enforced", "network policies of pods are enforced")
    return new if new != reported else None


def of_ipv6(problem: str, reported: Condition | None) -> Condition | None:
    """`problem`: why pods of this node have no IPv6, though the cloud has addresses for them; "" when they have. None: what was `reported` is still
    right."""
    if problem:
        new = _condition(IPV6, False, "NoIPv6", problem)
    else:
        new = _condition(IPV6, True, "DualStack", "pods have addresses of IPv4 and IPv6")
    return new if new != reported else None


def _condition(kind: str, status: bool, reason: str, message: str) -> Condition:
    return {"type": kind, "status": str(status), "reason": reason, "message": message[:256]}
