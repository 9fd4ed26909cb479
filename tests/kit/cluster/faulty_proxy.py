"""An API server that is slow, loses its history or hangs up: TLS on loopback before a real one, which a test leads a cloud through.

    python -m tests.kit.cluster.faulty_proxy '{"listen": 7000, "cert": ..., "key": ..., "ca": ..., "server": [host, port], "mode": FILE}'

FILE holds "" (all passes), "slow 5" (seconds before each answer), "expired" (each watch that goes on from a version gets 410, as after a
compaction) or "away" (each connection is closed); it is read for each request, and watches that are open end when it changes: they last for minutes
otherwise. Counts of requests are written to FILE.counts as JSON: "lists", "expired", "all". Credentials must be a token: a certificate of the client
ends here.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from kubeedge.api import status
from kubeedge.kit.http1 import (
    ClientGone,
    ClientResponse,
    Connection,
    Request,
    Response,
    json_response,
    serve_connection,
)

_HOP = ("connection", "transfer-encoding", "keep-alive")


class FaultyProxy:
    def __init__(self, config: dict[str, Any]) -> None:
        self._mode = Path(config["mode"])
        self._server: tuple[str, int] = (config["server"][0], config["server"][1])
        self._upstream = ssl.create_default_context(cafile=config["ca"])
        self._counts: Counter[str] = Counter()
        self._watches: set[Connection] = set()

    async def follow(self) -> None:
        """A changed mode is every request's, those that are watches for minutes too."""
        before = self._words()
        while True:
            await asyncio.sleep(0.1)
            words = self._words()
            if words != before:
                before = words
                for connection in tuple(self._watches):
                    connection.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._words() == ["away"]:
            writer.transport.abort()
            return
        await serve_connection(reader, writer, self._answer)

    def _words(self) -> list[str]:
        return self._mode.read_text().split()

    async def _answer(self, request: Request) -> Response:
        words = self._words()
        watches, begins = "watch=true" in request.target, "sendInitialEvents=true" in request.target
        is_list = begins or (request.method == "GET" and not watches and "limit=" in request.target)
        expires = words == ["expired"] and watches and not begins
        self._counts.update(["all", *(["lists"] if is_list else []), *(["expired"] if expires else [])])
        self._tell()
        if words == ["away"]:
            raise ClientGone
        if words[:1] == ["slow"]:
            await asyncio.sleep(float(words[1]))
        if expires:
            return json_response(410, status.failure(410, "Expired", "too old resource version", {}))
        return await self._passed(request, watches)

    def _tell(self) -> None:
        """Whole at any time: who reads it may come in between."""
        new = Path(f"{self._mode}.counts.new")
        new.write_text(json.dumps(self._counts))
        new.replace(f"{self._mode}.counts")

    async def _passed(self, request: Request, watches: bool) -> Response:
        body = await request.read(16 * 1024 * 1024)
        streams = await asyncio.open_connection(*self._server, ssl=self._upstream)
        connection = Connection(*streams)
        if watches:
            self._watches.add(connection)
        headers = [pair for pair in request.headers if pair[0] not in (*_HOP, "content-length")]
        answer = await connection.request(request.method, request.target, headers, body)
        returned = [pair for pair in answer.headers if pair[0] not in _HOP]
        return Response(answer.status, returned, self._stream(connection, answer))

    async def _stream(self, connection: Connection, answer: ClientResponse) -> AsyncGenerator[bytes, None]:
        try:
            async for chunk in answer.stream():
                yield chunk
        finally:
            self._watches.discard(connection)
            connection.abort()


async def main(config: dict[str, Any]) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(config["cert"], config["key"])
    proxy = FaultyProxy(config)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", config["listen"], ssl=context)
    print("ready", flush=True)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(proxy.follow(), name="mode")
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
