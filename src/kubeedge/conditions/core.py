"""The condition KubeBusReady of this node. Pure.

Links may be down while the hub's channel is up, so the cloud has to be told. Only what lasts is said: a link that is replaced within a few
seconds is no news, and each report is a write to flash.
"""

from __future__ import annotations

from typing import Protocol

TYPE = "KubeBusReady"
DOWN_FOR = 10.0  # seconds without a link before it is said


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


def condition(bus: Bus, said: dict[str, str] | None, now: float) -> dict[str, str] | None:
    """What is to be said; None: what was `said` is still right."""
    if bus.up:
        new = {"type": TYPE, "status": "True", "reason": "LinkUp", "message": f"linked to relay {bus.relay}"}
    elif now - bus.since >= DOWN_FOR:
        why = bus.last_error or "no relay answers"
        new = {"type": TYPE, "status": "False", "reason": "NoLink", "message": f"no link to a relay: {why}"[:256]}
        if said is not None and said["status"] == "False":
            return None  # each attempt may fail in its own words
    else:
        return None
    return new if new != said else None
