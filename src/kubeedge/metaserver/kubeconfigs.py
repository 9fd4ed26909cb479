"""Which kubeconfigs of the tenant open the node's own API: the list that the cloud sends down, online or offline.

A node decides alone: it knows what the cloud knew when they last spoke. Without a list (a cloud of an earlier version) every certificate of
a user of the tenant does.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import aclosing

from kubeedge.api import keys
from kubeedge.api.status import Unauthorized
from kubeedge.store.model import Store
from kubeedge.store.reflector import reflect

_VALID = "valid"
_KEY = keys.desired("kubeconfigs", "", _VALID)


class AllowedKubeconfigs:
    """Read from the store at each request; `follow` ends the connections of what is revoked."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._ended: Callable[[str], None] = lambda id: None

    def on_ended(self, listener: Callable[[str], None]) -> None:
        """Called with the id of each kubeconfig that opens nothing any more ("": of an earlier version)."""
        self._ended = listener

    async def check(self, id: str) -> None:
        """Raises Unauthorized for a kubeconfig that is not in the list."""
        kv = await self._store.get(_KEY)
        valid = _decode(kv.value) if kv is not None else None
        if valid is not None and id not in valid:
            raise Unauthorized("Unauthorized: this kubeconfig is revoked, or not known here")

    async def follow(self) -> None:
        """Follow the store until cancelled."""
        before: frozenset[str] | None = None
        async with aclosing(reflect(self._store, _KEY)) as changes:
            async for values, _ in changes:
                now = _decode(values[_KEY]) if _KEY in values else None
                for id in (before or frozenset()) - now if now is not None else ():
                    self._ended(id)
                before = now


def _decode(value: bytes) -> frozenset[str]:
    """What is no list opens nothing."""
    try:
        return frozenset(str(id) for id in json.loads(value)[_VALID])
    except (ValueError, TypeError, KeyError):
        return frozenset()
