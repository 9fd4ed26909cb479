"""Links between the accept loop and their certificate."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from typing import Any, cast

import pytest

from kubeedge.kit.acceptor import Accepted, Acceptor
from kubeedge.kit.connection_limiter import ConnectionLimits
from kubeedge.kubebus.l3.plane import Plane, TlsContext
from kubeedge_cloud.bushub.accepted import AcceptedLinks
from tests.kit.descriptors import descriptors

LIMITS = ConnectionLimits(unauthenticated=10, authenticated=10, per_identity=10)


class FakePlane:
    """Takes descriptors, which the test closes; `full`: has none left for itself."""

    def __init__(self, *, full: bool = False) -> None:
        self.full = full
        self.descriptors: list[int] = []

    def add_link(self, descriptor: int, tls: object, *, congestion: str) -> int:
        if self.full:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        self.descriptors.append(descriptor)
        return 30


async def enter(plane: FakePlane) -> tuple[AcceptedLinks, Acceptor, socket.socket]:
    """A client's connection that has spoken."""
    links = AcceptedLinks(cast(Plane, plane), cast(TlsContext, None), LIMITS, congestion="")
    begun = asyncio.Event()

    def begin(accepted: Accepted) -> None:
        links._begin(accepted)
        begun.set()

    acceptor = Acceptor(LIMITS, begin)
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        connection, _ = server.accept()
    client.sendall(b"\x16")
    acceptor.enter(connection)
    async with asyncio.timeout(60):
        await begun.wait()
    client.settimeout(60.0)
    return links, acceptor, client


@pytest.mark.parametrize("where", ["dup", "plane"])
def test_a_link_for_which_there_is_no_descriptor_leaves_none_behind(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        if where == "dup":

            def dup(descriptor: int) -> int:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

            monkeypatch.setattr("kubeedge_cloud.bushub.accepted.os.dup", dup)
        failures: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: failures.append(context))
        before = descriptors()
        links, acceptor, client = await enter(FakePlane(full=True))
        with client:
            with contextlib.suppress(ConnectionResetError):  # what it said was not read
                assert client.recv(1) == b""
            assert not failures
            assert not acceptor._serving and not links.is_unauthenticated(30)
        assert not descriptors() - before

    asyncio.run(scenario())


def test_a_link_counts_by_its_certificate_and_its_early_frames_are_bounded() -> None:
    async def scenario() -> None:
        plane = FakePlane()
        links, acceptor, client = await enter(plane)
        with client:
            assert links.is_unauthenticated(30)
            for n in range(40):
                links.keep_early(30, b"%d" % n)
            assert links.authenticated(30, "t", "uri") is None and not links.is_unauthenticated(30)
            assert len(links.take_early(30)) == 16 and links.take_early(30) == []
            assert not links.closed(30) and not acceptor._serving
            for descriptor in plane.descriptors:
                os.close(descriptor)

    asyncio.run(scenario())


def test_a_link_that_ends_before_its_certificate_is_told_apart() -> None:
    async def scenario() -> None:
        plane = FakePlane()
        links, acceptor, client = await enter(plane)
        with client:
            assert links.closed(30) and not links.closed(30) and not acceptor._serving
            for descriptor in plane.descriptors:
                os.close(descriptor)

    asyncio.run(scenario())
