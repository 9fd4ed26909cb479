"""Probes and lifecycle hooks of a container from their JSON. Raises Invalid with the field's path, Unsupported for what no node does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kubeedge.api.json_fields import UnknownValue, mapping_of, read, read_choice, read_list, read_mapping, read_texts
from kubeedge.api.pod import Hook, Probe
from kubeedge.errors import Invalid

_MAX_GRACE = 365 * 24 * 3600  # seconds; longer is a mistake
_HEADER_NAME = re.compile(r"[-A-Za-z0-9]+")  # as Kubernetes has it
_HEADER_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_HOST = re.compile(r"[!-~]{0,253}")
_SETTINGS = frozenset(
    (
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
        "terminationGracePeriodSeconds",
    )
)  # of a probe, beside its action
_ACTIONS = ("exec", "httpGet", "tcpSocket", "grpc")


def probe(item: Any, path: str) -> Probe | None:
    """A Probe v1; None when there is none."""
    if item is None:
        return None
    p = mapping_of(item, path)
    return _action(
        p,
        path,
        {
            "initial_delay": float(read(p, "initialDelaySeconds", int, path, 0)),
            "period": float(read(p, "periodSeconds", int, path, 10) or 10),
            "timeout": float(read(p, "timeoutSeconds", int, path, 1) or 1),
            "failure_threshold": read(p, "failureThreshold", int, path, 3) or 3,
            "success_threshold": read(p, "successThreshold", int, path, 1) or 1,
            "grace": _grace(p, path),
        },
    )


def hook(lifecycle: Mapping[str, Any], name: str, path: str) -> Hook | None:
    """A LifecycleHandler v1, "postStart" or "preStop"; None when there is none."""
    where = f"{path}.lifecycle.{name}"
    handler = read_mapping(lifecycle, name, f"{path}.lifecycle")
    if not handler:
        return None
    if "sleep" in handler:
        return Hook(None, seconds(read_mapping(handler, "sleep", where).get("seconds", 0), f"{where}.sleep.seconds"))
    if "grpc" in handler or not any(kind in handler for kind in _ACTIONS):
        if unknown := handler.keys() - {"grpc", *_ACTIONS}:
            raise UnknownValue(f"{min(unknown)!r:.60} is none of exec, httpGet, tcpSocket and sleep", path=where)
        raise Invalid("must have one of exec, httpGet, tcpSocket and sleep", path=where)
    return Hook(_action(handler, where, {}))


def seconds(value: Any, path: str) -> float:
    """A grace period; 30 when it is None."""
    if value is None:
        return 30.0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_GRACE:
        raise Invalid(f"{value!r:.60} is not a number of seconds", path=path)
    return float(value)


def _action(p: Mapping[str, Any], path: str, common: Mapping[str, Any]) -> Probe:
    if "exec" in p:
        return Probe("exec", tuple(read_texts(read_mapping(p, "exec", path), "command", path) or ()), **common)
    if "httpGet" in p:
        h = read_mapping(p, "httpGet", path)
        return Probe(
            "http",
            path=read(h, "path", str, f"{path}.httpGet", "") or "/",
            port=_port(h, path),
            host=_host(h, f"{path}.httpGet"),
            headers=tuple(_header(x, path) for x in read_list(h, "httpHeaders", path)),
            tls=read_choice(h, "scheme", f"{path}.httpGet", ("HTTP", "HTTPS")) == "HTTPS",
            **common,
        )
    if "tcpSocket" in p:
        t = read_mapping(p, "tcpSocket", path)
        return Probe("tcp", port=_port(t, path), host=_host(t, f"{path}.tcpSocket"), **common)
    if "grpc" in p:
        g = read_mapping(p, "grpc", path)
        if not isinstance(g.get("port"), int):
            raise Invalid(f"{g.get('port')!r:.60} is not a number", path=f"{path}.grpc.port")
        return Probe("grpc", port=_port(g, path), service=read(g, "service", str, path, ""), **common)
    if unknown := p.keys() - _SETTINGS:
        raise UnknownValue(f"{min(unknown)!r:.60} is none of exec, httpGet, tcpSocket and grpc", path=path)
    raise Invalid("must have one of exec, httpGet, tcpSocket and grpc", path=path)


def _host(values: Mapping[str, Any], path: str) -> str:
    """The host of an HTTP probe, which becomes its Host header. Raises Invalid."""
    host = read(values, "host", str, path, "")
    if not _HOST.fullmatch(host):
        raise Invalid(f"{host!r:.60} is not a host", path=f"{path}.host")
    return host


def _header(item: Any, path: str) -> tuple[str, str]:
    """Kubernetes accepts any value, and its probes fail with one that has control characters (RFC 9110 section 5.5)."""
    where = f"{path}.httpGet.httpHeaders"
    header = mapping_of(item, where)
    name, value = read(header, "name", str, where, ""), read(header, "value", str, where, "").strip(" \t")
    if not _HEADER_NAME.fullmatch(name):
        raise Invalid(f"{name!r:.60} is not the name of a header", path=f"{where}.name")
    if not _HEADER_VALUE.fullmatch(value):
        raise Invalid(f"{value!r:.60} is not the value of a header", path=f"{where}.value")
    return name, value


def _grace(p: Mapping[str, Any], path: str) -> float | None:
    value = p.get("terminationGracePeriodSeconds")
    return None if value is None else seconds(value, f"{path}.terminationGracePeriodSeconds")


def _port(values: Mapping[str, Any], path: str) -> int | str:
    port = values.get("port", 0)
    if isinstance(port, bool) or not isinstance(port, int | str) or (isinstance(port, int) and not 0 < port < 65536):
        raise Invalid(f"{port!r:.60} is not a port", path=f"{path}.port")
    return port
