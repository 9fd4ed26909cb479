"""One request on one resource, taken apart: path, query and body become values. No I/O but the body."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from kubeedge.api.access import Attributes
from kubeedge.api.managed_fields import MAX_MANAGER
from kubeedge.api.names import Object
from kubeedge.api.resources import NAMESPACES, Resources, Row
from kubeedge.api.status import BadRequest, NoSuchPath, TooLarge
from kubeedge.apiserver import content
from kubeedge.apiserver.core import DeleteOptions, WriteOptions
from kubeedge.apiserver.registry import Registry
from kubeedge.apiserver.shared_events import SharedEvents
from kubeedge.apiserver.unread import UnreadBytes
from kubeedge.apiserver.write_turns import WriteTurn
from kubeedge.kit.dataclasses import dataclass, field
from kubeedge.kit.http1 import BodyTooLarge, Request

_BODY_SECONDS = 60.0  # without a byte of a body
_BODY_RATE = 1024  # bytes a second that a body has to come with in the long run, after that: a modem has more
_NEGATIVE_GRACE = 1  # seconds that a negative grace period means, as in Kubernetes
T = TypeVar("T")
_NAMESPACE_SUBRESOURCES = ("status", "finalize")


@dataclass(frozen=True, slots=True)
class Address:
    """What a path below /api/v1 or /apis/GROUP/VERSION names; name "" is the collection."""

    row: Row
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    rest: str = ""  # further path elements (proxy)


def address(served: Resources, group: str, version: str, parts: Sequence[str]) -> Address:
    """What the elements of a path behind group and version name. Raises NoSuchPath."""
    namespace = ""
    parts = list(parts)
    if len(parts) > 2 and parts[0] == "namespaces" and not (len(parts) == 3 and parts[2] in _NAMESPACE_SUBRESOURCES):
        namespace, parts = parts[1], parts[2:]
    plural, name, subresource, *rest = (*parts, "", "", "")[: max(3, len(parts))]
    row = served.by_path(group, version, plural)
    if row is None or (namespace and not row.resource.namespaced):
        raise NoSuchPath
    if row.resource.namespaced and name and not namespace:
        raise NoSuchPath
    if subresource and subresource not in row.subresources:
        raise NoSuchPath
    if rest:
        raise NoSuchPath
    return Address(row, namespace, name, subresource)


@dataclass(slots=True)
class Call:
    """One request on a resource, with what its verb needs."""

    registry: Registry
    address: Address
    request: Request
    query: Mapping[str, Sequence[str]]
    warnings: list[str] = field(default_factory=list)
    size: int = 0  # bytes of the body, once it was read
    unread: UnreadBytes = field(default_factory=UnreadBytes)  # of all tenants
    events: SharedEvents = field(default_factory=SharedEvents)  # of this tenant
    turn: WriteTurn | None = None  # of a request that writes

    def one(self, name: str) -> str:
        """A query parameter, the last of its values; "" when it is absent."""
        values = self.query.get(name)
        return values[-1] if values else ""

    def flag(self, name: str) -> bool:
        """A boolean query parameter, read as Kubernetes does: anything but "false" and "0" is true, also no value at all."""
        values = self.query.get(name) or ["false"]
        return values[0].lower() not in ("false", "0")

    def number(self, name: str) -> int | None:
        """An integer query parameter; None when it is absent. Raises BadRequest."""
        if name not in self.query:
            return None
        text = self.one(name)
        if not (text.isascii() and text.removeprefix("-").isdigit() and len(text) <= 18):
            raise BadRequest(f"query parameter {name} must be an integer, not {text[:64]!r}")
        return int(text)

    def dry_run(self) -> bool:
        """Whether nothing is to be stored. Raises BadRequest for a value other than All."""
        return _is_dry_run(self.query.get("dryRun") or [])

    def write_options(self) -> WriteOptions:
        """The options of a write, from the query. Raises BadRequest."""
        validation = self.one("fieldValidation") or "Warn"
        if validation not in ("Ignore", "Warn", "Strict"):
            raise BadRequest(
                f"fieldValidation: Unsupported value: {validation[:64]!r}: supported values: Ignore, Warn, Strict"
            )
        return WriteOptions(self.dry_run(), validation, self.warnings, self.size, self.manager())

    def manager(self) -> str:
        """Who writes: what the client calls itself in `fieldManager`, else its program. Raises BadRequest."""
        named = self.one("fieldManager")
        if len(named) > MAX_MANAGER or not named.isprintable():
            raise BadRequest(f"fieldManager: must be of at most {MAX_MANAGER} printable characters")
        agent = (self.request.header("user-agent") or "").partition("/")[0]
        return named or "".join(c for c in agent if c.isprintable())[:MAX_MANAGER] or "unknown"

    async def delete_options(self) -> DeleteOptions:
        """The options of a deletion, from the body (DeleteOptions) and from the query. Raises BadRequest."""
        data = await self.body()
        body = await self.decoded(data) if data.strip() else {}
        if not isinstance(body, dict):
            raise BadRequest("the body of a DELETE must be DeleteOptions")
        return self.deletion(body)

    def deletion(self, body: Object) -> DeleteOptions:
        """What a DeleteOptions says, or the query where that says nothing. Raises BadRequest."""
        grace = body.get("gracePeriodSeconds", self.number("gracePeriodSeconds"))
        if grace is not None and (isinstance(grace, bool) or not isinstance(grace, int) or not abs(grace) < 2**31):
            raise BadRequest(f"gracePeriodSeconds must be a number of seconds, not {str(grace)[:32]!r}")
        policy = body.get("propagationPolicy") or self.one("propagationPolicy")
        if not policy and (body.get("orphanDependents") is True or self.flag("orphanDependents")):
            policy = "Orphan"
        if policy not in ("", "Background", "Foreground", "Orphan"):
            raise BadRequest(f"propagationPolicy {str(policy)[:32]!r} is not Background, Foreground or Orphan")
        conditions = body.get("preconditions") or {}
        if not isinstance(conditions, dict) or any(not isinstance(value, str | None) for value in conditions.values()):
            raise BadRequest("preconditions must be an object of the texts uid and resourceVersion")
        dry_run = self.dry_run()  # also where the body has one: a value that is not known is refused in both
        return DeleteOptions(
            grace if grace is None or grace >= 0 else _NEGATIVE_GRACE,
            str(conditions.get("uid") or ""),
            str(conditions.get("resourceVersion") or ""),
            policy,
            _is_dry_run(body.get("dryRun") or []) or dry_run,
        )

    async def body(self) -> bytes:
        """Raises BadRequest (too slow), TooLarge. A slow line is waited for as long as bytes come."""
        loop = asyncio.get_running_loop()
        begun, got = loop.time(), 0
        try:
            async with asyncio.timeout(_BODY_SECONDS) as timeout:

                def arrived(size: int) -> None:
                    nonlocal got
                    got = size
                    slowest = begun + _BODY_SECONDS + size / _BODY_RATE
                    timeout.reschedule(min(loop.time() + _BODY_SECONDS, slowest))

                data = await self.request.read(content.BODY_LIMIT, arrived)
        except TimeoutError as exc:
            raise BadRequest(f"the body of the request comes too slowly: {got} bytes so far") from exc
        except BodyTooLarge as exc:
            raise TooLarge(f"limit is {content.BODY_LIMIT}: the body of the request is larger") from exc
        self.size = len(data)
        if self.turn is not None:
            await self.turn.take()
        return data

    async def decoded(self, data: bytes) -> Any:
        """The body as its Content-Type says. Raises BadRequest, UnsupportedMediaType, TooLarge."""
        media = self.request.header("content-type")
        return await self.apart(lambda: content.decode(media, data))

    async def apart(self, work: Callable[[], T]) -> T:
        """The result of work on the body: a large one is not worked on here and now (offload.py)."""
        return await self.registry.apart(self.size, work)

    async def object(self) -> Object:
        """The body, which must be an object. Raises as `decoded`."""
        value = await self.decoded(await self.body())
        if not isinstance(value, dict):
            raise BadRequest(f"the body must be an object, not {'null' if value is None else type(value).__name__}")
        return value


def _is_dry_run(values: object) -> bool:
    """Of what `dryRun` says. Whoever asks for something that is not known does not want the change: raises BadRequest."""
    if not isinstance(values, list) or any(value != "All" for value in values):
        shown = values[0] if isinstance(values, list) else values
        raise BadRequest(f'dryRun: Unsupported value: {str(shown)[:64]!r}: supported values: "All"')
    return bool(values)


_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


def attributes(call: Call) -> Attributes:
    """The request as an authorizer sees it. A namespace is in itself."""
    at, method = call.address, call.request.method
    verb = _VERBS.get(method, "get")
    if method in ("GET", "HEAD") and not at.name:
        verb = "watch" if call.flag("watch") else "list"
    elif method == "DELETE" and not at.name:
        verb = "deletecollection"
    resource = at.row.resource
    plural = f"{resource.plural}/{at.subresource}" if at.subresource else resource.plural
    namespace = at.name if resource == NAMESPACES else at.namespace
    return Attributes(verb, resource.group, plural, namespace, at.name)
