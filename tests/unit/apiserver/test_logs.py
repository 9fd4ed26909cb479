"""pods/log against a node that answers over real streams, well and badly."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from kubeedge.api.names import NodeName, TenantId
from kubeedge.api.resources import PODS
from kubeedge.apiserver.registry import Registry
from kubeedge.apiserver.server import ApiServer
from kubeedge.kit.http1 import Request, Response
from kubeedge.store.memory import MemoryStore

TENANT = TenantId("a")


class Node:
    """One end of a socket pair: `script` plays the node."""

    def __init__(
        self, script: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]
    ) -> None:
        self._script = script
        self._tasks: list[asyncio.Task[None]] = []

    async def stream(self, tenant: TenantId, node: NodeName) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        ours, theirs = socket.socketpair()

        async def play() -> None:
            reader, writer = await asyncio.open_connection(sock=theirs)
            try:
                await self._script(reader, writer)
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

        self._tasks.append(asyncio.create_task(play()))
        return await asyncio.open_connection(sock=ours)

    async def finished(self) -> None:
        await asyncio.wait_for(asyncio.gather(*self._tasks, return_exceptions=True), 60)


def asked(
    script: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]],
    check: Callable[[Response], Coroutine[Any, Any, None]],
    query: str = "",
    containers: tuple[str, ...] = ("main",),
) -> None:
    async def run() -> None:
        store = MemoryStore()
        registry = Registry(store, TENANT)
        node = Node(script)
        server = ApiServer({TENANT: registry}.get, node.stream)
        spec = {"nodeName": "edge1", "containers": [{"name": name, "image": "i"} for name in containers]}
        await registry.create(PODS, "default", {"metadata": {"name": "p"}, "spec": spec})

        async def empty() -> AsyncIterator[bytes]:
            return
            yield b""

        class Peer:
            def getpeercert(self) -> dict[str, Any]:
                return {"subjectAltName": (("URI", f"spiffe://kubeedge/tenant/{TENANT}/user/x"),)}

        target = f"/api/v1/namespaces/default/pods/p/log{query}"
        answer = await server.handle(Request("GET", target, [], lambda name: Peer(), empty()))
        try:
            await check(answer)
        finally:
            if not isinstance(answer.body, bytes):
                await answer.body.aclose()  # type: ignore[attr-defined]
        await node.finished()
        await store.close()

    asyncio.run(asyncio.wait_for(run(), 60))


def answering(data: bytes) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(data)
        await writer.drain()

    return script


async def collected(answer: Response) -> bytes:
    assert not isinstance(answer.body, bytes)
    return b"".join([chunk async for chunk in answer.body])


def test_the_nodes_lines_pass_through() -> None:
    async def check(answer: Response) -> None:
        assert answer.status == 200 and await collected(answer) == b"one\ntwo\n"

    asked(
        answering(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\none\n\r\n4\r\ntwo\n\r\n0\r\n\r\n"), check
    )


def test_the_node_is_asked_for_what_the_user_asked_for() -> None:
    heads: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    async def check(answer: Response) -> None:
        assert await collected(answer) == b""
        assert heads[0].startswith(
            b"GET /containerLogs/default/p/main?follow=true&tailLines=5&sinceSeconds=60 HTTP/1.1"
        )

    asked(script, check, "?tailLines=5&follow=true&sinceSeconds=60&pretty=true&container=main")


@pytest.mark.parametrize(
    ("answer", "code", "message"),
    [
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 15\r\n\r\nno such log yet", 404, "no such log yet"),
        (b'HTTP/1.1 400 Bad\r\ncontent-length: 21\r\n\r\n{"message":"previous"}'[:-1] + b"}", 400, "previous"),
        (b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n", 502, "node edge1 answered 500"),
        (b"SSH-2.0-dropbear\r\n\r\n", 504, "node edge1 cannot be reached"),
        (b"", 504, "node edge1 cannot be reached"),
    ],
)
def test_a_node_that_does_not_give_a_log_is_quoted(answer: bytes, code: int, message: str) -> None:
    async def check(response: Response) -> None:
        assert response.status == code and isinstance(response.body, bytes)
        found = json.loads(response.body)
        assert found["kind"] == "Status" and message in found["message"], found

    asked(answering(answer), check)


def test_a_follower_that_leaves_closes_the_nodes_stream() -> None:
    ended = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\none\n\r\n")
        assert await reader.read() == b""
        ended.set()

    async def check(answer: Response) -> None:
        assert not isinstance(answer.body, bytes)
        assert await anext(answer.body) == b"one\n"
        await answer.body.aclose()  # type: ignore[attr-defined]
        await asyncio.wait_for(ended.wait(), 60)

    asked(script, check, "?follow=true")


def test_a_stream_that_breaks_off_is_not_taken_for_the_end() -> None:
    async def check(answer: Response) -> None:
        with pytest.raises(Exception, match="incomplete|closed"):
            await collected(answer)

    asked(answering(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\none\n\r\n"), check)


def test_one_of_several_containers_has_to_be_named() -> None:
    async def unused(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise AssertionError("the node was asked")

    async def check(answer: Response) -> None:
        assert answer.status == 400 and isinstance(answer.body, bytes)
        assert b"a container name must be specified for pod p, choose one of: [one two]" in answer.body

    asked(unused, check, containers=("one", "two"))


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("?tailLines=-2", "tailLines: Invalid value: -2: must be greater than or equal to 0"),
        ("?limitBytes=0", "limitBytes: Invalid value: 0: must be greater than 0"),
        ("?limitBytes=-7&follow=true", "limitBytes: Invalid value: -7"),
        ("?sinceSeconds=0", "sinceSeconds: Invalid value: 0: must be greater than 0"),
        ("?sinceTime=yesterday", "sinceTime: Invalid value"),
        ("?sinceTime=2026-01-01T00:00:00Z&sinceSeconds=5", "at most one of"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_the_node_is_asked(query: str, words: str) -> None:
    """The node had said 200, and then broke the connection off."""

    async def check(answer: Response) -> None:
        assert answer.status == 422 and isinstance(answer.body, bytes) and words in json.loads(answer.body)["message"]

    asked(answering(b""), check, query)
