"""Fetches the events of one camera, over a connection of its own: the camera waits with its answer until something happens."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

from kubeedge.errors import Invalid, KubeEdgeError, Refused
from kubeedge.kit.backoff import Backoff
from kubeedge.kit.dataclasses import replace
from kubeedge.mapper.onvif import events, soap
from kubeedge.mapper.onvif.client import OnvifClient
from kubeedge.mapper.onvif.elements import XmlElement
from kubeedge.mapper.onvif.events import CameraEvent, EventFilter, PullPoint
from kubeedge.mapper.onvif.http import CameraHttp
from kubeedge.mapper.onvif.messages import OnvifRequest
from kubeedge.mapper.values import MappedProperty

log = logging.getLogger("kubeedge.mapper.onvif")

_AGAIN = Backoff(1.0, 60.0)  # of subscriptions that are refused
_TOLD = 2  # subscriptions that were refused before anybody hears of it: one may have ended
_BETWEEN = 0.05  # seconds after an answer with events
_IDLE = 1.0  # seconds after an answer that came at once, and without events: some cameras do not wait
_BYE = 2.0  # seconds to end a subscription


class CameraEvents:
    """`wanted` are the properties that events have values of; `report` gets these, or the exception that came instead."""

    def __init__(
        self, client: OnvifClient, wanted: Sequence[MappedProperty], report: Callable[[dict[str, Any]], None]
    ) -> None:
        self._client = client
        self._report = report
        self._wanted: list[tuple[MappedProperty, EventFilter]] = []
        self._wrong: dict[str, Invalid] = {}
        for prop in wanted:
            try:
                self._wanted.append((prop, events.filter_of(prop)))
            except Invalid as exc:
                self._wrong[prop.name] = exc
        longer = replace(client.address, timeout=client.address.timeout + events.PULL)
        self._http = CameraHttp.make(longer)
        self._point: PullPoint | None = None
        self._renew_at = 0.0
        self._worked = False  # the last question: after that a connection may have ended because nobody used it

    async def run(self) -> None:
        """Until it is cancelled. Raises OSError, EOFError and PeerError for a camera that is away, and when its events are there again after the
        properties were said to be wrong: all is begun anew then."""
        if self._wrong:
            self._report(dict(self._wrong))
        if not self._wanted:
            await asyncio.get_running_loop().create_future()
        refused = 0  # times, one after the other
        try:
            while True:
                try:
                    await self._subscribe()
                    await self._pull()
                    if refused >= _TOLD:
                        raise ConnectionResetError("the camera has events again")
                    refused = 0
                    while True:
                        await self._pull()
                except (Invalid, Refused) as exc:
                    refused += 1
                    if refused == _TOLD:
                        self._report({prop.name: prop.invalid(str(exc)) for prop, _ in self._wanted})
                self._point = None
                await asyncio.sleep(_AGAIN.delay(refused - 1, 0.0))
        finally:
            await self._leave()

    async def _subscribe(self) -> None:
        http, path = self._http, self._client.path_of(events.CREATE)
        header = soap.addressing(events.CREATE.action, f"http://{self._client.address.host}{path}")
        self._point = events.pull_point_of(*await self._client.answered(events.CREATE, http, path, header))
        self._renew_in(self._point.lifetime)

    def _renew_in(self, lifetime: float) -> None:
        self._renew_at = asyncio.get_running_loop().time() + lifetime / 2

    async def _pull(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        found = events.events_of(await self._ask(events.PULL_MESSAGES))
        for event in found:
            self._take(event)
        if loop.time() >= self._renew_at:
            await self._renew()
        await asyncio.sleep(_BETWEEN if found or loop.time() - began > _IDLE else _IDLE)

    def _take(self, event: CameraEvent) -> None:
        values: dict[str, Any] = {}
        for prop, wanted in self._wanted:
            try:
                if (value := events.value_of(prop, wanted, event)) is not None:
                    values[prop.name] = value
            except Invalid as exc:
                values[prop.name] = exc
        if values:
            self._report(values)

    async def _renew(self) -> None:
        """A camera that does not know how has the subscription end, or goes on with it because it is used; if it has ended, there is another one."""
        try:
            self._renew_in(events.lifetime_of(await self._ask(events.RENEW)))
        except (Invalid, Refused) as exc:
            log.debug("camera %s: %s", self._client.address.host, exc)
            self._renew_at = float("inf")

    async def _ask(self, request: OnvifRequest) -> XmlElement:
        assert self._point is not None
        point, is_again = self._point, self._worked
        header = soap.addressing(request.action, point.address, point.parameters)
        self._worked = False
        try:
            found, _ = await self._client.answered(request, self._http, point.path, header)
        except (ConnectionError, EOFError):
            if not is_again:
                raise
            found, _ = await self._client.answered(request, self._http, point.path, header)
        self._worked = True
        return found

    async def _leave(self) -> None:
        """A camera has few subscriptions to give, and keeps those that nobody ends for a minute."""
        with contextlib.suppress(OSError, EOFError, KubeEdgeError):
            async with asyncio.timeout(_BYE):
                self._http.cut()  # the answer that is on its way
                if self._point is not None:
                    await self._ask(events.UNSUBSCRIBE)
        await self._http.aclose()
