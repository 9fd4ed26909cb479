"""Rules of one tenant whose names, authorities and messages are made to cost the cloud, and so the others."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from kubeedge.api import keys, node_messages
from kubeedge.api.node_messages import MessageBlock, NodeMessage
from kubeedge.api.rules import RULEENDPOINTS, RestTarget
from kubeedge.errors import Unavailable
from kubeedge_cloud.rules import driver, lookups
from kubeedge_cloud.rules.core import MessageRoute
from kubeedge_cloud.rules.delivery import RuleDelivery
from kubeedge_cloud.rules.lookups import RuleLookups
from tests.kit.certs import TestAuthority
from tests.unit.devices.modules import WITHIN, until
from tests.unit.devices.test_rest_rules import LOOPBACK, Target, World, begun, message
from tests.unit.devices.test_rules import endpoint
from tests.unit.devices.test_upstream import NODE, TENANT


def delivery(where: RestTarget, of_tenant: RuleLookups, secret: dict[str, bytes] | None = None) -> RuleDelivery:
    async def secret_of() -> dict[str, bytes]:
        return secret or {}

    return RuleDelivery(MessageRoute(("default", "a"), "u", NODE, "default/a", where), LOOPBACK, secret_of, of_tenant)


def test_names_that_are_never_found_hold_up_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    real, asked = socket.getaddrinfo, []

    def slow(host: Any, *arguments: Any, **more: Any) -> Any:
        if host == "never.example":
            asked.append(host)
            released.wait(60)
            raise socket.gaierror("never")
        return real(host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", slow)

    async def scenario() -> None:
        one, other = RuleLookups(), RuleLookups()
        target = Target()
        async with target.listening():
            waiting = [
                asyncio.create_task(delivery(RestTarget(False, "never.example", 80, "/"), one).deliver(message()))
                for _ in range(16)
            ]
            await until(lambda: bool(asked))
            begin = time.monotonic()
            quick = delivery(RestTarget(False, "localhost", target.port, "/"), other)
            await quick.deliver(message())
            quick.close()
            await asyncio.to_thread(time.sleep, 0)  # what all of the process use
            assert time.monotonic() - begin < 5
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            again = asyncio.create_task(one.addresses("never.example", 80))
            await asyncio.sleep(0.1)
            assert len(asked) == 2, "threads that nobody waits for count still"
            released.set()
            with pytest.raises(Unavailable):
                await again
            assert await one.addresses("127.0.0.1", 80) == ["127.0.0.1"]

    try:
        asyncio.run(asyncio.wait_for(scenario(), 30))
    finally:
        released.set()


def test_authorities_are_read_once_and_not_by_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = TestAuthority(tmp_path)
    made = authority.issue("target", hosts=["localhost"])
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(made.cert, made.key)
    real, threads = ssl.create_default_context, []

    def counted(**more: Any) -> ssl.SSLContext:
        threads.append(threading.current_thread())
        return real(**more)

    monkeypatch.setattr(ssl, "create_default_context", counted)
    monkeypatch.setattr(lookups, "_system", None)

    async def scenario() -> None:
        target = Target(serving)
        async with target.listening():
            where, secret = RestTarget(True, "localhost", target.port, "/"), {"ca.crt": authority.ca.read_bytes()}
            one = delivery(where, RuleLookups(), secret)
            for n in range(5):
                await one.deliver(message())
                one.close()  # as if the endpoint had closed the connection
                assert len(target.got) == n + 1
            assert len(threads) == 1
            for _ in range(3):
                with pytest.raises(Unavailable, match="certificate"):
                    await delivery(where, RuleLookups()).deliver(message())
            assert len(threads) == 2 and threading.main_thread() not in threads
            large = delivery(where, RuleLookups(), {"ca.crt": secret["ca.crt"] * 1000})
            with pytest.raises(Unavailable, match="larger than"):
                await large.deliver(message())
            assert len(threads) == 2

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_a_flood_of_small_messages_is_decoded_a_few_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, decoded = node_messages.decode, []

    def counted(row: bytes) -> MessageBlock:
        decoded.append(len(row))
        return real(row)

    async def scenario() -> None:
        world = World(tmp_path)
        await world.made()
        async with world.target.listening(), world.cloud():
            await world.rule("plant", "bus", topic="plant/+", node_name=NODE)
            await begun(world, "plant")
            monkeypatch.setattr(node_messages, "decode", counted)
            for block in range(4):
                first = block * 256 + 1
                messages = [NodeMessage(first + n, 1, "a/user/b", b"x") for n in range(255)]
                messages.append(NodeMessage(first + 255, 1, "default/plant/1", b"last"))
                row = node_messages.encode(MessageBlock("q", messages, first))
                await world.store.put(keys.message_log(TENANT, NODE) + node_messages.name_of(first), row)
                await until(lambda: len(world.target.got) == block + 1)  # noqa: B023
            assert len(decoded) < 5 * 4, "16 times each, when 16 messages are read at once"
        await world.store.close()

    asyncio.run(scenario())


def test_what_waits_for_a_rule_outlives_its_endpoint_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `kubectl replace --force` does it, also while another process takes over."""

    async def scenario() -> None:
        world = World(tmp_path)
        await world.made()
        async with world.target.listening():
            pass
        block = MessageBlock("q", [NodeMessage(1, 1, "default/plant/1", b"waits")], 1)

        async def reading() -> set[str]:
            return set(await world.log.readers(NODE))

        async with world.cloud():
            await world.rule("plant", "bus", topic="plant/+", node_name=NODE)
            await begun(world, "plant")
            names = await reading()
            await world.store.put(
                keys.message_log(TENANT, NODE) + node_messages.name_of(1), node_messages.encode(block)
            )
            await world.says("plant", lambda status: "message 1 waits" in str(status.get("errors")))
            await world.api.delete(RULEENDPOINTS, "default", "rest")
            await world.says("plant", lambda status: "there is no RuleEndpoint rest" in str(status.get("errors")))
            assert await reading() == names
        async with world.cloud(), world.target.listening():
            await asyncio.sleep(0.1)
            assert await reading() == names
            await world.api.create(RULEENDPOINTS, "default", endpoint("rest", "rest"))
            await until(lambda: world.target.got == [("POST", "/in/plant", b"waits")])
            monkeypatch.setattr(driver, "_GRACE", 0.2)
            await world.api.delete(RULEENDPOINTS, "default", "rest")
            async with asyncio.timeout(WITHIN):
                while await reading():
                    await asyncio.sleep(0.02)
        await world.store.close()

    asyncio.run(scenario())
