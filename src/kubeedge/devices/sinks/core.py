"""Where values of a property go: `pushMethod` of a Device as KubeEdge names it, read and checked. Pure.

    http       {hostName, port, requestPath, timeout}            mqtt   {address, topic, qos, retained}
    otel       {endpointURL}
    dbMethod   influxdb2 {influxdb2ClientConfig {url, org, bucket}, influxdb2DataConfig {measurement, tag, fieldKey}}
               redis {redisClientConfig {addr, db}}              TDEngine {TDEngineClientConfig {addr, dbName}}
               mysql {mysqlClientConfig {addr, database, userName}}
               postgres {postgresClientConfig {addr, database, userName}}: ours

A destination is a server with its settings; values for one destination travel together, in the order in which they were reported.
"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Mapping
from typing import Any

from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass

_MAX_SPEC = 4096  # characters of a destination with its settings
_MAX_TIMEOUT = 60.0  # seconds
_TIMEOUT = 10.0
#: name in dbMethod -> name of its settings, those it must have
_DATABASES = {
    "influxdb2": ("influxdb2ClientConfig", ("url", "bucket")),
    "redis": ("redisClientConfig", ("addr",)),
    "TDEngine": ("TDEngineClientConfig", ("addr", "dbName")),
    "mysql": ("mysqlClientConfig", ("addr", "database")),
    "postgres": ("postgresClientConfig", ("addr", "database")),
}
_PORTS = {"redis": 6379, "TDEngine": 6041, "mysql": 3306, "postgres": 5432}


@dataclass(frozen=True, slots=True)
class Destination:
    """A server, how it is spoken to, and what it is told beside the values. `settings` are texts, numbers and tables of texts."""

    kind: str
    host: str
    port: int
    tls: bool
    settings: Mapping[str, Any]

    @property
    def spec(self) -> str:
        """The same text for the same destination; `parsed` reads it."""
        return json.dumps(
            [self.kind, self.host, self.port, self.tls, self.settings], sort_keys=True, separators=(",", ":")
        )

    @property
    def endpoint(self) -> str:
        """HOST:PORT, by which an administrator knows it."""
        return f"{self.host}:{self.port}"

    @property
    def timeout(self) -> float:
        """Seconds that the server has for an answer."""
        return float(self.settings.get("timeout") or _TIMEOUT)


@dataclass(frozen=True, slots=True)
class PushedValue:
    """A value on its way. `number` grows with each value of the node; `time` is in milliseconds since 1970, 0: not known."""

    number: int
    namespace: str
    device: str
    prop: str
    kind: str  # INT, FLOAT, ...
    time: int
    value: str


class ValueRefused(Exception):
    """The destination will never take this value: its text says why."""


def parsed(spec: str) -> Destination:
    """The destination of a text that `Destination.spec` gave."""
    kind, host, port, tls, settings = json.loads(spec)
    return Destination(kind, host, port, tls, settings)


def destinations(push: Any) -> list[Destination]:
    """Those that a pushMethod names. Raises Invalid for one that cannot be."""
    if not isinstance(push, dict):
        raise Invalid("pushMethod must be an object")
    found = []
    for name, read in _WAYS.items():
        if isinstance(settings := push.get(name), dict):
            found.append(read(settings))
    databases = push.get("dbMethod")
    for name, (client, needed) in _DATABASES.items():
        if isinstance(databases, dict) and isinstance(method := databases.get(name), dict):
            found.append(_database(name, method, client, needed))
    named = {str(name)[:64]: of for name, of in push.items() if of is not None and name != _OF_MAPPERS}
    if isinstance(databases, dict) and databases:
        named = {**named, **{f"dbMethod.{str(name)[:64]}": of for name, of in databases.items()}}
        del named["dbMethod"]
    names = sorted(named)
    if names and not found:
        raise Invalid(f"pushMethod names none of {', '.join((*_WAYS, *_DATABASES))}, but {', '.join(names[:4])}")
    for one in found:
        if len(one.spec) > _MAX_SPEC:
            raise Invalid(f"pushMethod.{one.kind} has more than {_MAX_SPEC} characters")
    return found


def _text(settings: Mapping[str, Any], name: str, where: str, *, default: str | None = None) -> str:
    value = settings.get(name, default)
    if not isinstance(value, str) or (default is None and not value) or not value.isprintable():
        raise Invalid(f"pushMethod.{where}.{name} must be a text")
    return value


def _number(value: Any, low: int, high: int, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise Invalid(f"pushMethod.{where} must be a number from {low} to {high}")
    return value


def _url(text: str, where: str, ports: Mapping[str, int]) -> tuple[str, int, bool, str]:
    """(host, port, TLS, path with query) of a URL of one of these schemes."""
    try:
        parts = urllib.parse.urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as exc:
        raise Invalid(f"pushMethod.{where} is no URL: {exc}") from exc
    if parts.scheme not in ports or parts.username is not None or not _is_host(host):
        raise Invalid(f"pushMethod.{where} must be a URL of {' or '.join(ports)} with a host, without a user")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not path.isascii() or " " in path:
        raise Invalid(f"pushMethod.{where} must be a URL in ASCII")
    return host, port or ports[parts.scheme], parts.scheme in ("https", "mqtts", "ssl", "tls"), path


def _is_host(text: str) -> bool:
    """An address, or a name that can be looked up: for labels that are empty or too long that raises no OSError."""
    labels = text.removesuffix(".").split(".")
    return text.isascii() and text.isprintable() and all(0 < len(label) < 64 for label in labels)


def _http(settings: Mapping[str, Any]) -> Destination:
    name = _text(settings, "hostName", "http")
    url = name if "://" in name else f"http://{name}"
    path = _text(settings, "requestPath", "http", default="/") or "/"
    port = settings.get("port")
    if port is not None:
        url = f"{url.rstrip('/')}:{_number(port, 1, 65535, 'http.port')}"
    host, number, tls, whole = _url(
        url + (path if path.startswith("/") else f"/{path}"), "http", {"http": 80, "https": 443}
    )
    found: dict[str, Any] = {"path": whole}
    if (timeout := settings.get("timeout")) is not None:
        found["timeout"] = min(float(_number(timeout, 0, 1 << 62, "http.timeout")), _MAX_TIMEOUT)
    return Destination("http", host, number, tls, found)


def _mqtt(settings: Mapping[str, Any]) -> Destination:
    address = _text(settings, "address", "mqtt")
    schemes = {"mqtt": 1883, "tcp": 1883, "mqtts": 8883, "ssl": 8883, "tls": 8883}
    host, port, tls, _ = _url(address if "://" in address else f"mqtt://{address}", "mqtt.address", schemes)
    topic = _text(settings, "topic", "mqtt")
    if "+" in topic or "#" in topic or len(topic) > 1024:
        raise Invalid("pushMethod.mqtt.topic must be a topic and no filter")
    qos = _number(settings.get("qos", 1), 0, 2, "mqtt.qos")
    return Destination(
        "mqtt", host, port, tls, {"topic": topic, "qos": qos, "retained": settings.get("retained") is True}
    )


def _otel(settings: Mapping[str, Any]) -> Destination:
    url = _text(settings, "endpointURL", "otel")
    host, port, tls, path = _url(
        url if "://" in url else f"http://{url}", "otel.endpointURL", {"http": 80, "https": 443}
    )
    return Destination("otel", host, port, tls, {"path": path if path != "/" else "/v1/metrics"})


#: by the names of pushMethod's fields
_WAYS = {"http": _http, "mqtt": _mqtt, "otel": _otel}
_OF_MAPPERS = "anomalyDetection"  # which mappers do themselves


def _database(name: str, method: Mapping[str, Any], client: str, needed: tuple[str, ...]) -> Destination:
    settings = method.get(client)
    where = f"dbMethod.{name}.{client}"
    if not isinstance(settings, dict):
        raise Invalid(f"pushMethod.{where} is missing")
    texts = {one: _text(settings, one, where) for one in needed}
    if name == "influxdb2":
        return _influx(texts, settings, method)
    host, port, tls, _ = _url(
        _addressed(texts.pop("addr"), name), f"{where}.addr", {"tcp": _PORTS[name], "tls": _PORTS[name]}
    )
    found: dict[str, Any] = dict(texts)
    if name == "redis":
        found["db"] = _number(settings.get("db", 0), 0, 1 << 16, f"{where}.db")
    if isinstance(user := settings.get("userName"), str) and user:
        found["userName"] = user
    return Destination(name, host, port, tls, found)


def _addressed(addr: str, name: str) -> str:
    """TLS is asked for with tls://, or with https:// of TDengine."""
    if "://" not in addr:
        return f"tcp://{addr}"
    scheme, _, rest = addr.partition("://")
    return f"{'tls' if scheme in ('tls', 'https', 'rediss') else 'tcp' if scheme in ('http', 'redis', 'tcp') else scheme}://{rest}"


def _influx(texts: Mapping[str, str], client: Mapping[str, Any], method: Mapping[str, Any]) -> Destination:
    host, port, tls, path = _url(texts["url"], "dbMethod.influxdb2.url", {"http": 80, "https": 443})
    data = method.get("influxdb2DataConfig")
    data = data if isinstance(data, dict) else {}
    where = "dbMethod.influxdb2.influxdb2DataConfig"
    tags = data.get("tag") or {}
    if not isinstance(tags, dict) or not all(isinstance(value, str) for value in tags.values()):
        raise Invalid(f"pushMethod.{where}.tag must be a table of texts")
    return Destination(
        "influxdb2",
        host,
        port,
        tls,
        {
            "path": path.rstrip("/"),
            "org": str(client.get("org") or ""),
            "bucket": texts["bucket"],
            "measurement": str(data.get("measurement") or ""),
            "fieldKey": str(data.get("fieldKey") or ""),
            "tag": tags,
        },
    )
