"""Runs the loop that core.py decides, over a source that takes in what it reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Protocol, TypeVar

from kubeedge.errors import Gone, Unavailable
from kubeedge.kit.reflector.core import Reflector

P = TypeVar("P")


class ListerWatcher(Protocol[P]):
    """A collection that can be listed and watched, together with the view that is kept of it."""

    async def list(self) -> P:
        """Read everything and take it in; the position at which it was read. Raises Gone: begin again."""
        ...

    def watch(self, position: P) -> AsyncGenerator[P, None]:
        """Take in what changes after the position; yields the position after each step. Raises Gone: list again."""
        ...


async def reflect(
    source: ListerWatcher[P],
    *,
    core: Reflector[P] | None = None,
    resumes: bool = False,
    transient: tuple[type[Exception], ...] = (),
    relists: Callable[[Exception], bool] = lambda exc: False,
    on_error: Callable[[Exception, float], None] = lambda exc, delay: None,
) -> AsyncGenerator[P, None]:
    """Yields after the first list and after each step of the watch, with the position that was reached.

    `resumes`: a watch that ends is begun again; otherwise its end is the end (a store that was closed). Errors in `transient` are told to
    `on_error` with the seconds to wait, and tried again, with a list
    first where `relists` says so; all others are raised.
    """
    core = core or Reflector[P]()
    while True:
        try:
            if core.position is None:
                position = await source.list()
                core.listed(position)
                yield position
            async with aclosing(source.watch(position)) as steps:
                async for position in steps:
                    core.moved(position)
                    yield position
            if not resumes:
                return
            delay = core.ended()
        except Gone:
            delay = core.expired()
        except transient as exc:
            delay = core.failed(exc.retry_after if isinstance(exc, Unavailable) else None, lists=relists(exc))
            on_error(exc, delay)
        await asyncio.sleep(delay)
