"""DMI where a mapper does not wait, or a node has many devices: nobody else waits, and nothing is left half done."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kubeedge.api import keys
from kubeedge.api.names import NamespacedName
from kubeedge.api.protobuf import encode, parsed
from kubeedge.devices.core import Device
from kubeedge.devices.dmi import messages as dmi
from kubeedge.devices.dmi.module import DeviceMappers
from kubeedge.devices.dmi.table import TABLE
from kubeedge.devices.module import DeviceTwins
from kubeedge.kit.grpc import GrpcChannel
from kubeedge.kit.grpc_server import GrpcServer
from kubeedge.store.model import Store
from kubeedge.store.sqlite import open_sqlite
from tests.unit.devices.modules import running, until

TYPES = parsed(TABLE)


class Peer:
    """The mapper's own server, which takes everything."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    async def asked(self, method: str, message: bytes) -> bytes:
        self.calls[method.rpartition("/")[2]] += 1
        return b""


@asynccontextmanager
async def a_node(devices: int) -> AsyncIterator[tuple[Store, DeviceMappers, Path, Peer]]:
    with tempfile.TemporaryDirectory() as made:  # pytest's own paths are too long for a socket
        store, peer = await open_sqlite(Path(made) / "edge.db"), Peer()
        value = {"generation": 1, "protocol": {"protocolName": "acme"}, "properties": {"t": {"type": "INT"}}}
        for number in range(devices):
            row = json.dumps({**value, "metadata": {"uid": f"u{number}"}}).encode()
            await store.put(keys.desired("devices", "default", f"d{number}"), row)
        twins = DeviceTwins(store, wall=lambda: 1_790_000_000.0)
        mappers = DeviceMappers(twins, store, Path(made) / "dmi.sock")
        serving = asyncio.create_task(GrpcServer(peer.asked).run(Path(made) / "own.sock", lambda: None))
        try:
            async with running(twins, mappers):
                yield store, mappers, Path(made), peer
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            await store.close()


def registering(directory: Path) -> bytes:
    info = {"name": "m", "protocol": "acme", "address": str(directory / "own.sock").encode()}
    return encode(TYPES, "MapperRegisterRequest", {"withData": True, "mapper": info})


async def register(directory: Path, timeout: float = 60.0) -> None:
    channel = GrpcChannel(directory / "dmi.sock")
    try:
        await channel.call("/v1beta1.DeviceManagerService/MapperRegister", registering(directory), timeout)
    finally:
        await channel.close()


@pytest.mark.parametrize("devices", [60, 200], ids=["few enough for the answer", "many"])
def test_devices_of_a_mapper_that_registers_are_described_one_at_a_time(
    devices: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes milliseconds, and a node may have a thousand: nothing else of the agent would go on meanwhile."""
    turn, described = 0, Counter[int]()
    real = dmi.described

    def counted(key: NamespacedName, device: Device) -> dmi.DeviceMessages:
        described[turn] += 1
        return real(key, device)

    monkeypatch.setattr(dmi, "described", counted)

    async def turning() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    async def inside() -> None:
        async with a_node(devices) as (_, _, directory, peer):
            clock = asyncio.create_task(turning())
            await register(directory)
            await until(lambda: peer.calls["RegisterDevice"] == devices)
            clock.cancel()

    asyncio.run(inside())
    assert max(described.values()) < 8, described.most_common(3)


def test_a_mapper_that_does_not_wait_for_its_registration_has_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does so once, and has what an earlier registration gave it: it would never hear of its devices again."""

    async def inside() -> None:
        async with a_node(1) as (store, _, directory, peer):
            await register(directory)
            await until(lambda: peer.calls["RegisterDevice"] == 1)
            real, slow = store.put, asyncio.Event()

            async def put(key: str, value: bytes) -> int:
                slow.set()
                await asyncio.sleep(0.3)
                return await real(key, value)

            monkeypatch.setattr(store, "put", put)
            again = asyncio.create_task(register(directory))
            await slow.wait()
            again.cancel()
            await asyncio.gather(again, return_exceptions=True)
            await until(lambda: peer.calls["RegisterDevice"] == 2)

    asyncio.run(inside())
