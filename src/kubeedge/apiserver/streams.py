"""A response body that owns something (the slot of a watch, a connection) and gives it back however it ends."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable


class OwnedStream:
    """Iterates `source`; calls `release` once: at the end, on an error, or on aclose.

    A generator's own `finally` is not enough: it does not run when the client went away before the first item.
    """

    def __init__(self, source: AsyncGenerator[bytes, None], release: Callable[[], None]) -> None:
        self._source = source
        self._release: Callable[[], None] | None = release

    def on_end(self, release: Callable[[], None]) -> None:
        """Another one that hears of the end, after the first."""
        first = self._release

        def both() -> None:
            try:
                if first is not None:
                    first()
            finally:
                release()

        self._release = both

    def __aiter__(self) -> OwnedStream:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._source)
        except BaseException:
            self._done()
            raise

    async def aclose(self) -> None:
        """Closes the source, then gives back what the body owns, even if closing fails."""
        try:
            await self._source.aclose()
        finally:
            self._done()

    def _done(self) -> None:
        release, self._release = self._release, None
        if release is not None:
            release()
