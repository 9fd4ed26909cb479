"""The verb watch: a stream of events, one JSON document a line, pulled by its connection."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable

from kubeedge.api import meta
from kubeedge.api.client import WatchEvent
from kubeedge.api.status import (
    of_error,
)
from kubeedge.apiserver import content, selection, tables
from kubeedge.apiserver.call import Call
from kubeedge.apiserver.streams import OwnedStream
from kubeedge.apiserver.unread import Unread
from kubeedge.apiserver.verbs import accept_of, include_of, shown
from kubeedge.errors import KubeEdgeError
from kubeedge.kit.http1 import Response

_WATCH_SECONDS = 1800.0  # a watch without timeoutSeconds ends after this, and the client begins another
_WATCH_SECONDS_LIMIT = 86400.0


async def watch(call: Call, done: Callable[[], None]) -> Response:
    """A stream of events, one JSON document a line. `done` is called when the stream has ended, however it ended."""
    accept = accept_of(call)
    include_of(call)
    at = call.address
    name = f"metadata.name={at.name}" if at.name else ""
    fields = ",".join(filter(None, (call.one("fieldSelector"), name)))
    labels = call.one("labelSelector")
    selection.select(call.registry.tenant, at.row, at.namespace, labels, fields)  # refuse nonsense with a 400
    selection.version_of(call.one("resourceVersion"))
    seconds = call.number("timeoutSeconds")
    if seconds is None or seconds <= 0:
        # Clients that connected together must not reconnect together.
        seconds_left = _WATCH_SECONDS * (1 + random.random())
    else:
        seconds_left = min(float(seconds), _WATCH_SECONDS_LIMIT)
    events = call.registry.watch(
        at.row.stored,
        at.namespace,
        resource_version=call.one("resourceVersion"),
        label_selector=labels,
        field_selector=fields,
        bookmarks=call.flag("allowWatchBookmarks"),
        initial_events=call.flag("sendInitialEvents"),
        shared=True,
    )
    first = True

    def encode(event: WatchEvent) -> bytes:
        nonlocal first
        obj = event.object
        if event.type == "BOOKMARK":
            if accept.as_kind == "Table":
                obj = tables.table(
                    at.row,
                    [],
                    version=accept.version,
                    include="None",
                    now=time.time(),
                    list_metadata=meta.metadata(obj),
                    headers=first,
                )
            else:
                obj = {**obj, "apiVersion": at.row.resource.api_version}
        else:
            obj = shown(call, accept, obj, headers=first)
            first = False
        return meta.encode({"type": event.type, "object": obj}) + b"\n"

    async def shared(event: WatchEvent) -> bytes:
        """The same bytes for all who watch; a table is each client's own."""
        if event.type == "BOOKMARK" or accept.as_kind == "Table":
            return await call.registry.apart(event.size, lambda: encode(event))
        inner = meta.metadata(event.object)
        named = (str(inner.get(name)) for name in ("namespace", "name", "resourceVersion"))
        resource = at.row.resource
        key = (resource.group, resource.version, resource.plural, *named, event.type, accept.as_kind, accept.version)
        return await call.events.of(key, lambda: call.registry.apart(event.size, lambda: encode(event)))

    held = _Held(call)

    def ended() -> None:
        held.release()
        done()

    headers = [("content-type", content.JSON), ("cache-control", "no-cache, private")]
    return Response(200, headers, OwnedStream(_stream(events, shared, held, seconds_left), ended))


class _Held:
    """What the client of one watch has still to read."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._unread: Unread | None = None

    def hold(self, data: bytes) -> None:
        now = asyncio.get_running_loop().time()
        self._unread = self._call.unread.hold(self._call.registry.tenant, data, self._call.request.abort, now)

    def release(self) -> None:
        unread, self._unread = self._unread, None
        if unread is not None:
            self._call.unread.release(unread)


async def _stream(
    events: AsyncGenerator[WatchEvent, None],
    encode: Callable[[WatchEvent], Awaitable[bytes]],
    held: _Held,
    seconds: float,
) -> AsyncGenerator[bytes, None]:
    """Pulled by the connection: what a slow client has not read yet stays in the store, not here."""
    deadline = asyncio.get_running_loop().time() + seconds
    async with contextlib.aclosing(events):
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    event = await anext(events)
            except (TimeoutError, StopAsyncIteration):
                return
            except KubeEdgeError as exc:
                yield meta.encode({"type": "ERROR", "object": of_error(exc)}) + b"\n"
                return
            encoded = [await encode(event)]
            del event  # while a slow client reads, nothing is held but the bytes that all share
            held.hold(encoded[0])
            yield encoded.pop()
            held.release()
