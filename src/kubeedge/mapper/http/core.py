"""Which requests read and write the properties of an HTTP device, and what its answers mean. Pure.

The protocol's configData:

    url                      of the device: http://192.168.1.30/api; what the visitors say is below it
    userName, password       for basic authentication; or
    token                    sent as a bearer token
    headers                  name -> text, of each request
    caFile                   a file of the node with the authorities of an https device; the system's without it
    timeout                  milliseconds for an answer (5000)
    pushToken                the device may send values with this bearer token (push.py)

The visitor's configData:

    path                     of the request that reads: "/status?verbose=1" ("")
    pointer                  where the value is in a JSON answer (RFC 6901): "/sensors/0/temperature"; without it the whole text is the value
    push                     true: nothing is read, the device sends the value
    write                    method (PUT), path (as above), body ("{value}"), contentType (application/json) of the request that writes. {value}
                             stands for the value: as JSON in the body, percent-encoded in the path
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from kubeedge.kit.dataclasses import dataclass
from kubeedge.mapper.values import MappedDevice, MappedProperty, TypedValue

MAX_ANSWER = 256 * 1024  # bytes
_MAX_TARGET = 2048  # characters of a request's path
_MAX_HEADERS = 32
_MAX_TEXT = 4096  # characters of a header, and of a body without its value
_HEADER = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}")
_PRINTABLE = re.compile(r"[\x21-\x7e]*")
_LINE = re.compile(r"[\x20-\x7e\x80-\xff]*")
_METHODS = ("GET", "POST", "PUT", "PATCH")
_NOT_OURS = ("host", "content-length", "transfer-encoding", "connection", "te", "trailer", "upgrade", "expect")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class HttpDevice:
    """Where a device is. `base`: what is before each path, without a slash at its end; `timeout` in seconds."""

    host: str
    port: int
    is_tls: bool
    base: str
    headers: tuple[tuple[str, str], ...]
    ca_file: str
    timeout: float

    @property
    def authority(self) -> str:
        """For the header Host."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS["https" if self.is_tls else "http"] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class HttpWrite:
    """The request that writes one value."""

    method: str
    target: str
    body: bytes
    content_type: str


def device_of(device: MappedDevice) -> HttpDevice:
    """Raises Invalid, with the device's name, for a configuration that says nothing that can be asked."""
    config = device.config
    try:
        parts = urlsplit(_text(config, "url"))
        port = parts.port
    except ValueError as exc:
        raise device.invalid(f"url: {exc}") from exc
    if parts.scheme not in _PORTS or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise device.invalid(
            "url must be http://HOST[:PORT][/PATH] or https://..., without a query, a user or a fragment"
        )
    if (
        not _PRINTABLE.fullmatch(parts.path)
        or len(parts.path) > _MAX_TARGET
        or not _PRINTABLE.fullmatch(parts.hostname)
    ):
        raise device.invalid("url has characters that no URL has")
    ca_file = _text(config, "caFile")
    if ca_file and not ca_file.startswith("/"):
        raise device.invalid("caFile must be an absolute path")
    timeout = device.number("timeout", 10, 60_000, 5000) / 1000
    base, number = parts.path.rstrip("/"), port or _PORTS[parts.scheme]
    return HttpDevice(parts.hostname, number, parts.scheme == "https", base, _headers(device), ca_file, timeout)


def _headers(device: MappedDevice) -> tuple[tuple[str, str], ...]:
    given = device.config.get("headers") or {}
    if not isinstance(given, Mapping) or len(given) > _MAX_HEADERS:
        raise device.invalid(f"headers must be an object of at most {_MAX_HEADERS} texts")
    found = [(str(name), value) for name, value in given.items()]
    user, password, token = (_text(device.config, key) for key in ("userName", "password", "token"))
    if user or password:
        found.append(("Authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()))
    elif token:
        found.append(("Authorization", f"Bearer {token}"))
    for name, value in found:
        if not _HEADER.fullmatch(name) or name.lower() in _NOT_OURS:
            raise device.invalid(f"headers: {name[:64]!r} cannot be set")
        if not isinstance(value, str) or len(value) > _MAX_TEXT or not _LINE.fullmatch(value):
            raise device.invalid(f"headers: {name} is no line of text")  # its value may be a secret
    return tuple(found)


def _text(config: Mapping[str, Any], key: str) -> str:
    value = config.get(key)
    return value if isinstance(value, str) else ""


def push_token(device: MappedDevice) -> str:
    """The token with which the device sends values; "": it sends none."""
    return _text(device.config, "pushToken")


def reading(device: HttpDevice, prop: MappedProperty) -> str:
    """The target of the request that reads a property. Raises Invalid."""
    return _target(device, prop, prop.visitor.get("path", ""))


def writing(device: HttpDevice, prop: MappedProperty, value: TypedValue) -> HttpWrite:
    """The request that gives a property this value. Raises Invalid for a visitor that cannot say it."""
    given = prop.visitor.get("write", {})
    if not isinstance(given, Mapping):
        raise prop.invalid("write must be an object")
    method = str(given.get("method") or "PUT").upper()
    if method not in _METHODS:
        raise prop.invalid(f"write.method must be one of {', '.join(_METHODS)}")
    body, kind = given.get("body", "" if method == "GET" else "{value}"), given.get("contentType", "application/json")
    if not isinstance(body, str) or len(body) > _MAX_TEXT:
        raise prop.invalid(f"write.body must be a text of at most {_MAX_TEXT} characters")
    if not isinstance(kind, str) or len(kind) > 128 or not _LINE.fullmatch(kind):
        raise prop.invalid("write.contentType is no line of text")
    plain = prop.text(value)
    as_json = json.dumps(plain if isinstance(value, bytes) else value)
    target = _target(device, prop, given.get("path", prop.visitor.get("path", "")), plain)
    return HttpWrite(method, target, body.replace("{value}", as_json).encode(), kind)


def _target(device: HttpDevice, prop: MappedProperty, path: Any, value: str = "") -> str:
    if not isinstance(path, str) or not _PRINTABLE.fullmatch(path):
        raise prop.invalid("path must be a text without spaces")
    if path and path[0] not in "/?":
        path = f"/{path}"
    target = (device.base + path.replace("{value}", quote(value, safe=""))) or "/"
    target = f"/{target}" if target.startswith("?") else target
    if len(target) > _MAX_TARGET:
        raise prop.invalid(f"its request has more than {_MAX_TARGET} characters")
    return target
