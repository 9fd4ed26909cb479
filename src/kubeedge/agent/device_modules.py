"""The modules for the devices of a node, made when these are switched on: then alone this file is read."""

from __future__ import annotations

import logging
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING

from kubeedge.agent.parts import Parts
from kubeedge.beehive.module import Module
from kubeedge.config.devices import DevicesConfig
from kubeedge.config.forms import ip_endpoint, loopback_endpoint, method_server
from kubeedge.devices.eventbus.module import EventBus
from kubeedge.devices.history.driver import HistoryFiles
from kubeedge.devices.methods.driver import DeviceMethods
from kubeedge.devices.module import DeviceTwins
from kubeedge.devices.scans.module import DeviceScans
from kubeedge.errors import Invalid
from kubeedge.mqtt.admission import MqttListener

if TYPE_CHECKING:
    from kubeedge.devices.eventbus.logins import MqttLogins

log = logging.getLogger("kubeedge.agent")


def _since_boot() -> float:
    """Seconds since this machine's start, its sleep included: no clock changes that."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def device_modules(parts: Parts) -> list[Module]:
    """In the order in which they start."""
    c, node, state = parts.config.modules.devices, parts.credentials.node, parts.config.paths.state / "devices"
    address, port = loopback_endpoint(c.mqtt)
    history = HistoryFiles(state, c.history_max_mib * 1024 * 1024, c.history_max_days * 86400.0, _since_boot)
    push: list[Module] = []
    if c.push:
        from kubeedge.devices.sinks.module import DevicePush
        from kubeedge.devices.sinks.queue import PushQueue

        most, age = c.push_queue_max_mib * 1024 * 1024, c.push_queue_max_days * 86400.0
        queue = PushQueue(state / "push.db", most, age, _since_boot)
        parts.push = DevicePush(queue, node, c.push_credentials, wall=time.time, store=parts.store)
        push.append(parts.push)
    twins = DeviceTwins(parts.store, wall=time.time, history=history, push=parts.push)
    if parts.push is not None:
        parts.push.named = twins.destinations
    parts.methods = DeviceMethods(twins, dict(map(method_server, c.method_servers)))
    if c.messages:
        from kubeedge.devices.upstream.module import MessageUpstream
        from kubeedge.devices.upstream.queue import UpstreamQueue

        most, age = c.messages_max_mib * 1024 * 1024, c.messages_max_days * 86400.0
        waiting = UpstreamQueue(state / "messages.db", most, age, _since_boot)
        parts.upstream = MessageUpstream(parts.store, waiting, wall=time.time)
        push.append(parts.upstream)
        if c.service_bus:
            from kubeedge.devices.servicebus.module import ServiceBus

            where = loopback_endpoint(c.service_bus)
            parts.service_bus = ServiceBus(parts.upstream, *where, timeout=c.service_bus_timeout)
            push.append(parts.service_bus)
    scans = DeviceScans(parts.store, wall=time.time)
    bus = _event_bus(twins, parts, (address, port), c, scans)
    parts.twins, parts.events = twins, bus
    if parts.rules is not None:
        parts.rules.publish = bus.publish
    mappers = _mappers(c, (address, port))
    if not c.dmi:
        return [*push, twins, bus, scans, *mappers]
    from kubeedge.devices.dmi.module import DeviceMappers

    path = Path(c.dmi.removeprefix("unix://"))
    return [*push, twins, bus, scans, DeviceMappers(twins, parts.store, path, reported=bus.reported), *mappers]


def _mappers(c: DevicesConfig, broker: tuple[str, int]) -> list[Module]:
    """At the agent's own broker they are root's program, whatever users it has; at somebody else's they log in as the agent does."""
    if not c.mappers:
        return []
    from kubeedge.devices.mappers.module import MapperProcess, argv_of

    protocols, of = list(dict.fromkeys(c.mappers)), c.external_broker
    if not of.url:
        return [MapperProcess(argv_of(protocols, f"{broker[0]}:{broker[1]}"))]
    files = {"ca-file": of.ca_file, "cert-file": of.cert_file, "key-file": of.key_file}
    login = {"user": of.user_name, "password-file": of.password_file, **files}
    return [MapperProcess(argv_of(protocols, of.url, login))]


def _event_bus(
    twins: DeviceTwins, parts: Parts, listen: tuple[str, int], c: DevicesConfig, scans: DeviceScans
) -> EventBus:
    node, upstream = parts.credentials.node, parts.upstream
    if not c.external_broker.url:
        logins, lan = _logins(twins, c), _lan(c)
        return EventBus(
            twins, node, *listen, upstream=upstream, methods=parts.methods, logins=logins, lan=lan, found=scans.found
        )
    from kubeedge.devices.eventbus.external import (
        external_broker,
    )  # the library for it is read by those alone that have one

    external = external_broker(c.external_broker, node, messages=upstream is not None)
    return EventBus(
        twins, node, *listen, external=external, upstream=upstream, methods=parts.methods, found=scans.found
    )


def _logins(twins: DeviceTwins, c: DevicesConfig) -> MqttLogins | None:
    if c.mqtt_users is None:
        return None
    from kubeedge.devices.eventbus.logins import MqttLogins

    return MqttLogins(c.mqtt_users, lambda: twins.twins)


def _lan(c: DevicesConfig) -> MqttListener | None:
    """Raises Invalid for a listener that would let everyone in, or has no certificate."""
    if not c.mqtt_tls.listen:
        return None
    certificate, key = c.mqtt_tls.cert_file, c.mqtt_tls.key_file
    authorities = c.mqtt_tls.client_ca_file
    if c.mqtt_users is None or certificate is None or key is None:
        raise Invalid("modules.devices.mqttTls needs certFile, keyFile and modules.devices.mqttUsers")

    shown = ", ".join(str(path) for path in (certificate, key, authorities) if path is not None)

    def context() -> ssl.SSLContext:
        found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        found.minimum_version = ssl.TLSVersion.TLSv1_2
        found.load_cert_chain(certificate, key, password="")  # nobody is there to type one
        if authorities is not None:
            found.load_verify_locations(authorities)
            found.verify_mode = ssl.CERT_OPTIONAL  # who shows none has a password
        return found

    try:
        context()
    except (OSError, ValueError) as exc:
        log.error("mqttTls: nobody gets in with %s: %s", shown, exc)
    return MqttListener(*ip_endpoint(c.mqtt_tls.listen), context)
