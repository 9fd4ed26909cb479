"""What others see of the devices of plugins, without anything that speaks with plugins."""

from __future__ import annotations

from typing import NamedTuple

from kubeedge.appengine.runtime.base import StartError

DEVICES_NOT_READY = (
    "UnexpectedAdmissionError"  # what a container waits with; the kubelet refuses the pod for good, with this reason
)


class DevicesNotReady(StartError):
    """A plugin is not here, has too few devices, or refused."""

    def __init__(self, message: str) -> None:
        super().__init__(DEVICES_NOT_READY, message)


class ResourceCount(NamedTuple):
    """Of an extended resource: all devices, and those that are healthy."""

    capacity: int
    allocatable: int
