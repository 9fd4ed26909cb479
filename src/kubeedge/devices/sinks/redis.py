"""Values into Redis: a sorted set for each device, as KubeEdge's mappers make it. Its protocol is RESP (version 2), of which we need three answers.

A member of a set is a value's JSON with its id in it, so a value that came twice is there once.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

from kubeedge.devices.sinks import formats
from kubeedge.devices.sinks.core import Destination, PushedValue, ValueRefused
from kubeedge.devices.sinks.sender import SenderSettings, connected
from kubeedge.errors import PeerError, Unavailable
from kubeedge.kit.streams import abort_writer

_MAX_LINE = 4096  # bytes of an answer
_WRONG_TYPE = "WRONGTYPE"  # the key has something else: so it will be tomorrow


def command(*words: str) -> bytes:
    """A command as an array of bulk strings."""
    encoded = [word.encode("utf-8", "replace") for word in words]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded)


class RedisSender:
    """Commands go out together; answers come in their order."""

    def __init__(self, destination: Destination, settings: SenderSettings) -> None:
        self._destination, self._settings = destination, settings
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def deliver(self, values: Sequence[PushedValue], taken: list[PushedValue]) -> None:
        """A ZADD for each value."""
        try:
            async with asyncio.timeout(self._destination.timeout):
                await self._deliver(values, taken)
        except ValueRefused:
            raise
        except BaseException:
            await self.close()
            raise

    async def _deliver(self, values: Sequence[PushedValue], taken: list[PushedValue]) -> None:
        reader, writer = await self._connected()
        for value in values:
            member = json.dumps(formats.model(self._settings.queue, value), separators=(",", ":"), ensure_ascii=False)
            writer.write(command("ZADD", value.device, str(value.time), member))
        await writer.drain()
        refused = failed = ""
        for value in values:
            error = await _answer(reader)
            if not error:
                taken.append(value)
            elif error.startswith(_WRONG_TYPE):
                refused = error
            else:
                failed = error
        if failed:
            raise Unavailable(f"{self._destination.endpoint}: {failed}")
        if refused:
            raise ValueRefused(f"{self._destination.endpoint}: {refused}")

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None or self._streams[0].at_eof():
            await self.close()
            own = await self._settings.credentials(self._destination)
            self._streams = reader, writer = await connected(self._destination, own)
            hello = []
            if own.password:
                hello.append(("AUTH", *([own.user] if own.user else []), own.password))
            if self._destination.settings["db"]:
                hello.append(("SELECT", str(self._destination.settings["db"])))
            for words in hello:
                writer.write(command(*words))
                if error := await _answer(reader):
                    raise Unavailable(f"{self._destination.endpoint} refuses {words[0]}: {error}")
        return self._streams

    async def close(self) -> None:
        """Cuts the connection, if there is one."""
        streams, self._streams = self._streams, None
        if streams is not None:
            abort_writer(streams[1])


async def _answer(reader: asyncio.StreamReader) -> str:
    """ "" for a success, else the error. Raises PeerError for what is no answer to our commands."""
    try:
        line = await reader.readuntil(b"\n")
    except asyncio.LimitOverrunError as exc:
        raise PeerError("an answer without an end") from exc
    if len(line) > _MAX_LINE or not line.endswith(b"\r\n") or line[:1] not in b"+-:":
        raise PeerError("the answer is none of Redis' to these commands")
    return line[1:-2].decode("utf-8", "replace")[:200] if line[:1] == b"-" else ""
