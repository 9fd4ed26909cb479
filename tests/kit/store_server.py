"""One memory store for several processes, over a unix socket, for tests of processes that share a store.

python -m tests.kit.store_server PATH        # says "ready"
store = await SharedStore.open(path)          # the contract of kubeedge.store.model, as far as relays use it
"""

from __future__ import annotations

import asyncio
import pickle
import struct
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from kubeedge.errors import Unavailable
from kubeedge.store.memory import MemoryStore
from kubeedge.store.model import WatchBatch


async def _read(reader: asyncio.StreamReader) -> Any:
    (length,) = struct.unpack("!I", await reader.readexactly(4))
    return pickle.loads(await reader.readexactly(length))


def _frame(value: Any) -> bytes:
    data = pickle.dumps(value)
    return struct.pack("!I", len(data)) + data


class SharedStore:
    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    async def open(cls, path: Path) -> SharedStore:
        return cls(path)

    async def _call(self, method: str, *args: Any, **options: Any) -> Any:
        try:
            reader, writer = await asyncio.open_unix_connection(self._path)
        except OSError as exc:
            raise Unavailable(f"the store: {exc}") from exc
        try:
            writer.write(_frame((method, args, options)))
            answer = await _read(reader)
        except (OSError, asyncio.IncompleteReadError) as exc:
            raise Unavailable(f"the store: {exc}") from exc
        finally:
            writer.close()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def __getattr__(self, method: str) -> Any:
        async def call(*args: Any, **options: Any) -> Any:
            return await self._call(method, *args, **options)

        return call

    async def watch(self, prefix: str, *, after: int, progress: bool = False) -> AsyncGenerator[WatchBatch, None]:
        reader, writer = await asyncio.open_unix_connection(self._path)
        try:
            writer.write(_frame(("watch", (prefix,), {"after": after})))
            while True:
                yield await _read(reader)
        except (OSError, asyncio.IncompleteReadError) as exc:
            raise Unavailable(f"the store: {exc}") from exc
        finally:
            writer.close()


async def main(path: str) -> None:
    store = MemoryStore()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            method, args, options = await _read(reader)
            if method == "watch":
                async for batch in store.watch(*args, **options):
                    writer.write(_frame(batch))
                    await writer.drain()
            try:
                answer = await getattr(store, method)(*args, **options)
            except Exception as exc:
                answer = exc
            writer.write(_frame(answer))
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_unix_server(serve, path)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
