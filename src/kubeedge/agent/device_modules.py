"""The modules for the devices of a node, made when these are switched on: then alone this file is read."""

from __future__ import annotations

import time
from pathlib import Path

from kubeedge.agent.parts import Parts
from kubeedge.beehive.module import Module
from kubeedge.config.devices import DevicesConfig
from kubeedge.config.forms import loopback_endpoint
from kubeedge.devices.eventbus.module import EventBus
from kubeedge.devices.history.driver import HistoryFiles
from kubeedge.devices.module import DeviceTwins
from kubeedge.devices.scans.module import DeviceScans


def device_modules(parts: Parts) -> list[Module]:
    """In the order in which they start."""
    c, node, state = parts.config.modules.devices, parts.credentials.node, parts.config.paths.state / "devices"
    address, port = loopback_endpoint(c.mqtt)
    history = HistoryFiles(state, c.history_max_mib * 1024 * 1024, c.history_max_days * 86400.0)
    push: list[Module] = []
    if c.push:
        from kubeedge.devices.sinks.module import DevicePush
        from kubeedge.devices.sinks.queue import PushQueue

        queue = PushQueue(state / "push.db", c.push_queue_max_mib * 1024 * 1024, c.push_queue_max_days * 86400.0)
        parts.push = DevicePush(queue, node, c.push_credentials, wall=time.time)
        push.append(parts.push)
    twins = DeviceTwins(parts.store, wall=time.time, history=history, push=parts.push)
    scans = DeviceScans(parts.store, wall=time.time)
    bus = _event_bus(twins, node, (address, port), c, scans)
    if parts.rules is not None:
        parts.rules.publish = bus.publish
    if not c.dmi:
        return [*push, twins, bus, scans]
    from kubeedge.devices.dmi.module import DeviceMappers

    path = Path(c.dmi.removeprefix("unix://"))
    return [*push, twins, bus, scans, DeviceMappers(twins, parts.store, path, reported=bus.reported)]


def _event_bus(
    twins: DeviceTwins, node: str, listen: tuple[str, int], c: DevicesConfig, scans: DeviceScans
) -> EventBus:
    if not c.external_broker.url:
        return EventBus(twins, node, *listen, found=scans.found)
    from kubeedge.devices.eventbus.external import (
        external_broker,
    )  # the library for it is read by those alone that have one

    external = external_broker(c.external_broker, node)
    return EventBus(twins, node, *listen, external=external, found=scans.found)
