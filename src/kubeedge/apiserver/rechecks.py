"""Requests that last: whoever opened one is looked at again while it is open.

A watch, a log or a session was let in once and may last for a day. Kubernetes lets it go on when its credential expires, or a right is taken away;
here the machine that had the credential may have been replaced, so it ends as the next request would.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from kubeedge.api.access import Attributes
from kubeedge.api.status import Forbidden, Unauthorized
from kubeedge.errors import KubeEdgeError
from kubeedge.pki.identity import UserIdentity

EVERY = 30.0  # seconds

log = logging.getLogger("kubeedge.apiserver")


class Rechecks:
    """`check` raises Unauthorized for who has no access any more, Forbidden for who may not ask that any more; after any other failure, of the
    store for example, the request goes on."""

    def __init__(self, check: Callable[[UserIdentity, Attributes], Awaitable[None]]) -> None:
        self._check = check

    def begin(self, who: UserIdentity, asked: Attributes) -> Callable[[], object]:
        """Of a request of the current task, which is cancelled when its time has come. Call the result when the request is over."""
        task = asyncio.current_task()
        assert task is not None
        return asyncio.create_task(self._again_and_again(who, asked, task), name="who has a request that lasts").cancel

    async def _again_and_again(self, who: UserIdentity, asked: Attributes, task: asyncio.Task[Any]) -> None:
        while True:
            await asyncio.sleep(EVERY)
            try:
                await self._check(who, asked)
            except (Unauthorized, Forbidden) as exc:
                log.info("a request that lasts ends tenant=%s user=%s: %s", who.tenant, who.user, exc)
                task.cancel()
                return
            except KubeEdgeError as exc:
                log.debug("whether %s still has access is not known: %s", who.user, exc)
