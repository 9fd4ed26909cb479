"""Variables of a container's environment for the Services of its namespace. Pure.

web: 10.96.0.7, ports http 80/TCP and 53/UDP
WEB_SERVICE_HOST  WEB_SERVICE_PORT  WEB_SERVICE_PORT_HTTP   what Kubernetes documents for finding Services without DNS
WEB_PORT  WEB_PORT_80_TCP  WEB_PORT_80_TCP_{PROTO,PORT,ADDR}  the same in the form of Docker's links, for programs that are as old
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kubeedge.api.names import Object


def variables(services: Iterable[Object]) -> dict[str, str]:
    """The environment variables for Services that have an address of their own; others are passed over."""
    env: dict[str, str] = {}
    for service in services:
        spec = service.get("spec") or {}
        address, ports = str(spec.get("clusterIP") or "None"), _ports(spec)
        if address != "None" and ports:
            env.update(_of_service(_variable(service["metadata"]["name"]), address, ports))
    return env


def _ports(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [port for port in spec.get("ports") or () if isinstance(port, dict) and isinstance(port.get("port"), int)]


def _of_service(name: str, address: str, ports: list[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    yield f"{name}_SERVICE_HOST", address
    yield f"{name}_SERVICE_PORT", str(ports[0]["port"])
    yield f"{name}_PORT", _url(address, ports[0])
    for port in ports:
        if port.get("name"):
            yield f"{name}_SERVICE_PORT_{_variable(port['name'])}", str(port["port"])
        link = f"{name}_PORT_{port['port']}_{_protocol(port)}"
        yield link, _url(address, port)
        yield f"{link}_PROTO", _protocol(port).lower()
        yield f"{link}_PORT", str(port["port"])
        yield f"{link}_ADDR", address


def _variable(name: str) -> str:
    return name.upper().replace("-", "_")


def _protocol(port: Mapping[str, Any]) -> str:
    return str(port.get("protocol") or "TCP")


def _url(address: str, port: Mapping[str, Any]) -> str:
    host = f"[{address}]" if ":" in address else address
    return f"{_protocol(port).lower()}://{host}:{port['port']}"
