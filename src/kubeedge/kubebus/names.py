"""The numbers of other nodes, by their names: asked of the relay, remembered while a link is up.

Lives elsewhere: the question and its answer on the link (l2/core.py).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from kubeedge.api.names import NodeNumber, PortId
from kubeedge.errors import LinkNotUp, NotFound, Unavailable
from kubeedge.kubebus.links.driver import Links
from kubeedge.kubebus.links.link import Link

CLOUD = "cloud"  # the name of the relay's own services
_TIMEOUT = 5.0  # seconds for an answer
_ASK_AGAIN = 0.05  # seconds until a name is asked for on another link


class Names:
    """For connections to nodes by name."""

    def __init__(self, links: Callable[[], Links | None], up: asyncio.Event) -> None:
        """`links`: those that there are now; `up` is set while there is one that is up."""
        self._links = links
        self._up = up
        self._known: dict[str, NodeNumber] = {}
        self._asked: dict[tuple[PortId, int], asyncio.Future[NodeNumber | None]] = {}  # (port of the link, id)
        self.cloud = NodeNumber(0)  # number of the relay that we are linked to

    async def number(self, node: str) -> NodeNumber:
        """Waits for a link, and asks again when one goes down before it has answered. Raises NotFound, Unavailable."""
        while True:
            await self._up.wait()
            if node == CLOUD:
                return self.cloud
            with contextlib.suppress(LinkNotUp):
                return await self._resolve(node)
            await asyncio.sleep(_ASK_AGAIN)

    def resolved(self, link: Link, id: int, number: NodeNumber | None) -> None:
        """The relay has answered; None: there is no such node."""
        future = self._asked.pop((link.port, id), None)
        if future is not None and not future.done():
            future.set_result(number)

    def lost(self, link: Link) -> None:
        """The link is gone: what waits for it fails."""
        for key in [key for key in self._asked if key[0] == link.port]:
            future = self._asked.pop(key)
            if not future.done():
                future.set_exception(LinkNotUp("the link went down"))

    def forget(self) -> None:
        """No link is left: the next relay may know the nodes by other numbers."""
        self._known.clear()

    async def _resolve(self, node: str) -> NodeNumber:
        if node in self._known:
            return self._known[node]
        links = self._links()
        link = links.best() if links else None
        if link is None or links is None:
            raise LinkNotUp("no link to the relay")
        id = link.core.resolve(node)
        future: asyncio.Future[NodeNumber | None] = asyncio.get_running_loop().create_future()
        self._asked[link.port, id] = future
        links.flush(link)
        try:
            async with asyncio.timeout(_TIMEOUT):
                number = await future
        except TimeoutError as exc:
            raise Unavailable(f"the relay does not say who {node} is") from exc
        finally:
            self._asked.pop((link.port, id), None)
        if number is None:
            raise NotFound(f"there is no node {node}")
        self._known[node] = number
        return number
