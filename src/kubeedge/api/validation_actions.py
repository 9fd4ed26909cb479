"""Rules of what is done to a container: its probes and hooks. Called with types checked and defaults filled.

Lives elsewhere: the rest of a pod (validation.py); what a node makes of an action (probe_parser.py).
"""

from __future__ import annotations

import re

from kubeedge.api.findings import Findings
from kubeedge.api.names import Object
from kubeedge.api.status import FieldError, forbidden, invalid, required, unsupported
from kubeedge.api.validation_names import PORT_NAME, as_list, as_map, port_number

_HEADER_NAME = re.compile(r"[-A-Za-z0-9]+")
_PROBES = ("exec", "httpGet", "tcpSocket", "grpc")
_HOOKS = ("exec", "httpGet", "tcpSocket", "sleep")
_COUNTS = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")


def actions(container: Object, path: str) -> list[FieldError]:
    """Errors of the probes and lifecycle hooks of a container at `path`."""
    errors: list[FieldError] = Findings()
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if isinstance(container.get(name), dict):
            errors += _probe(container[name], f"{path}.{name}", ready=name == "readinessProbe")
    for name in ("postStart", "preStop"):
        if isinstance(hook := as_map(container.get("lifecycle")).get(name), dict):
            errors += _handler(hook, f"{path}.lifecycle.{name}", _HOOKS)
    return errors


def _probe(probe: Object, path: str, *, ready: bool) -> list[FieldError]:
    errors: list[FieldError] = Findings(_handler(probe, path, _PROBES))
    for name in _COUNTS:
        if isinstance(probe.get(name), int) and probe[name] < 0:
            errors.append(invalid(f"{path}.{name}", probe[name], "must be greater than or equal to 0"))
    if not ready and probe.get("successThreshold") not in (None, 1):
        errors.append(invalid(f"{path}.successThreshold", probe["successThreshold"], "must be 1"))
    grace, where = probe.get("terminationGracePeriodSeconds"), f"{path}.terminationGracePeriodSeconds"
    if grace is not None and ready:
        errors.append(invalid(where, grace, "must not be set for readinessProbes"))
    elif grace is not None and grace <= 0:
        errors.append(invalid(where, grace, "must be greater than 0"))
    return errors


def _handler(handler: Object, path: str, kinds: tuple[str, ...]) -> list[FieldError]:
    found = [name for name in kinds if isinstance(handler.get(name), dict)]
    errors: list[FieldError] = Findings()
    if not found:
        errors.append(required(path, "must specify a handler type"))
    elif len(found) > 1:
        errors.append(forbidden(f"{path}.{found[1]}", "may not specify more than 1 handler type"))
    for name in found:
        errors += _RULES[name](handler[name], f"{path}.{name}")
    return errors


def _exec(action: Object, path: str) -> list[FieldError]:
    return [] if action.get("command") else [required(f"{path}.command")]


def _http_get(action: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = Findings(_port(action, path))
    if action.get("scheme") not in (None, "HTTP", "HTTPS"):
        errors.append(unsupported(f"{path}.scheme", action.get("scheme"), ("HTTP", "HTTPS")))
    for header in as_list(action.get("httpHeaders")):
        if not _HEADER_NAME.fullmatch(str(header.get("name") or "")):
            message = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name')"
            errors.append(invalid(f"{path}.httpHeaders", header.get("name") or "", message))
    return errors


def _port(action: Object, path: str) -> list[FieldError]:
    port, where = action.get("port"), f"{path}.port"
    if port is None:
        return [required(where)]
    if isinstance(port, int):
        return port_number(where, port)
    if len(port) > 15 or not PORT_NAME.fullmatch(port):
        return [invalid(where, port, "must be a port number or the name of a container port")]
    return []


def _sleep(action: Object, path: str) -> list[FieldError]:
    seconds = action.get("seconds", 0)
    return [invalid(f"{path}.seconds", seconds, "must be greater than or equal to 0")] if seconds < 0 else []


_RULES = {"exec": _exec, "httpGet": _http_get, "tcpSocket": _port, "grpc": _port, "sleep": _sleep}
