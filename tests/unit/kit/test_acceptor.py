"""The accept loop with real sockets on loopback: who is served, who waits, who is closed."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Coroutine
from typing import Any

from kubeedge.kit.acceptor import Accepted, Acceptor, in_tasks
from kubeedge.kit.connection_limiter import ConnectionLimits, Refusal
from kubeedge.kit.streams import listening_socket
from kubeedge.kit.tasks import TaskSet
from kubeedge.kit.tcp import silence
from tests.kit import virtual_time


class Running:
    def __init__(self, limits: ConnectionLimits) -> None:
        self.begun: list[Accepted] = []
        self.refused: list[Refusal] = []
        self.listener = listening_socket("127.0.0.1", 0)
        self.acceptor = Acceptor(limits, self.begun.append, refused=self._refused)

    def _refused(self, connection: socket.socket, reason: Refusal) -> None:
        self.refused.append(reason)
        connection.close()

    def connect(self, *, says: bytes = b"x") -> socket.socket:
        client = socket.create_connection(self.listener.getsockname())
        client.sendall(says)
        return client

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.005)


def accepting(limits: ConnectionLimits, scenario: Callable[[Running], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        running = Running(limits)
        with running.listener:
            task = asyncio.create_task(running.acceptor.run([running.listener]))
            try:
                await scenario(running)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                for accepted in running.begun:
                    accepted.socket.close()

    asyncio.run(run())


def test_who_says_nothing_is_not_served_and_hears_the_end() -> None:
    async def scenario(running: Running) -> None:
        silent, speaks = running.connect(says=b""), running.connect()
        with silent, speaks:
            await running.until(lambda: len(running.begun) == 1)
            assert running.begun[0].socket.getpeername() == speaks.getsockname()
            assert len(running.acceptor.limiter.silent) == 1
            await running.until(lambda: running.refused == [Refusal.SILENT])
            assert silent.recv(1) == b""

    accepting(ConnectionLimits(first_byte=0.2), scenario)


def test_a_connection_that_ends_without_data_is_never_served() -> None:
    async def scenario(running: Running) -> None:
        silent = [running.connect(says=b"") for _ in range(50)]
        await running.until(lambda: len(running.acceptor.limiter.silent) == 50)
        for client in silent[:25]:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
        for client in silent:
            client.close()
        await running.until(lambda: not running.acceptor.limiter.silent)
        with running.connect() as speaks:
            await running.until(lambda: bool(running.begun))
            assert [accepted.socket.getpeername() for accepted in running.begun] == [speaks.getsockname()]
        assert not running.refused

    accepting(ConnectionLimits(), scenario)


def test_the_second_write_of_an_answer_does_not_wait_for_the_acknowledgement_of_the_first() -> None:
    async def scenario(running: Running) -> None:
        with running.connect():
            await running.until(lambda: len(running.begun) == 1)
            assert running.begun[0].socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    accepting(ConnectionLimits(), scenario)


def test_who_waits_is_served_when_another_leaves_or_is_known() -> None:
    async def scenario(running: Running) -> None:
        clients = [running.connect() for _ in range(4)]
        try:
            await running.until(lambda: len(running.begun) == 1 and len(running.acceptor.limiter.queued) == 3)
            assert running.begun[0].authenticated("t", "t/n") is None
            assert len(running.begun) == 2
            assert running.begun[1].authenticated("t", "t/n") is Refusal.IDENTITY
            assert len(running.begun) == 3
            running.begun[2].ended()
            running.begun[2].ended()
            assert len(running.begun) == 4 and running.begun[3].authenticated("t", "t/m") is None
        finally:
            for client in clients:
                client.close()

    accepting(ConnectionLimits(unauthenticated=1, per_identity=1), scenario)


def test_one_that_stalls_is_cut_for_one_that_waits_and_its_task_ends() -> None:
    async def run() -> None:
        served: list[str] = []

        async def serve(accepted: Accepted) -> None:
            try:
                data = await asyncio.get_running_loop().sock_recv(accepted.socket, 10)
                served.append(data.decode())
                if data == b"stalls":
                    await asyncio.get_running_loop().sock_recv(accepted.socket, 10)
            finally:
                accepted.socket.close()

        with listening_socket("127.0.0.1", 0) as listener:
            async with TaskSet("connections") as tasks:
                acceptor = Acceptor(
                    ConnectionLimits(unauthenticated=1, stall=0.2), in_tasks(tasks, serve, "connection")
                )
                running = asyncio.create_task(acceptor.run([listener]))
                with socket.create_connection(listener.getsockname()) as one:
                    one.sendall(b"stalls")
                    with socket.create_connection(listener.getsockname()) as two:
                        two.sendall(b"valid")
                        async with asyncio.timeout(10):
                            while len(served) < 2:
                                await asyncio.sleep(0.01)
                        assert one.recv(1) == b""
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
        assert served == ["stalls", "valid"]

    asyncio.run(run())


def test_listeners_come_and_go_while_it_runs() -> None:
    async def scenario(running: Running) -> None:
        one = listening_socket("127.0.0.1", 0)
        running.acceptor.add(one)
        with socket.create_connection(one.getsockname()) as client:
            client.sendall(b"x")
            await running.until(lambda: len(running.begun) == 1)
        number = one.fileno()
        running.acceptor.remove(one)
        running.acceptor.remove(one)
        one.close()
        with listening_socket("127.0.0.1", 0) as two:
            assert two.fileno() == number  # the lowest that is free
            running.acceptor.add(two)
            for _ in range(2):
                with socket.create_connection(two.getsockname()) as client:
                    client.sendall(b"x")
                    begun = len(running.begun)
                    await running.until(lambda begun=begun: len(running.begun) == begun + 1)  # type: ignore[misc]
            running.acceptor.remove(two)
        with running.connect():  # the one of the beginning is served still
            await running.until(lambda: len(running.begun) == 4)

    accepting(ConnectionLimits(), scenario)


def test_a_listener_that_is_added_before_the_beginning_is_served() -> None:
    async def run() -> None:
        begun: list[Accepted] = []
        acceptor = Acceptor(ConnectionLimits(), begun.append)
        with listening_socket("127.0.0.1", 0) as early, listening_socket("127.0.0.1", 0) as withdrawn:
            acceptor.add(early)
            acceptor.add(withdrawn)
            acceptor.remove(withdrawn)
            running = asyncio.create_task(acceptor.run())
            with socket.create_connection(early.getsockname()) as client:
                client.sendall(b"x")
                async with asyncio.timeout(10):
                    while not begun:
                        await asyncio.sleep(0.005)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            begun[0].socket.close()

    asyncio.run(run())


def test_what_waits_for_us_to_read_it_is_no_silence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with socket.create_connection(listener.getsockname()) as client:
            server, _ = listener.accept()
            with server:
                client.sendall(b"x")
                server.settimeout(5)
                server.recv(1, socket.MSG_PEEK)
                assert silence(server) == 0.0
        assert silence(server) == 0.0  # closed


def test_the_owner_of_a_connection_has_its_share_and_who_is_nobody_is_closed_at_once() -> None:
    async def run() -> None:
        begun: list[Accepted] = []
        owners = {"127.0.0.1": "a", "127.0.0.2": "a", "127.0.0.3": "b", "127.0.0.4": None}
        limits = ConnectionLimits(silent=0, queued=0, displace=False, unauthenticated=4, per_address=2)
        acceptor = Acceptor(limits, begun.append, owner=lambda connection, address: owners[address])
        with listening_socket("127.0.0.1", 0) as listener:
            running = asyncio.create_task(acceptor.run([listener]))
            where, clients = listener.getsockname()[:2], []
            try:
                for address in ("127.0.0.4", "127.0.0.1", "127.0.0.2", "127.0.0.1", "127.0.0.3"):
                    clients.append(socket.create_connection(where, source_address=(address, 0)))
                async with asyncio.timeout(10):
                    while len(begun) < 3:
                        await asyncio.sleep(0.005)
                assert [(one.owner, one.address) for one in begun] == [
                    ("a", "127.0.0.1"), ("a", "127.0.0.2"), ("b", "127.0.0.3"),
                ]  # fmt: skip
                assert (clients[0].recv(1), clients[3].recv(1)) == (b"", b"")
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
                for client in [*clients, *(one.socket for one in begun)]:
                    client.close()

    asyncio.run(run())


def test_a_listener_without_connections_sleeps() -> None:
    """An agent has five of them or more: a tick of each twice a second was what woke an idle machine."""
    ticks: list[float] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        begun: list[Accepted] = []
        with listening_socket("127.0.0.1", 0) as listener:
            acceptor = Acceptor(ConnectionLimits(first_byte=10.0), begun.append)
            tick = acceptor.limiter.tick
            acceptor.limiter.tick = lambda now, owes: ticks.append(now) or tick(now, owes)  # type: ignore[method-assign, func-returns-value]
            running = asyncio.create_task(acceptor.run())
            await asyncio.sleep(3600)
            assert not ticks
            came = loop.time()
            with socket.create_connection(listener.getsockname()) as client:
                acceptor.enter(listener.accept()[0])
                await asyncio.sleep(3600)
                assert not acceptor.limiter.silent and client.recv(1) == b""
            assert 10 <= ticks[-1] - came <= 11 and len(ticks) <= 21, ticks
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    virtual_time.run(scenario())
