"""Paths, queries, errors and credentials of a Kubernetes API as values. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from kubeedge.api import json_bounds, status
from kubeedge.api.client import Resource, WatchEvent
from kubeedge.api.json_bounds import JsonBounds
from kubeedge.api.names import Object
from kubeedge.errors import Invalid
from kubeedge.kit.backoff import Backoff
from kubeedge.kit.durations import duration
from kubeedge.kit.shown_url import shown_url

IN_CLUSTER = "in-cluster"  # instead of the path of a kubeconfig: the account of the pod that this process runs in
USER_AGENT = "kubeedge-cloud"  # as which a server notes the fields that we set
_APART = 300.0  # seconds that clocks may differ without being named for it
MAX_EVENT = 16 * 1024 * 1024  # bytes of one watch event; etcd takes objects of 1.5 MiB
MAX_OBJECT_VALUES = 1_000_000  # of one object: one of 1.5 MiB has fewer
MAX_LIST_VALUES = 4_000_000  # of one answer to a list, of 500 objects usually
INITIAL_EVENTS_END = "k8s.io/initial-events-end"  # annotation of the bookmark that ends a streamed list


@dataclass(frozen=True, slots=True)
class Access:
    """Where an API server is, how it is known, and who we are to it. PEM as text; "" for what there is not."""

    server: str  # https://HOST:PORT[/PATH], without a slash at its end
    ca: str = ""  # "": the system's authorities
    server_name: str = ""  # in its certificate, if that is not the host
    proxy: str = ""  # http://[USER:PASSWORD@]HOST:PORT
    authorization: str = field(default="", repr=False)  # value of the header
    certificate: str = ""
    key: str = field(default="", repr=False)
    expires: float | None = None  # seconds since 1970, of the credential
    files: tuple[str, ...] = ()  # a change of one of them is a change of this

    @property
    def host(self) -> tuple[str, int]:
        """The host (a name or an address) and the port of the API server."""
        return _host(self.server)

    @property
    def base(self) -> str:
        """The path below which the API is, "" usually."""
        return urlsplit(self.server).path.rstrip("/")

    @property
    def secure(self) -> bool:
        """The server is reached over TLS."""
        return self.server.startswith("https://")


def decode_access(text: bytes) -> Access:
    """What loading.py printed. Raises Invalid, saying what this client does not do."""
    try:
        fields = json.loads(text)
        access = Access(**{**fields, "files": tuple(fields.get("files", ()))})
    except (ValueError, TypeError) as exc:
        raise Invalid(f"the credentials cannot be read: {type(exc).__name__}") from exc
    host, _ = access.host
    if not access.secure and host not in ("127.0.0.1", "localhost", "::1"):
        raise Invalid(f"the server {access.server} is not https", path="server")
    if access.proxy and urlsplit(access.proxy).scheme != "http":
        raise Invalid(
            f"a proxy is http://HOST:PORT here, not {urlsplit(access.proxy).scheme}://...; TLS to the API server goes through it unopened",
            path="proxy-url",
        )
    return access


def _host(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError as exc:
        raise Invalid(f"{shown_url(url)!r} has no valid port") from exc
    if not parts.hostname or parts.scheme not in ("https", "http"):
        raise Invalid(f"{shown_url(url)!r} is not the URL of a server")
    return parts.hostname, port or (443 if parts.scheme == "https" else 80)


def proxy_of(access: Access) -> tuple[str, int, str]:
    """Host and port of the HTTP proxy, and its credentials: "user:password" or ""."""
    parts = urlsplit(access.proxy)
    user = f"{parts.username}:{parts.password or ''}" if parts.username else ""
    return (*_host(access.proxy), user)


# Paths and queries


def collection(resource: Resource, namespace: str = "") -> str:
    """The path of a resource; namespace "": all of them."""
    root = f"/apis/{resource.group}" if resource.group else "/api"
    inside = f"/namespaces/{quote(namespace, safe='')}" if namespace and resource.namespaced else ""
    return f"{root}/{resource.version}{inside}/{resource.plural}"


def one(resource: Resource, namespace: str, name: str, subresource: str = "") -> str:
    """The path of an object. Raises Invalid for what would be the path of something else."""
    if not name or name in (".", ".."):
        raise Invalid(f"{name!r} is not the name of an object")
    tail = f"/{subresource}" if subresource else ""
    return f"{collection(resource, namespace)}/{quote(name, safe='')}{tail}"


def query(path: str, **parameters: str | int | bool) -> str:
    """Without those that are empty or false; underscores stand for nothing: names are as the API has them."""
    given = {k: "true" if v is True else str(v) for k, v in parameters.items() if v not in ("", False)}
    return f"{path}?{urlencode(given)}" if given else path


# Answers


def completed(resource: Resource, obj: Object) -> Object:
    """Items of lists come without what is the same in all of them."""
    obj.setdefault("apiVersion", resource.api_version)
    obj.setdefault("kind", resource.kind)
    return obj


def event(resource: Resource, line: bytes) -> WatchEvent:
    """One line of a watch. Raises the error that it tells of, and ServerUnavailable for what is no event."""
    try:
        said = parsed(line, MAX_OBJECT_VALUES)
        kind, obj = said["type"], said["object"]
    except (ValueError, KeyError, TypeError) as exc:
        raise status.ServerUnavailable(f"a watch brought what is no event: {line[:80]!r}") from exc
    if kind == "ERROR":
        raise error(int(obj.get("code") or 500), obj)
    if kind not in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK") or not isinstance(obj, dict):
        raise status.ServerUnavailable(f"a watch brought an event of type {kind!r:.40}")
    return WatchEvent(kind, completed(resource, obj))


def parsed(data: bytes, values: int) -> Any:
    """JSON of a server, which may be a tenant's: in 64 MiB may be 22 million empty lists, which would take 1.6 GB, and everybody's time for seconds.
    Raises ServerUnavailable for more than so many values, ValueError for what is no JSON, or nested too deeply."""
    if len(data) > 2 * values:  # each value takes a byte, and one to tell it from the next
        try:
            json_bounds.check(data, JsonBounds(values, depth=len(data)), what="an answer of the API server")
        except Invalid as exc:
            raise status.ServerUnavailable(str(exc)) from exc
    try:
        return json.loads(data)
    except RecursionError as exc:
        raise ValueError("nested too deeply") from exc


def ends_initial_events(told: WatchEvent) -> bool:
    """Whether everything that existed has been delivered."""
    annotations = (told.object.get("metadata") or {}).get("annotations") or {}
    return told.type == "BOOKMARK" and annotations.get(INITIAL_EVENTS_END) == "true"


class Lines:
    """Cuts a stream into lines; raises ServerUnavailable for one that is longer than `most` bytes."""

    def __init__(self, most: int = MAX_EVENT) -> None:
        self._rest = bytearray()
        self._most = most

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The lines that are complete now, without their ends, and without empty ones."""
        begin = len(self._rest)
        self._rest += data
        if self._rest.find(b"\n", begin) < 0:
            if len(self._rest) > self._most:
                raise status.ServerUnavailable(f"an event of a watch has more than {self._most} bytes")
            return
        *lines, rest = bytes(self._rest).split(b"\n")
        self._rest = bytearray(rest)
        yield from filter(None, lines)


_BY_CODE: Mapping[int, type[status.StatusError]] = {
    400: status.BadRequest,
    401: status.Unauthorized,
    403: status.Forbidden,
    405: status.MethodNotAllowed,
    406: status.NotAcceptable,
    410: status.Expired,
    413: status.TooLarge,
    415: status.UnsupportedMediaType,
    422: status.InvalidObject,
}


def clock_hint(date: str | None, now: float) -> str:
    """What to say of an answer's Date (RFC 9110 section 6.6.1) that is far from ours: credentials that are good here have ended there, or do not
    count yet. "": the clocks agree, or it has none."""
    try:
        theirs = datetime.strptime(date or "", "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return ""
    apart = abs(theirs - now)
    if apart < _APART:
        return ""
    return f"; the API server's clock is {duration(apart)} {'ahead of' if theirs > now else 'behind'} this one: is it right?"


def error(code: int, said: Any, retry_after: float | None = None, hint: str = "") -> status.StatusError:
    """The exception for an answer: `said` is the metav1.Status, or whatever else came; `hint` is put behind its message. Whatever is not the
    request's fault may pass."""
    body = said if isinstance(said, dict) else {}
    message = f"{status.message_of(body) or f'the API server answered {code}'}{hint}"
    found = body.get("details")
    details: Object = found if isinstance(found, dict) else {}
    wait = retry_after if retry_after is not None else _seconds(details.get("retryAfterSeconds"))
    if code == 429:
        return status.TooManyRequests(message, retry_after=wait or 1.0)
    if code == 404:
        # with details: there is no such object; without: no such path
        return status.ObjectNotFound(message, details) if details.get("kind") else status.NoSuchPath(message)
    if code == 409:
        kind = status.AlreadyExists if body.get("reason") == "AlreadyExists" else status.ObjectModified
        return kind(message, details)
    if (known := _BY_CODE.get(code)) is not None:
        return known(message, details) if known is not status.MethodNotAllowed else status.MethodNotAllowed(message)
    if 400 <= code < 500 and code != 408:
        return status.BadRequest(message, details)
    failure = status.ServerUnavailable(message, details)
    failure.retry_after = wait
    return failure


def retry_after(value: str | None) -> float | None:
    """The seconds of that header; None for a date, which API servers do not send."""
    return _seconds(value)


def _seconds(value: Any) -> float | None:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        return None
    return min(seconds, 3600.0) if seconds > 0 else None  # NaN, too, is no time to wait


class CircuitBreaker:
    """Opens when a server cannot be reached; one request is let through after each delay, and the first that succeeds closes it (Nygard)."""

    def __init__(self, backoff: Backoff = Backoff(0.25, 30.0, jitter=0.5)) -> None:  # noqa: B008  frozen
        self._backoff = backoff
        self._failures = 0
        self._until = 0.0
        self.why = ""

    def wait(self, now: float) -> float:
        """Seconds until the next request may be sent; 0.0: now. Until that one has failed or succeeded, or for the length of the delay, no
        other one may."""
        if now < self._until:
            return self._until - now
        if self._failures:
            self._until = now + self._backoff.delay(self._failures)
        return 0.0

    def failed(self, now: float, chance: float, why: str) -> None:
        """No connection was made at `now`, because of `why`. `chance`: a random number from 0.0 to 1.0."""
        self._failures += 1
        self._until = now + self._backoff.delay(self._failures, chance)
        self.why = why

    def succeeded(self) -> None:
        """Note that the server was reached: the breaker closes."""
        self._failures = 0
        self._until = 0.0
