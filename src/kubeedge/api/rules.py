"""Rules of KubeEdge's router (rules.kubeedge.io): their resources, what their objects may say, and which one a path is for. Pure.

Lives elsewhere: the fields (schema_table.py); the columns of `kubectl get` (kubeedge.apiserver.rules); calls (kubeedge.apiserver.rule_calls).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kubeedge.api.client import Resource
from kubeedge.api.names import Object
from kubeedge.api.status import FieldError, invalid, required, unsupported

GROUP = "rules.kubeedge.io"
RULES = Resource(GROUP, "v1", "rules", "Rule")
RULEENDPOINTS = Resource(GROUP, "v1", "ruleendpoints", "RuleEndpoint")

REST, EVENTBUS, SERVICEBUS = TYPES = ("rest", "eventbus", "servicebus")
MAX_TEXT = 1024  # characters of a path or a topic


def endpoint(obj: Object) -> list[FieldError]:
    """Rules of a RuleEndpoint beyond its types."""
    spec = obj.get("spec") or {}
    if (kind := spec.get("ruleEndpointType")) not in TYPES:
        return [unsupported("spec.ruleEndpointType", kind, TYPES)]
    if kind == SERVICEBUS and not service_port(obj):
        port = (spec.get("properties") or {}).get("service_port")
        return [invalid("spec.properties.service_port", port, "must be a port, 1 to 65535, as text")]
    return []


def rule(obj: Object) -> list[FieldError]:
    """Rules of a Rule beyond its types. Whether its endpoints are there is looked at when it is used: they may come later."""
    spec = obj.get("spec") or {}
    errors = [
        required(f"spec.{name}", "the name of a RuleEndpoint") for name in ("source", "target") if not spec.get(name)
    ]
    for side in ("sourceResource", "targetResource"):
        resource = spec.get(side)
        if not resource:
            errors.append(required(f"spec.{side}"))
            continue
        errors += [
            invalid(f"spec.{side}.{name}", str(text)[:64], f"must have at most {MAX_TEXT} printable characters")
            for name, text in resource.items()
            if len(str(text)) > MAX_TEXT or not str(text).isprintable()
        ]
    return errors


def kind_of(obj: Object) -> str:
    """The type of a RuleEndpoint."""
    return str((obj.get("spec") or {}).get("ruleEndpointType") or "")


def service_port(obj: Object) -> int:
    """The port of a RuleEndpoint of type servicebus; 0: it has none."""
    text = str(((obj.get("spec") or {}).get("properties") or {}).get("service_port") or "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 and 0 < int(text) < 65536 else 0


def text_of(obj: Object, side: str, name: str) -> str:
    """A text of sourceResource or targetResource."""
    return str(((obj.get("spec") or {}).get(side) or {}).get(name) or "")


def for_path(found: Iterable[Object], path: str) -> list[tuple[Object, str]]:
    """The rules with a path that begins this one (both without "/" in front), with what is left of it: the longest path first."""
    matching: list[tuple[int, Object, str]] = []
    for obj in found:
        own = text_of(obj, "sourceResource", "path").strip("/")
        if own and (path == own or path.startswith(f"{own}/")):
            matching.append((-len(own), obj, path[len(own) :]))
    return [(obj, rest) for _, obj, rest in sorted(matching, key=lambda one: one[0])]


def counted(obj: Object, successes: int, failures: int, errors: list[str], keep: int) -> Object:
    """A Rule whose status counts so many messages more."""
    status: dict[str, Any] = dict(obj.get("status") or {})
    for name, more in (("successMessages", successes), ("failMessages", failures)):
        before = status.get(name)
        status[name] = (before if isinstance(before, int) else 0) + more
    if errors:
        status["errors"] = [*(status.get("errors") or ()), *errors][-keep:]
    return {**obj, "status": status}
