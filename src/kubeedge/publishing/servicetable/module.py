"""Module "servicetable": keeps the table of web services (core.py) as the store has it.

It reads what the table needs and nothing else: other keys of the store are Secrets of pods.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing

from kubeedge.store.model import Store
from kubeedge.store.reflector import PrefixView, follow_view


class ServiceFeed:
    """`apply(key, value)` is called for each key below `prefixes`: with what is there first, then with each change; None: deleted."""

    name = "servicetable"

    def __init__(self, store: Store, prefixes: Sequence[str], apply: Callable[[str, bytes | None], None]) -> None:
        self._views = [PrefixView(store, prefix, keep=bytes) for prefix in prefixes]  # kept over restarts of the module
        self._apply = apply

    async def run(self, ready: asyncio.Event) -> None:
        """Ready when every view has been listed, so that a service that exists is not answered with "not found"."""
        firsts = [asyncio.Event() for _ in self._views]
        async with asyncio.TaskGroup() as tasks:
            for view, first in zip(self._views, firsts, strict=True):
                tasks.create_task(self._follow(view, first), name="web services")
            for first in firsts:
                await first.wait()
            ready.set()

    async def _follow(self, view: PrefixView[bytes], first: asyncio.Event) -> None:
        async with aclosing(follow_view(view)) as steps:
            async for changed in steps:
                for key in sorted(changed):
                    self._apply(key, view.values.get(key))
                first.set()
