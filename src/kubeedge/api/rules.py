"""Rules of KubeEdge's router (rules.kubeedge.io): their resources, what their objects may say, and which one a path is for. Pure.

Lives elsewhere: the fields (schema_table.py); the columns of `kubectl get` (kubeedge.apiserver.rules); calls (kubeedge.apiserver.rule_calls).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from kubeedge.api.client import Resource
from kubeedge.api.names import Object
from kubeedge.api.status import FieldError, invalid, required, unsupported
from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass

GROUP = "rules.kubeedge.io"
RULES = Resource(GROUP, "v1", "rules", "Rule")
RULEENDPOINTS = Resource(GROUP, "v1", "ruleendpoints", "RuleEndpoint")

REST, EVENTBUS, SERVICEBUS = TYPES = ("rest", "eventbus", "servicebus")
MAX_TEXT = 1024  # characters of a path or a topic
#: before a target URL: the topic, among messages for the cloud, of what a program has asked of the ServiceBus; no program can publish there
SERVICES = "$servicebus/"
METHODS = ("POST", "PUT", "PATCH", "DELETE", "GET")  # that a program may ask of a REST endpoint
STATUS = "x-kubeedge-status"  # header of an answer on its way back to a program: what the endpoint answered
MAX_ANSWER = 64 * 1024  # bytes of it
_ASK = re.compile(r"[0-9a-f]{32}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\]")


def encode_request(method: str, ask: str, body: bytes) -> bytes:
    """What a program has asked of the ServiceBus, as the payload of a message. `ask`: 32 hexadecimal digits by which an answer comes back; "": none."""
    return f"{method}{f' {ask}' if ask else ''}\n".encode() + body


def decode_request(payload: bytes) -> tuple[str, str, bytes]:
    """(method, ask, body) of encode_request. Raises Invalid."""
    first, _, body = payload.partition(b"\n")
    method, _, ask = first[:64].decode("ascii", "replace").partition(" ")
    if method not in METHODS or (ask and not _ASK.fullmatch(ask)):
        raise Invalid(f"{first[:64]!r} is none of {', '.join(METHODS)}")
    return method, ask, body


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


@dataclass(frozen=True, slots=True)
class RestTarget:
    """A REST endpoint: `host` without the brackets of IPv6, `path` with its query."""

    is_tls: bool
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """As a Host header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.is_tls else 80) else f"{host}:{self.port}"


def rest_target(text: str) -> RestTarget:
    """The parts of http(s)://HOST[:PORT][/PATH][?QUERY]. Raises Invalid."""
    scheme, colon, rest = text.partition("://")
    if scheme not in ("http", "https") or not colon or len(text) > MAX_TEXT:
        raise Invalid(f"{text[:200]!r} is not http://HOST/PATH or https://HOST/PATH")
    end = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
    authority, path = rest[:end], rest[end:]
    host, port = authority, ""
    if ":" in authority.rpartition("]")[2]:
        host, _, port = authority.rpartition(":")
    if not _HOST.fullmatch(host) or (
        port and not (port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65536)
    ):
        raise Invalid(f"{text[:200]!r} has no host and port that can be asked")
    if not path.isascii() or not path.isprintable() or any(c in path for c in " #\\"):
        raise Invalid(f"the path of {text[:200]!r} must be as it is sent: printable ASCII, without spaces and '#'")
    path = path if path.startswith("/") else f"/{path}"
    return RestTarget(
        scheme == "https", host.strip("[]"), int(port) if port else 443 if scheme == "https" else 80, path
    )


def is_topic_filter(text: str) -> bool:
    """A filter of MQTT topics, none of the node's own."""
    levels = text.split("/")
    return (
        0 < len(text) <= MAX_TEXT
        and not text.startswith("$")
        and all(level in ("+", "#") or not {"+", "#"} & set(level) for level in levels)
        and "#" not in levels[:-1]
    )


def topic_matches(wanted: str, topic: str) -> bool:
    """A topic is one of those that a filter means (MQTT 5, 4.7)."""
    if topic.startswith("$") and not wanted.startswith("$"):
        return False
    have = topic.split("/")
    levels = wanted.split("/")
    for index, level in enumerate(levels):
        if level == "#":
            return True
        if index >= len(have) or level not in ("+", have[index]):
            return False
    return len(levels) == len(have)


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
