"""What answers the requests to a node's own API, the administrator's and those of pods, over one registry; made when the first one comes in.

The API with its validation, its tables and its descriptions is fifty modules, which a node does without as long as nobody asks it. They are loaded in a
thread, beside what the agent does meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

from kubeedge.api.names import TenantId
from kubeedge.kit.dataclasses import dataclass
from kubeedge.kit.http1 import Request, Response, Upgrade
from kubeedge.kit.once import Once
from kubeedge.metaserver.gateway import Gateway
from kubeedge.pki.identity import UserIdentity
from kubeedge.store.model import Store

if TYPE_CHECKING:
    from kubeedge.apiserver.logs import NodeStream
    from kubeedge.apiserver.module import Served
    from kubeedge.apiserver.server import ApiServer
    from kubeedge.metaserver.pods import PodsApi

_UNREAD = 4 * 1024 * 1024  # bytes of answers that wait for their clients: the node may have 128 MB in all


class Authenticator(Protocol):
    """Who an administrator's request is from."""

    def who(self, request: Request, /) -> UserIdentity:
        """Raises Unauthorized or Forbidden."""
        ...

    async def check(self, who: UserIdentity, /) -> None:
        """Raises Unauthorized for who may not come any more."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweringSettings:
    """What the servers are made of."""

    store: Store
    tenant: TenantId
    node_stream: NodeStream
    wall: Callable[[], float]
    gateway: Gateway | None
    authenticator: Authenticator


class Answering:
    """`server` and `pods` are None until somebody has asked."""

    def __init__(self, settings: AnsweringSettings) -> None:
        self._settings = settings
        self._making: Once[str] = Once()
        self.server: ApiServer | None = None
        self.pods: PodsApi | None = None

    async def for_node(self) -> Served:
        """For the administrator and users of the tenant; made now when nobody has asked before."""
        if self.server is None:
            await self._making.of("servers", self._make)
        assert self.server is not None
        return self.server

    async def for_pods(self) -> Served:
        """The same for requests that carry a pod's token."""
        if self.pods is None:
            await self._making.of("servers", self._make)
        assert self.pods is not None
        return self.pods

    async def _make(self) -> None:
        await asyncio.to_thread(_load)
        from kubeedge.apiserver.registry import Registry
        from kubeedge.apiserver.server import ApiServer
        from kubeedge.metaserver.accounts import NodeAccounts
        from kubeedge.metaserver.pods import PodsApi
        from kubeedge.metaserver.view import RegistryView

        s = self._settings
        view = RegistryView(s.store, s.tenant, wall=s.wall)
        registry = Registry(view, s.tenant, wall=s.wall, bootstrap=False, owners=False)
        who, check = s.authenticator.who, s.authenticator.check
        accounts = NodeAccounts(s.store, s.tenant, wall=s.wall)
        self.pods = PodsApi(s.tenant, registry, accounts, s.gateway, s.node_stream)
        self.server = ApiServer({s.tenant: registry}.get, s.node_stream, authenticate=who, check=check, unread=_UNREAD)


def _load() -> None:
    """In a thread, what `_make` imports."""
    import kubeedge.apiserver.server
    import kubeedge.metaserver.pods
    import kubeedge.metaserver.view  # noqa: F401


class Late:
    """A server that is there from its first request on. `who` is asked before: it knows a client by what it knows already."""

    def __init__(self, who: Callable[[Request], UserIdentity], made: Callable[[], Awaitable[Served]]) -> None:
        self._who, self._made = who, made

    def who(self, request: Request) -> UserIdentity:
        """Raises Unauthorized or Forbidden."""
        return self._who(request)

    async def handle(self, request: Request) -> Response | Upgrade:
        """The answer to one request; nothing is raised."""
        return await (await self._made()).handle(request)
